"""Contexts of a wanted length that say nothing: blurred images and made-up words, for measuring time and memory."""

from __future__ import annotations

from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING

from flowmm.errors import UsageError
from flowmm.hf.prompt import context_prompt
from flowmm.records import Part, Source

if TYPE_CHECKING:
    from flowmm.hf.loading import LoadedModel

_SIDE = 448  # pixels of an image; a common tile of vision towers
_NAMED = 16  # of so many words one is a name
_BLOTCHES = 16  # of different colour along a side


def filler(loaded: LoadedModel, tokens: int, seed: int = 0, *, images: bool = True) -> list[Part]:
    """Text and images in turn, as near to ``tokens`` as whole words get, the template's included.

    Half of the tokens are image tokens, rounded to whole images of equal size (at least one); a text-only model gets
    text alone, and so does any without ``images``.

    Raises:
        UsageError: one image and a little text are more than that.
    """
    random = Random(seed)
    pictures = []
    if images and loaded.processor is not None:
        first = _image(random)
        each = _length([first], loaded) - _length([_text("", 0)], loaded)
        pictures = [first, *(_image(random) for _ in range(round(tokens / 2 / each) - 1))]
    taken = _length(pictures or [_text("", 0)], loaded)
    pieces = max(1, len(pictures))
    if tokens - taken < pieces:
        raise UsageError(
            f"--tokens {tokens}: {len(pictures)} images and the template already take {taken}",
            f"Give at least {taken + pieces} tokens.",
        )
    texts = [_text(_words(random, (tokens - taken) // pieces, loaded), number) for number in range(pieces)]
    return [part for pair in zip(pictures, texts, strict=True) for part in pair] if pictures else texts


def _length(parts: list[Part], loaded: LoadedModel) -> int:
    return int(context_prompt(parts, loaded).modality.shape[0])


def _image(random: Random) -> Part:
    from PIL import Image

    small = Image.frombytes("RGB", (_BLOTCHES, _BLOTCHES), random.randbytes(3 * _BLOTCHES**2))
    picture = small.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return Part("image", picture, Source("made-up.png", sha256(small.tobytes()).hexdigest(), "image"))


def _text(words: str, number: int) -> Part:
    return Part("text", words, Source(f"made-up-{number}.txt", sha256(words.encode()).hexdigest(), "text"))


def _words(random: Random, tokens: int, loaded: LoadedModel) -> str:
    """As many made-up words as fit into ``tokens``."""
    words = ["".join(random.choices("aeioumnrstlkbd", k=random.randint(2, 8))) for _ in range(tokens)]
    words[::_NAMED] = [word.capitalize() for word in words[::_NAMED]]  # what methods that ask about names ask about
    empty = _length([_text("", 0)], loaded)
    fits, too_many = 0, tokens + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if _length([_text(" ".join(words[:middle]), 0)], loaded) - empty <= tokens:
            fits = middle
        else:
            too_many = middle
    return " ".join(words[:fits])

"""The tokens of a context that state the answer to a question, and which of them a compression left nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flowmm.bench.suite import Evidence, Suite, SuiteContext, SuiteQuestion

if TYPE_CHECKING:
    from flowmm.context import ContextCache, Prompt
    from flowmm.hf.loading import LoadedModel
    from flowmm.records import Part

_ORIENTATION = 0x0112  # EXIF: how a photo is turned when it is read, which boxes do not say


def modality_of(asked: SuiteQuestion) -> str:
    """Where the answer is stated: ``text``, ``image``, ``both`` or ``none``."""
    found = {"text" if place.span is not None else "image" for place in asked.evidence}
    return "both" if len(found) > 1 else next(iter(found), "none")


def evidence_tokens(
    suite: Suite, context: SuiteContext, parts: Sequence[Sequence[Part]], prompt: Prompt, loaded: LoadedModel
) -> dict[str, list[int]]:
    """Indices of the tokens that state the answers.

    Args:
        suite: the folder of the images.
        context: whose questions.
        parts: what each of its parts read as.
        prompt: of those parts; others may follow them.
        loaded: the model.

    Returns:
        By the question's id, ascending. Left out are questions whose evidence is missing or cannot be told as a whole:
        in a document that reads as several parts, on a turned photo, with a model whose image tokens are no grid.
    """
    found = {}
    for asked in context.questions:
        places = [_tokens(suite, context, place, parts, prompt, loaded) for place in asked.evidence]
        known = [place for place in places if place]
        if places and len(known) == len(places):
            found[asked.id] = sorted({token for place in known for token in place})
    return found


def gone_everywhere(tokens: Sequence[int], small: ContextCache) -> int:
    """How many of the tokens have no slot in any layer and head."""
    kept: set[int] = set()
    for layer in small.layers:
        kept |= set(layer.position[~layer.padding].tolist())
    return len(set(tokens) - kept)


def _tokens(
    suite: Suite,
    context: SuiteContext,
    place: Evidence,
    parts: Sequence[Sequence[Part]],
    prompt: Prompt,
    loaded: LoadedModel,
) -> list[int] | None:
    from flowmm.hf.places import tokens_of_box, tokens_of_characters

    if len(parts[place.part]) != 1:
        return None
    part, number = parts[place.part][0], sum(len(one) for one in parts[: place.part])
    piece = prompt.pieces[number + 1]  # behind what opens the prompt
    if place.span is not None:
        if part.kind != "text":
            return None
        within = tokens_of_characters(str(part.payload), place.span[0], place.span[1], loaded)
    else:
        path = context.parts[place.part].path
        size = None if path is None or part.source.kind != "image" else _size(suite, path)
        within = None if size is None or place.box is None else tokens_of_box(piece, size, place.box, loaded)
    first = prompt.spans[number].start
    return None if within is None else [first + token for token in within]


def _size(suite: Suite, path: str) -> tuple[int, int] | None:
    """Width and height as stored; None for a photo that is turned when it is read."""
    from PIL import Image

    with Image.open(suite.folder / path) as image:
        return image.size if image.getexif().get(_ORIENTATION, 1) == 1 else None

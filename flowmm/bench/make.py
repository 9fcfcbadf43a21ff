"""Makes a suite: draws contexts of the generated kinds and writes them as a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

from flowmm.atomic import replacing
from flowmm.bench.kinds import KINDS
from flowmm.bench.making.draft import Draft
from flowmm.bench.making.splits import SPLITS, Split
from flowmm.bench.suite import SUITE_FILE, SuiteContext, SuitePart, SuiteQuestion, write_suite
from flowmm.errors import ResourceError, UnknownNameError, UsageError

EVERY = "all"
SIZES = (1000, 2000, 4000)
CONTEXTS = 8  # of a kind and size; with 8 questions each, enough for an interval
_PAGE = re.compile(rf"({'|'.join(KINDS)})-\d+k?-\d+-\d+\.png")  # kind, size, number of the context, of the part
_LEAST = 900  # tokens, which what some kinds must hold takes

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Made:
    """How much there is of one kind and size; ``tokens`` is the mean over its contexts, for the embedded reader."""

    kind: str
    size: int
    contexts: int
    questions: int
    images: int
    tokens: float


@dataclass(frozen=True)
class MadeSuite:
    """What was made, and where."""

    folder: Path
    name: str
    split: str
    seed: int
    made: tuple[Made, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "suite": str(self.folder),
            "name": self.name,
            "split": self.split,
            "seed": self.seed,
            "made": [asdict(made) for made in self.made],
        }


def make_suite(
    name: str,
    folder: Path,
    *,
    split: str = "dev",
    seed: int = 0,
    sizes: Sequence[int] = SIZES,
    contexts: int = CONTEXTS,
    force: bool = False,
    progress: Progress | None = None,
) -> MadeSuite:
    """Draw a suite into ``folder``, which is made; ``suite.jsonl`` comes last and whole, or not at all.

    A context depends on split, seed, kind, size and its number alone, whatever else the suite holds.

    Args:
        name: a kind, or ``all``.
        folder: where to; missing or empty, unless ``force``.
        split: ``dev`` or ``test``.
        seed: of everything random.
        sizes: tokens of a context for the embedded reader, reached within 10 %.
        contexts: how many of each kind and size.
        force: write into a folder that holds something; its suite goes first.
        progress: called with a phase, contexts done and contexts in all.

    Raises:
        UnknownNameError: no such kind or split.
        UsageError: a folder that is not empty, a size that is too small or stands twice.
        ResourceError: the folder cannot be written.
    """
    if name not in KINDS and name != EVERY:
        raise UnknownNameError("suite", name, [*KINDS, EVERY])
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    _check_sizes(sizes, contexts)
    _prepare(folder, force)
    kinds = list(KINDS) if name == EVERY else [name]
    groups = [(kind, size) for kind in kinds for size in sizes]
    made, written = [], list[SuiteContext]()
    for kind, size in groups:
        drafts = []
        for number in range(contexts):
            draft = draw(kind, SPLITS[split], seed, size, number)
            written.append(_stored(draft, kind, f"{kind}-{label(size)}-{number}", folder))
            drafts.append(draft)
            if progress is not None:
                progress("draw", len(written), len(groups) * contexts)
        made.append(_summary(kind, size, drafts))
    write_suite(folder, written)
    return MadeSuite(folder, name, split, seed, tuple(made))


def draw(kind: str, split: Split, seed: int, size: int, number: int) -> Draft:
    """The ``number``-th context of a kind and size."""
    return KINDS[kind](Random(f"suite/{split.name}/{seed}/{kind}/{size}/{number}"), split, size)


def label(size: int) -> str:
    """``2k`` for 2000, ``1500`` for 1500."""
    return f"{size // 1000}k" if size % 1000 == 0 else str(size)


def _check_sizes(sizes: Sequence[int], contexts: int) -> None:
    if not sizes or len(set(sizes)) < len(sizes):
        what = f"sizes {', '.join(map(label, sizes)) or 'none'}: none, or one stands twice"
        raise UsageError(what, "Give each size once, as in --tokens 1k,2k,4k.")
    if min(sizes) < _LEAST:
        what = f"contexts of {min(sizes)} tokens: expected at least {_LEAST}"
        raise UsageError(what, "Give larger sizes, as in --tokens 1k,2k,4k.")
    if contexts < 1:
        raise UsageError(f"{contexts} contexts of each size: expected at least 1", "Give --contexts 8.")


def _prepare(folder: Path, force: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            if not force:
                raise UsageError(f"{folder}: is not empty", "Choose another folder, or write into it with --force.")
            # A run that is interrupted must not leave the old suite beside new pages, nor a finished one the old pages.
            (folder / SUITE_FILE).unlink(missing_ok=True)
            for path in folder.iterdir():
                if _PAGE.fullmatch(path.name):
                    path.unlink()
    except FileExistsError:
        raise UsageError(f"{folder}: is a file, expected a folder", "Choose another name.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ResourceError(f"{folder}: cannot be written: {reason}", "Choose another folder.") from error


def _stored(draft: Draft, kind: str, name: str, folder: Path) -> SuiteContext:
    """Write the images of a draft, and say what the suite says about it."""
    parts = []
    for number, block in enumerate(draft.blocks):
        if isinstance(block.part, str):
            parts.append(SuitePart(text=block.part))
            continue
        path, data = f"{name}-{number}.png", BytesIO()
        block.part.save(data, "PNG")
        with replacing(folder / path, len(data.getvalue())) as file:
            file.write(data.getvalue())
        parts.append(SuitePart(path=path))
    questions = (
        SuiteQuestion(f"{name}-{number}", asked.question, (asked.answer,), kind, draft.evidence(asked))
        for number, asked in enumerate(draft.asked)
    )
    return SuiteContext(name, tuple(parts), tuple(questions))


def _summary(kind: str, size: int, drafts: Sequence[Draft]) -> Made:
    return Made(
        kind=kind,
        size=size,
        contexts=len(drafts),
        questions=sum(len(draft.asked) for draft in drafts),
        images=sum(not isinstance(block.part, str) for draft in drafts for block in draft.blocks),
        tokens=sum(draft.tokens for draft in drafts) / len(drafts),
    )

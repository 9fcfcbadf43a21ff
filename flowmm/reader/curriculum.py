"""What is trained on, from easy to hard: each track climbs its levels on its own as it masters them."""

from dataclasses import dataclass, field
from random import Random

from flowmm.reader import levels, links
from flowmm.reader.layouts import Layout
from flowmm.reader.pieces import Level, lengthened

_MASTERED = 0.8  # running share of right answers that opens the next level
_READ = 0.6  # the same for whole cells, where only the vision tower is trained, and for what is learnt late
_REVIEW = 0.2  # share of batches from earlier levels
_MEMORY = 0.92  # of the running share

READING = "reading"  # the vision tower alone
_EASED = ("counts", "lists")  # one wrong token spoils a list, and a number says nothing of how near it is
_LENGTHENED = 0.1  # share of the contexts of a track's last level
_SHORT = (READING, "papers", "lists", "repeats")  # never lengthened
TRACKS: dict[str, list[Level]] = {
    "text": levels.text_levels(),
    "pages": levels.page_levels(),
    "mixed": levels.mixed_levels(),
    "papers": levels.papers_levels(),
    "chains": links.chain_levels(),
    "badges": links.badge_levels(),
    "tables": levels.table_levels(),
    "counts": levels.count_levels(),
    "lists": levels.list_levels(),
    "repeats": levels.repeat_levels(),
    READING: levels.reading_levels(),
}
STAGES: dict[str, dict[str, float]] = {
    "text": {"text": 1.0},
    "reading": {READING: 1.0},
    "joint": {"text": 0.15, READING: 0.4, "pages": 0.25, "mixed": 0.2},
    "finish": {"text": 0.1, READING: 0.2, "papers": 0.7},  # what the samples are made of
    "wide": {"text": 0.1, READING: 0.2, "papers": 0.5, "chains": 0.04, "badges": 0.08, "tables": 0.08},
    "wider": {"text": 0.08, READING: 0.13, "pages": 0.08, "mixed": 0.14, "papers": 0.03, "chains": 0.14}
    | {"badges": 0.12, "tables": 0.19, "counts": 0.14, "lists": 0.02, "repeats": 0.03},
}


@dataclass
class Progress:
    """Levels and running scores of the tracks; goes into the checkpoint."""

    levels: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TRACKS, 0))
    shares: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TRACKS, 0.0))

    def draw(self, rng: Random, stage: str) -> tuple[str, int, Layout]:
        """A track, one of its levels so far, and a layout of it."""
        weights = STAGES[stage]
        track = rng.choices(list(weights), list(weights.values()))[0]
        level = self.levels[track]
        if level and rng.random() < _REVIEW:
            level = rng.randrange(level)
        layout = TRACKS[track][level](rng)
        if track not in _SHORT and level + 1 == len(TRACKS[track]) and rng.random() < _LENGTHENED:
            layout = lengthened(rng, layout)
        return track, level, layout

    def record(self, track: str, level: int, share: float) -> bool:
        """Take in the share of right answers of a batch; True if that opened the next level."""
        if level != self.levels[track]:
            return False
        self.shares[track] = _MEMORY * self.shares[track] + (1 - _MEMORY) * share
        mastered = self.shares[track] > (_READ if track in (READING, *_EASED) else _MASTERED)
        if not mastered or level + 1 == len(TRACKS[track]):
            return False
        self.levels[track] += 1
        self.shares[track] /= 2
        return True


def cost(layout: Layout) -> float:
    """About how many tokens a context of ``layout`` costs; a page costs more than its tokens."""
    total = 22.0 * (layout.questions + layout.absent) + 45 * layout.links + 60 * layout.repeated
    filler = 10 + 20 * layout.strange
    for segment in layout.segments:
        in_text = 14 * segment.facts + filler * segment.fillers
        total += 1.9 * layout.rows * layout.columns if segment.page else in_text
    return total

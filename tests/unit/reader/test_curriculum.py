from collections import Counter
from random import Random

import pytest

from flowmm.reader import curriculum
from flowmm.reader.contexts import draw_context
from flowmm.reader.curriculum import Progress
from flowmm.reader.pages import CELL
from flowmm.reader.pieces import lengthened

LEVELS = [(track, number) for track, levels in curriculum.TRACKS.items() for number in range(len(levels))]


@pytest.mark.parametrize(("track", "level"), LEVELS)
def test_a_level_asks_at_most_half_of_its_facts_and_its_lines_fit(track, level):
    for seed in range(20):
        layout = curriculum.TRACKS[track][level](Random(seed))
        assert layout.questions * 2 <= sum(segment.facts for segment in layout.segments)
        for segment in layout.segments:
            lines = 1 + segment.facts // segment.values if segment.values else segment.facts + segment.fillers
            assert not segment.page or segment.badges or lines * 24 <= layout.rows * CELL


def test_a_stage_names_known_tracks():
    assert all(track in curriculum.TRACKS for weights in curriculum.STAGES.values() for track in weights)


def test_a_track_rises_when_mastered_and_only_by_its_own_level():
    progress = Progress()
    risen = [progress.record("text", 0, 1.0) for _ in range(30)]
    assert risen.count(True) == 1
    assert {track for track, level in progress.levels.items() if level} == {"text"}
    assert progress.levels["text"] == 1
    assert not any(progress.record("text", 0, 1.0) for _ in range(30))


def test_the_last_level_has_no_next_one():
    progress = Progress()
    last = len(curriculum.TRACKS["pages"]) - 1
    progress.levels["pages"] = last
    assert not any(progress.record("pages", last, 1.0) for _ in range(60))


@pytest.mark.parametrize("track", [track for track in curriculum.TRACKS if track not in curriculum._SHORT])
def test_a_context_is_lengthened_by_little_that_counts(track):
    for seed in range(6):
        layout = curriculum.TRACKS[track][-1](Random(seed))
        longer = lengthened(Random(seed), layout)
        added = Counter(longer.segments) - Counter(layout.segments)
        assert not Counter(layout.segments) - Counter(longer.segments)
        assert all(segment.facts <= (0 if layout.count else 4) for segment in added)
        assert len(draw_context(Random(seed), longer).ids) < 6000

"""Each ablation of the recommended method lacks one part, and is a method."""

import runpy
from pathlib import Path

from flowmm.merges.evict import Evict
from flowmm.profiles import load_method
from flowmm.rules import build_rules

SCRIPT = Path(__file__).parents[2] / "bench" / "ablation.py"


def test_every_part_is_removed_once(tmp_path, capsys):
    runpy.run_path(str(SCRIPT))["main"](tmp_path / "parts")
    whole, *files = capsys.readouterr().out.strip().split(",")
    assert whole == "flowmm"
    given = build_rules(load_method(whole))
    rules = {Path(file).stem.removeprefix("flowmm-no-"): build_rules(load_method(file)) for file in files}
    for name in ("reconstruct", "probes", "leverage"):
        assert rules[name].score.passes == [one for one in given.score.passes if one != name]
    assert rules["gate"].score.if_made == []
    assert not rules["value-norm"].score.times_value_norm
    assert not rules["head-weight"].budget.head_weight
    assert rules["alive"].budget.alive == 0 < given.budget.alive
    assert not rules["shared-tokens"].budget.shared_tokens
    assert rules["floor"].budget.floor == 0 < given.budget.floor
    assert rules["merge"].merge == Evict()
    assert len(rules) == 11

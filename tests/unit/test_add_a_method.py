"""What docs/add-a-method.md tells to write works as it is written there."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from flowmm.compress import compress
from flowmm.errors import UsageError
from flowmm.profiles import load_method, load_profile
from flowmm.scores import SCORES
from tests.unit.plain_layers import random_context

TEXT = (Path(__file__).parents[2] / "docs" / "add-a-method.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return found


@pytest.fixture
def vnorm(monkeypatch):
    """The rule of the page, in the table under its name."""
    module = ModuleType("flowmm.scores.vnorm")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(block("python"), vars(module))
    monkeypatch.setitem(SCORES, "vnorm", module.VNorm)


def test_the_rule_and_the_method_of_the_page_work(vnorm, tmp_path):
    (tmp_path / "vnorm.yaml").write_text(block("yaml"))
    context = random_context()
    done = compress(context, load_method(tmp_path / "vnorm.yaml"), profile=load_profile(), keep_tokens=7)
    layer, kept = context.layers[0], done.layers[0].position[0].tolist()
    longest = layer.values[0].abs().sum(-1).masked_fill(layer.protected[0], -1).argmax().item()
    assert sorted([0, 1, 2, 3, 58, 59, longest]) == kept


def test_the_types_of_the_rule_of_the_page_are_checked(vnorm, tmp_path):
    (tmp_path / "vnorm.yaml").write_text(block("yaml").replace("power: 1", "power: 0.5"))
    with pytest.raises(UsageError, match="power should be greater than or equal to 1"):
        compress(random_context(), load_method(tmp_path / "vnorm.yaml"), profile=load_profile(), keep=0.5)

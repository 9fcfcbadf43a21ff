"""Imports go down the table of levels, transformers stays in its folder, light commands stay light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowmm

ROOT = Path(__file__).parents[2]
LEVELS = {
    0: {"calibration", "errors", "records", "typed_json"},
    1: {"atomic", "blocks", "container", "context", "decode", "fingerprint", "geometry", "header", "observing"}
    | {"packing", "positions", "profiles", "ragged", "remote", "rotation", "temporary", "validation", "yamlfile"},
    2: {"budgets", "codecs", "diagnostics", "evidence_tensors", "flow", "inputs", "layer_tensors", "listing", "merges"}
    | {"pruning", "references", "refit", "scores", "training", "withheld"},
    3: {"hf", "reader", "rules"},
    4: {"answer", "checks", "chosen", "compress", "observe", "plan", "prefill", "probe", "schemas", "store"},
    5: {
        "agreeing",
        "bench",
        "byte_planner",
        "calibrate",
        "contexts",
        "demo",
        "distil",
        "doctor",
        "filling",
        "head_weights",
        "held_out",
        "lessons",
        "asking",
        "pipeline",
        "precisions",
        "readings",
        "retelling",
        "scouting",
    }
    | {"selfcheck", "sessions"},
}
LEVEL = {name: level for level, names in LEVELS.items() for name in names}
ALONE = 4  # modules of this level do not import each other either
HEAVY = {"torch", "transformers", "numpy", "PIL", "pypdfium2"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path, *, module_level_only: bool = False) -> Iterator[str]:
    """Full names of what a file imports; `from a import b` gives `a.b`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if module_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def unit_of(path: Path) -> str:
    """The name in the table that a file of flowmm belongs to."""
    return path.relative_to(ROOT / "flowmm").parts[0].removesuffix(".py")


def upward(unit: str, other: str) -> bool:
    if unit == other:
        return False
    return LEVEL[other] > LEVEL[unit] or (LEVEL[other] == LEVEL[unit] == ALONE)


BEHIND_THE_DOOR = [path for path in modules("flowmm") if unit_of(path) != "__init__"]


def test_every_module_stands_in_the_table_of_levels():
    units = {unit_of(path) for path in BEHIND_THE_DOOR}
    assert sorted(units - set(LEVEL)) == []


@pytest.mark.parametrize("path", BEHIND_THE_DOOR, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    unit = unit_of(path)
    others = {name.split(".")[1] for name in imported(path) if name.startswith("flowmm.")}
    assert sorted(other for other in others if other in LEVEL and upward(unit, other)) == []
    assert not any(name.startswith("flowmm_cli") for name in imported(path))


def test_an_upward_import_would_be_seen():
    assert upward("scores", "pipeline")
    assert upward("store", "answer")
    assert not upward("pipeline", "scores")
    assert not upward("header", "context")


def test_only_the_folder_hf_imports_transformers():
    found = [
        path.relative_to(ROOT).as_posix()
        for package in ("flowmm", "flowmm_cli")
        for path in modules(package)
        if any(name.split(".")[0] == "transformers" for name in imported(path))
    ]
    assert [path for path in found if not path.startswith("flowmm/hf/")] == []
    assert found, "the folder moved: this test looks at nothing"


@pytest.mark.parametrize("path", modules("flowmm_cli"), ids=lambda path: path.name)
def test_the_command_line_uses_public_names_only(path):
    public = {f"flowmm.{name}" for name in flowmm.__all__}
    names = {name for name in imported(path) if name.split(".")[0] == "flowmm"}
    assert sorted(names - public) == []


@pytest.mark.parametrize("path", modules("flowmm_cli"), ids=lambda path: path.name)
def test_the_command_line_imports_nothing_heavy_at_the_top(path):
    roots = {name.split(".")[0] for name in imported(path, module_level_only=True)}
    assert sorted(roots & HEAVY) == []


def test_the_public_names_are_sorted_and_importable():
    assert flowmm.__all__ == sorted(set(flowmm.__all__))
    for name in flowmm.__all__:
        assert getattr(flowmm, name).__name__ == name
    assert dir(flowmm) == flowmm.__all__
    with pytest.raises(AttributeError, match="no attribute 'prefil'"):
        _ = flowmm.prefil


@pytest.mark.parametrize(
    "statement",
    [
        "from flowmm import read_header",
        "import flowmm_cli.app",
        "from flowmm_cli.app import run; assert run(['--help']) == 0",
        "from flowmm_cli.app import run; assert run(['inspect', 'missing.kv']) == 3",
        "from flowmm_cli.app import run; assert run(['methods']) == 0",
        "from flowmm_cli.app import run; assert run(['ls', 'tests']) == 0",
        "from flowmm_cli.app import run; assert run(['prune', 'tests', '--max-bytes', '1kB']) == 0",
        "from flowmm_cli.app import run; assert run(['profiles', 'schema']) == 0",
        "from flowmm_cli.app import run; assert run(['profiles', 'check', 'default']) == 0",
        "from flowmm_cli.app import run; assert run(['prefill', 'a', '-o', 'b', '--keep', '0']) == 2",
    ],
)
def test_light_work_imports_neither_torch_nor_transformers(statement):
    check = "import sys; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}; {check}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr

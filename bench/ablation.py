"""Writes the recommended method without each of its parts, for `flowmm bench quality --method`.

    flowmm bench quality --suite SUITE --keep 0.1,0.05 -o results --method "$(python bench/ablation.py FOLDER)"

Prints the method and the files it wrote, with commas. A part that is renamed in profiles/methods/flowmm.yaml is an
error here.
"""

import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

from flowmm.profiles import load_method
from flowmm.yamlfile import Document, dump

_SOURCE = Path(__file__).parents[1] / "profiles" / "methods" / "flowmm.yaml"


def without_pass(method: dict[str, Any], name: str) -> None:
    """Neither make a pass nor score by it."""
    method["observe"].pop(name, None)
    method["score"]["passes"].remove(name)


def without_gate(method: dict[str, Any]) -> None:
    """Go by what the model itself looks at."""
    del method["observe"]["gate"], method["score"]["if_made"]


def without(part: str, key: str) -> Any:
    """Leave a key of a section at what it is when it is not set."""

    def change(method: dict[str, Any]) -> None:
        del method[part][key]

    return change


def without_merging(method: dict[str, Any]) -> None:
    """What is not kept is gone."""
    method["merge"] = {"rule": "evict"}


def equal_heads(method: dict[str, Any]) -> None:
    """As many slots for each head."""
    method["budget"] = {"rule": "uniform"}


PARTS = {
    "no-reconstruct": lambda method: without_pass(method, "reconstruct"),
    "no-probes": lambda method: without_pass(method, "probes"),
    "no-leverage": lambda method: without_pass(method, "leverage"),
    "no-gate": without_gate,
    "no-value-norm": without("score", "times_value_norm"),
    "no-head-weight": without("budget", "head_weight"),
    "no-shared-tokens": without("budget", "shared_tokens"),
    "no-floor": without("budget", "floor"),
    "no-alive": without("budget", "alive"),
    "no-merge": without_merging,
    "equal-heads": equal_heads,
}


def main(folder: Path) -> None:
    """Write a file for each part."""
    folder.mkdir(parents=True, exist_ok=True)
    given = Document(_SOURCE, _SOURCE.read_text(encoding="utf-8")).data
    written = []
    for name, change in PARTS.items():
        method = deepcopy(given)
        change(method)
        path = folder / f"flowmm-{name}.yaml"
        path.write_text(dump(method), encoding="utf-8")
        load_method(str(path))  # refuses what is no method
        written.append(str(path))
    print(",".join(["flowmm", *written]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

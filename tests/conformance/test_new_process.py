"""A stored context answers in a new process, with a freshly built model, as it did in the one that read it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from flowmm.store import load, save
from tests.conformance.families import FAMILIES, build, question
from tests.conformance.test_families import greedy, read, shortened

TOKENS = 16


def answers(path: Path, family: str) -> list[int]:
    loaded, _ = build(family)
    return greedy(loaded, load(path), question(6), TOKENS)


def test_every_family_answers_the_same_from_a_file_in_a_new_process(tmp_path: Path) -> None:
    expected = {}
    for family in FAMILIES:
        loaded, tiny = build(family)
        cache = shortened(read(loaded, tiny))
        save(cache, tmp_path / f"{family}.kv", kv_dtype="fp32")
        expected[family] = greedy(loaded, cache, question(6), TOKENS)
    command = [sys.executable, "-m", "tests.conformance.test_new_process", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(json.dumps({family: answers(folder / f"{family}.kv", family) for family in FAMILIES}))

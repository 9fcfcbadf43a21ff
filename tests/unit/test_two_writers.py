"""Two processes that write one name again and again: at any moment one whole file stands there."""

import os
import subprocess
import sys
from pathlib import Path

from flowmm.bench.made_up import small_context
from flowmm.store import save

ROOT = Path(__file__).parents[2]
WRITE = """
import sys
from flowmm.bench.made_up import small_context
from flowmm.store import save
cache = small_context(500, seed=int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(60):
    save(cache, sys.argv[1], force=True)
"""


def test_two_writers_of_one_name_leave_a_whole_file_of_one_of_them(tmp_path):
    path = tmp_path / "ctx.kv"
    contents = set()
    for seed in (0, 1):
        save(small_context(500, seed=seed), path, force=True)
        contents.add(path.read_bytes())
    assert len(contents) == 2
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, str(path), str(seed)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in (0, 1)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    seen = set()
    while any(writer.poll() is None for writer in writers):
        seen.add(path.read_bytes())
    assert seen <= contents
    assert [(writer.communicate()[1], writer.returncode) for writer in writers] == [("", 0), ("", 0)]
    assert path.read_bytes() in contents
    assert os.listdir(tmp_path) == ["ctx.kv"]

"""flowmm's decoding beside that of llama.cpp and kvpress, interleaved in one run, as JSON.

python bench/peers/compare.py --llama-cpp PYTHON --kvpress PYTHON [--markdown docs/benchmarks.md]

The Pythons are those that llama_cpp.sh and kvpress.sh print. All have random weights in one of flowmm's shapes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flowmm.bench.markdown import check_document, machine, rewrite, table
from flowmm.bench.speed import fresh_process
from flowmm.bench.speed_report import FULL, Machine, Spread
from flowmm.bench.speed_worker import Made, Subject, make, measure, worker_of
from flowmm.hf.shapes import SHAPES
from flowmm.records import ModelOptions

_HERE = Path(__file__).parent
_QUESTION = 16  # tokens
_METHOD = "snapkv"  # kvpress has it too
_LLAMA = (("F32", "F32"), ("BF16", "F16"))  # types of weights and cache, as llama.cpp calls them
_BYTES = {"F32": 4.0, "F16": 2.0, "BF16": 2.0}  # a number


@dataclass(frozen=True)
class Arm:
    """One way to decode."""

    name: str
    weights: str
    cache: str
    slots: int  # before the question
    seconds: Callable[[], float]  # a step, timed once more

    def floor(self, made: Made, subject: Subject, best: Machine) -> float:
        """Least seconds of a step: the weights, and the cache in the middle of the answer, over the bandwidth."""
        slots = self.slots + made.question + subject.new_tokens / 2
        weights, token = made.parameters * _BYTES[self.weights], made.token_bytes / 4 * _BYTES[self.cache]
        return float((weights + slots * token) / best.bandwidth)


def main() -> None:
    """Make the files, get all arms ready, time them in turn."""
    given = _arguments()
    check_document(given.markdown, _section_name(given))
    subject = Subject(
        ModelOptions(device="cpu", dtype="fp32"), given.shape, given.context, _QUESTION, given.new_tokens, seed=0
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="flowmm-peers-")))
        with fresh_process(partial(make, subject, _METHOD, (given.keep,), 1, folder)) as ask:
            made = ask(0)
        arms, kvpress = _arms(given, subject, made, stack, folder)
        print("all arms are ready", file=sys.stderr, flush=True)
        with fresh_process(partial(measure, made.device, made.dtype)) as ask:
            best = ask(0)
        runs = [[arm.seconds() for arm in arms] for _ in range(given.repeat + 1)][1:]
    report = {
        "shape": given.shape,
        "context_tokens": len(made.token_ids),
        "question_tokens": made.question,
        "new_tokens": given.new_tokens,
        "repeat": given.repeat,
        "threads": made.threads,
        "bandwidth_bytes_per_second": best.bandwidth,
        "prefill_seconds": made.prefill_seconds,
        "compress_seconds": made.compress_seconds[f"{given.keep:g}"],
        "kvpress": kvpress,
        "arms": [
            _row(arm, list(found), arm.floor(made, subject, best))
            for arm, found in zip(arms, zip(*runs, strict=True), strict=True)
        ],
    }
    if given.markdown:
        rewrite(given.markdown, _section_name(given), _section(given, report))
    print(json.dumps(report, indent=1))


def _arms(
    given: argparse.Namespace, subject: Subject, made: Made, stack: ExitStack, folder: Path
) -> tuple[list[Arm], dict[str, Any] | None]:
    """All arms, one process each, ready to be asked; and what kvpress says of its reading."""
    shape, small = SHAPES[given.shape], f"{given.keep:g}"
    heads = shape["num_hidden_layers"] * shape["num_key_value_heads"]
    slots = {source: made.slots[source] // heads for source in (small, *[FULL] * given.full)}
    arms = []
    for source, length in slots.items():
        ask = stack.enter_context(fresh_process(worker_of(subject, made, source)))
        arms.append(Arm(f"flowmm, file {source}", "F32", "F32", length, lambda ask=ask: ask(1).step))
    setup = {"shape": dict(shape), "threads": made.threads, "new_tokens": subject.new_tokens}
    for weights, cache in _LLAMA if given.llama_cpp else ():
        for length in slots.values():
            more = {"folder": str(folder), "weights": weights, "cache": cache, "length": length + made.question}
            ready, seconds = stack.enter_context(_peer(given.llama_cpp, "llama_cpp_arm.py", {**setup, **more}))
            arms.append(Arm(f"llama.cpp of llama-cpp-python {ready['version']}", weights, cache, length, seconds))
    if not given.kvpress:
        return arms, None
    print("kvpress reads", file=sys.stderr, flush=True)
    more = {"context": len(made.token_ids), "question": made.question, "keep": given.keep}
    ready, seconds = stack.enter_context(_peer(given.kvpress, "kvpress_arm.py", {**setup, **more}))
    arms.append(Arm(f"kvpress {ready['version']}, SnapKVPress", "F32", "F32", ready["slots"], seconds))
    return arms, ready


@contextmanager
def _peer(python: str, script: str, setup: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], Callable[[], float]]]:
    """A peer's process: what it says once it is ready, and how to time its steps."""
    command = [python, str(_HERE / script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def ask(line: str) -> dict[str, Any]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            if not answer:
                raise SystemExit(f"{script} ended before its time; what it printed says why")
            return dict(json.loads(answer))

        yield ask(json.dumps(setup)), lambda: float(ask("")["step"])


def _row(arm: Arm, runs: list[float], floor: float) -> dict[str, Any]:
    step = Spread.of(runs)
    assert step is not None  # always timed
    named = {"arm": arm.name, "weights": arm.weights, "cache": arm.cache, "slots": arm.slots}
    return {**named, "decode_seconds_per_step": asdict(step), "floor_seconds": floor}


def _section(given: argparse.Namespace, report: Mapping[str, Any]) -> str:
    command = f"bench/peers/compare.py --shape {given.shape} --context {given.context} --keep {given.keep:g}"
    command += f" --repeat {given.repeat} --new-tokens {given.new_tokens}"
    command += " --llama-cpp PYTHON" * bool(given.llama_cpp) + " --kvpress PYTHON" * bool(given.kvpress)
    command += " --full" * given.full
    own, rows = report["arms"][0]["decode_seconds_per_step"]["median"], []
    for arm in report["arms"]:
        seconds = arm["decode_seconds_per_step"]
        median, low, high = (f"{1e3 * seconds[name]:.1f}" for name in ("median", "low", "high"))
        step = (f"{median} ms ({low}-{high})", f"{1e3 * arm['floor_seconds']:.1f}", f"{seconds['median'] / own:.2f}")
        rows.append((arm["arm"], arm["weights"], arm["cache"], str(arm["slots"]), *step))
    lines = [
        f"`{command}` on {machine('cpu')}",
        "",
        f"{given.shape} with random weights, {report['context_tokens']} tokens compressed by `{_METHOD}`, questions of "
        f"{report['question_tokens']} tokens, answers of {given.new_tokens}, batch 1, {report['threads']} threads. "
        f"Medians of {given.repeat} interleaved runs, lowest and highest in brackets; a process an arm, its first run "
        f"not counted. This machine reads {report['bandwidth_bytes_per_second'] / 1e9:.1f} GB/s at best.",
        "",
        *table(("", "weights", "cache", "slots", "a step", "its floor", "over the first"), rows),
    ]
    return "\n".join(lines)


def _section_name(given: argparse.Namespace) -> str:
    return f"peers {given.shape} {given.context}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--llama-cpp", metavar="PYTHON", help="that bench/peers/llama_cpp.sh printed")
    parser.add_argument("--kvpress", metavar="PYTHON", help="that bench/peers/kvpress.sh printed")
    parser.add_argument("--shape", default="qwen2_45m", choices=SHAPES)
    parser.add_argument("--context", type=int, default=8192, help="tokens")
    parser.add_argument("--keep", type=float, default=0.05, help="share of the slots")
    parser.add_argument("--full", action="store_true", help="ours and llama.cpp with the full cache too")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each arm that count")
    parser.add_argument("--new-tokens", type=int, default=32, help="of an answer; the first is not timed")
    parser.add_argument("--markdown", type=Path, help="a document whose section is rewritten")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Measure first token, decoding and many questions, against transformers' generate and a saved full cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flowmm.bench.markdown import check_document, rewrite
from flowmm.bench.speed_markdown import speed_section
from flowmm.bench.speed_report import FULL, TRANSFORMERS, Arm, Load, Machine, Run, SpeedReport, Spread
from flowmm.bench.speed_worker import Made, Subject, make, measure, serve, worker_of
from flowmm.chosen import called, chosen_model
from flowmm.errors import FlowmmError, ResourceError, UsageError
from flowmm.hf.shapes import check_shape
from flowmm.plan import Progress
from flowmm.profiles import load_method
from flowmm.records import ModelOptions

_MODEL = ModelOptions()
_QUESTION = 16  # tokens
Ask = Callable[[int], Any]


def bench_speed(
    *,
    model: ModelOptions = _MODEL,
    shape: str | None = None,
    context: int = 8192,
    keep: Sequence[float] = (0.2, 0.1, 0.05),
    batch: Sequence[int] = (1, 8, 32, 64),
    repeat: int = 5,
    new_tokens: int = 32,
    method: str = "flowmm",
    seed: int = 0,
    graphs: bool = False,
    markdown: Path | None = None,
    progress: Progress | None = None,
) -> SpeedReport:
    """Read a made-up context, compress it, and answer questions of 16 tokens from each file and with transformers.

    Every arm has a process of its own, in which the model is loaded and a first run is not counted; the runs that
    count are interleaved. transformers reads the context each time; it and the file with the full cache answer one
    question at a time.

    Args:
        model: which to ask; None in it is the embedded reader.
        shape: one of :data:`flowmm.hf.shapes.SHAPES` instead, with random weights.
        context: tokens of it, all text.
        keep: shares of the slots, a file each; a file with all of them is always there.
        batch: questions answered side by side.
        repeat: runs of each arm that count.
        new_tokens: of each answer, which goes on behind its end.
        method: that compresses.
        seed: of the context and of random weights.
        graphs: on a GPU, every decode step from a file is one CUDA graph.
        markdown: a document whose section of this model and length is rewritten.
        progress: told how far it is.

    Raises:
        InputError: there is no such document.
        UsageError: a number that cannot be, or no such method or shape.
        ResourceError: a process ended before its time, as for want of memory.
    """
    _check(shape, model, context, keep, batch, repeat, new_tokens)
    load_method(method)
    name = f"speed {shape or called(chosen_model(model))} {context}"
    check_document(markdown, name)
    tell = progress or (lambda phase, done, total: None)
    subject = Subject(model, shape, context, _QUESTION, new_tokens, seed, graphs)
    with TemporaryDirectory(prefix="flowmm-speed-") as folder:
        tell("prepare", 0, 2)
        with fresh_process(partial(make, subject, method, tuple(keep), max(batch), Path(folder))) as ask:
            made = ask(0)
        tell("prepare", 1, 2)
        with fresh_process(partial(measure, made.device, made.dtype)) as ask:
            machine = ask(0)
        tell("prepare", 2, 2)
        runs = _interleaved(subject, made, batch, repeat, tell)
    arms = tuple(_arm(source, size, of, made, machine, new_tokens) for (source, size), of in runs.items())
    report = SpeedReport(
        model=made.model,
        device=made.device,
        dtype=made.dtype,
        threads=made.threads,
        method=method,
        context=len(made.token_ids),
        question=made.question,
        new_tokens=new_tokens,
        repeat=repeat,
        machine=machine,
        prefill_seconds=made.prefill_seconds,
        compress_seconds=made.compress_seconds,
        arms=arms,
    )
    if markdown is not None:
        which = f"--shape {shape}" if shape else f"-m {called(chosen_model(model))}"
        which += "" if model.dtype == "auto" else f" --dtype {model.dtype}"
        lists = f"--keep {','.join(f'{one:g}' for one in keep)} --batch {','.join(map(str, batch))}"
        lists += f" --repeat {repeat} --new-tokens {new_tokens} --method {method}"
        command = f"flowmm bench speed {which} --context {context} {lists}"
        command += " --graphs" if graphs else ""
        rewrite(markdown, name, speed_section(report, command))
    return report


def _interleaved(
    subject: Subject, made: Made, batches: Sequence[int], repeat: int, tell: Progress
) -> dict[tuple[str, int], list[Run]]:
    """Runs by source and batch: all arms once, not counted, then all once more, and so on."""
    small = [source for source in made.files if source != FULL]
    # The full cache is asked one question at a time, in both its forms: many side by side take minutes a run on a CPU.
    arms = [(TRANSFORMERS, 1), (FULL, 1), *((source, size) for source in small for size in batches)]
    runs: dict[tuple[str, int], list[Run]] = {arm: [] for arm in arms}
    with ExitStack() as stack:
        asks = {
            source: stack.enter_context(fresh_process(worker_of(subject, made, source)))
            for source in (TRANSFORMERS, *made.files)
        }
        total, done = (repeat + 1) * len(arms), 0
        for number in range(repeat + 1):
            for source, size in arms:
                run = asks[source](size)
                done += 1
                tell("speed", done, total)
                if number:
                    runs[source, size].append(run)
    return runs


@contextmanager
def fresh_process(work: Callable[[], Ask]) -> Iterator[Ask]:
    """A fresh process that does one kind of work as often as it is asked to."""
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(work, theirs), daemon=True)
    process.start()
    theirs.close()

    def ask(number: int) -> Any:
        ours.send(number)
        try:
            answer = ours.recv()
        except EOFError:
            process.join()
            raise ResourceError(
                f"a measuring process ended with exit code {process.exitcode}",
                "What it printed says why; where memory ran out, give a smaller --context, --batch or shape.",
            ) from None
        if isinstance(answer, FlowmmError):
            raise answer
        return answer

    try:
        yield ask
    finally:
        if process.is_alive():
            process.terminate()
        process.join()


def _arm(source: str, batch: int, runs: Sequence[Run], made: Made, machine: Machine, new_tokens: int) -> Arm:
    load, slots = _load(source, made), made.question + new_tokens / 2
    grown = Spread.of([run.grown_bytes for run in runs])
    keep = made.slots.get(source, made.slots[FULL]) / made.slots[FULL]
    step = Spread.of([run.step for run in runs])
    assert step is not None  # always timed
    return Arm(
        source=source,
        keep=keep,
        batch=batch,
        file_bytes=load.file_bytes,
        tail_bytes=batch * (made.question + new_tokens) * made.token_bytes,
        first_token=Spread.of([run.first_token for run in runs]),
        step=step,
        total=Spread.of([run.total for run in runs]),
        grown_bytes=None if grown is None else round(grown.median),
        first_token_floor=load.first_token(machine, made.question),
        step_floor=load.step(machine, batch, slots),
    )


def _load(source: str, made: Made) -> Load:
    a_slot = 4 * made.query_heads * made.head_size  # operations of one token on a slot of a KV head
    if source == TRANSFORMERS:
        tokens, seen = len(made.token_ids), a_slot * made.slots[FULL]
        reading = tokens * (2.0 * made.parameters + seen / 2)  # half of a causal map
        return Load(
            made.parameters, made.weight_bytes, made.cache_bytes[FULL], 0, made.token_bytes, reading, float(seen)
        )
    return Load(
        made.parameters,
        made.weight_bytes,
        made.cache_bytes[source],
        made.file_bytes[source],
        made.token_bytes,
        0.0,
        float(a_slot * made.slots[source]),
    )


def _check(
    shape: str | None,
    model: ModelOptions,
    context: int,
    keep: Sequence[float],
    batch: Sequence[int],
    repeat: int,
    new_tokens: int,
) -> None:
    """Refuse what can be refused before anything heavy is imported."""
    if shape is not None:
        check_shape(shape)
    if shape is not None and model.name is not None:
        raise UsageError("both a model and a shape were given", "Give -m or --shape.")
    least = (("--context", context, 1), ("--repeat", repeat, 1), ("--new-tokens", new_tokens, 2))
    for name, number, fewest in (*least, *(("--batch", one, 1) for one in batch)):
        if number < fewest:
            raise UsageError(f"{name} {number}: is less than {fewest}", f"Give a number of at least {fewest}.")
    for share in keep:
        if not 0 < share < 1:
            raise UsageError(f"--keep {share:g}: is not above 0 and below 1", "0.1 or 10% keeps a tenth.")
    if not keep or not batch:
        raise UsageError("no share or no batch", "Give lists such as --keep 0.1,0.05 --batch 1,64.")

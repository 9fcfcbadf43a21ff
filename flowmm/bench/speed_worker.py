"""The processes of `flowmm bench speed`: one makes the files, one measures the machine, one answers for each arm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from flowmm.bench.memory import watch_memory
from flowmm.bench.speed_report import FULL, TRANSFORMERS, Machine, Run
from flowmm.errors import FlowmmError
from flowmm.records import Answer, Generation, ModelOptions

if TYPE_CHECKING:
    from flowmm.context import ContextCache
    from flowmm.hf.loading import LoadedModel

_MATRIX = {"cpu": 2048, "cuda": 8192}
_READ_BYTES = {"cpu": 2**29, "cuda": 2**33}
_TRIES = 7
_T = TypeVar("_T")


@dataclass(frozen=True)
class Subject:
    """The model, and how long everything is."""

    model: ModelOptions
    shape: str | None
    context: int
    question: int
    new_tokens: int
    seed: int
    graphs: bool = False

    def generation(self, new_tokens: int, batch: int) -> Generation:
        """How to decode."""
        return Generation(max_new_tokens=new_tokens, batch=batch, graphs=self.graphs)

    def load(self) -> LoadedModel:
        """The model in memory, the same in every process."""
        from flowmm.chosen import load_chosen_model
        from flowmm.hf.shapes import load_shape

        if self.shape is None:
            return load_chosen_model(self.model)
        return load_shape(self.shape, device=self.model.device, dtype=self.model.dtype, seed=self.seed)


@dataclass(frozen=True)
class Made:
    """What the process that made the files says of them."""

    model: str
    device: str
    dtype: str
    threads: int
    token_ids: tuple[int, ...]  # of the context
    questions: tuple[str, ...]
    question: int  # tokens of each
    question_ids: tuple[int, ...]  # of the first
    parameters: int
    weight_bytes: int
    token_bytes: int
    query_heads: int  # for each KV head
    head_size: int
    files: dict[str, Path]  # by source
    file_bytes: dict[str, int]
    cache_bytes: dict[str, int]
    slots: dict[str, int]
    prefill_seconds: float
    compress_seconds: dict[str, float]


def serve(work: Callable[[], Callable[[int], object]], connection: Connection) -> None:
    """Get ready, then do what the connection asks for until it says None; an error of ours is sent as it is."""
    try:
        ready = work()
        while (number := connection.recv()) is not None:
            connection.send(ready(number))
    except FlowmmError as error:
        connection.send(error)


def make(
    subject: Subject, method: str, shares: Sequence[float], questions: int, folder: Path
) -> Callable[[int], object]:
    """Read a context, compress it to each share, write the files; the number that is asked for says nothing."""
    return lambda _: _made(subject, method, shares, questions, folder)


def _made(subject: Subject, method: str, shares: Sequence[float], questions: int, folder: Path) -> Made:
    import torch

    from flowmm.bench.filler import filler
    from flowmm.compress import compress
    from flowmm.contexts import full_cache, read_prompt
    from flowmm.hf.layers import num_query_heads
    from flowmm.hf.plain import model_sizes
    from flowmm.hf.prompt import question_ids
    from flowmm.hf.room import tail_bytes
    from flowmm.observe.gate_file import gate_of
    from flowmm.profiles import load_method, load_profile

    loaded, rules = subject.load(), load_method(method)
    profile = load_profile("reader" if loaded.is_reader else None, loaded.family.name)
    prompt = read_prompt(filler(loaded, subject.context, subject.seed, images=False), loaded)
    gate = gate_of(profile, loaded, rules)
    full, reading = _timed(partial(full_cache, prompt, loaded, rules, gate=gate, seed=subject.seed), loaded)
    caches, seconds = {FULL: replace(full, evidence=None)}, {}
    for share in shares:
        shrink = partial(compress, full, rules, profile=profile, keep=share, seed=subject.seed)
        caches[f"{share:g}"], seconds[f"{share:g}"] = _timed(shrink, loaded)
    files = {source: _saved(cache, folder / f"{source}.kv") for source, cache in caches.items()}
    parameters, weight_bytes = model_sizes(loaded)
    asked = tuple(_question(number, subject.question, loaded) for number in range(questions))
    ids = question_ids(asked[0], loaded)
    first = full.layers[0].keys
    return Made(
        model=loaded.identity.id,
        device=loaded.model.device.type,
        dtype=loaded.identity.dtype,
        threads=torch.get_num_threads(),
        token_ids=tuple(prompt.token_ids.tolist()),
        questions=asked,
        question=len(ids),
        question_ids=tuple(ids),
        parameters=parameters,
        weight_bytes=weight_bytes,
        token_bytes=tail_bytes(full),
        query_heads=num_query_heads(loaded.model) // first.shape[0],
        head_size=first.shape[2],
        files=files,
        file_bytes={source: path.stat().st_size for source, path in files.items()},
        cache_bytes={source: cache.nbytes for source, cache in caches.items()},
        slots={source: sum(layer.num_slots for layer in cache.layers) for source, cache in caches.items()},
        prefill_seconds=reading,
        compress_seconds=seconds,
    )


def _saved(cache: ContextCache, path: Path) -> Path:
    from flowmm.store import save

    save(cache, path)
    return path


def _question(number: int, tokens: int, loaded: LoadedModel) -> str:
    """The shortest of at least that many tokens, what the template writes behind it included."""
    from flowmm.hf.prompt import question_ids

    text = chr(ord("a") + number % 26)
    while len(question_ids(text, loaded)) < tokens:
        text += chr(ord("a") + (number // 26 + len(text)) % 26)
    return text


def measure(device: str, dtype: str) -> Callable[[int], object]:
    """What the machine does at best."""
    return lambda _: _machine(device, dtype)


def _machine(device: str, dtype: str) -> Machine:
    import torch

    many = torch.ones(_READ_BYTES[device] // 4, device=device)
    size = _MATRIX[device]
    left, right = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))

    def best(work: Callable[[], object]) -> float:
        return min(_seconds(work, device) for _ in range(_TRIES))

    return Machine(many.nbytes / best(many.sum), 2 * size**3 / best(lambda: left @ right))


def answer_plainly(subject: Subject, made: Made) -> Callable[[int], object]:
    """transformers reads the context and the question, and writes."""
    from flowmm.hf.plain import generate
    from flowmm.hf.thin import restore_products

    loaded = subject.load()
    restore_products(loaded.model)
    token_ids = [*made.token_ids, *made.question_ids]

    def once(_: int) -> Run:
        peak, before = watch_memory(made.device), _held(made.device)
        times = generate(loaded, token_ids, subject.new_tokens)
        step = (times[-1] - times[0]) / (len(times) - 1)
        return Run(times[0], step, None, _over(peak(), before))

    return once


def answer_from(subject: Subject, made: Made, source: str) -> Callable[[int], object]:
    """Load a file and answer from it, so many questions side by side."""
    from flowmm.answer import answer, answer_all
    from flowmm.hf.decoding import placed
    from flowmm.hf.thin import copy_thin_weights
    from flowmm.store import load

    loaded = subject.load()
    copy_thin_weights(loaded.model)  # as a session does
    cache = placed(load(made.files[source]), loaded)

    def first() -> list[Answer]:
        fresh = placed(load(made.files[source]), loaded)
        return answer(fresh, made.questions[:1], loaded, subject.generation(1, 1), through_end=True)

    def once(batch: int) -> Run:
        loading = _seconds(first, made.device) if batch == 1 else None
        peak, before = watch_memory(made.device), _held(made.device)
        settings = subject.generation(subject.new_tokens, batch)
        work = partial(answer_all, cache, made.questions[:batch], loaded, settings, through_end=True)
        began = perf_counter()
        answers = list(work())
        total = perf_counter() - began
        times = answers[0].seconds
        step = (times["total"] - times["first_token"]) / (subject.new_tokens - 1)
        return Run(loading, step, total, _over(peak(), before))

    return once


def worker_of(subject: Subject, made: Made, source: str) -> Callable[[], Callable[[int], object]]:
    """What answers for a source."""
    if source == TRANSFORMERS:
        return partial(answer_plainly, subject, made)
    return partial(answer_from, subject, made, source)


def _timed(work: Callable[[], _T], loaded: LoadedModel) -> tuple[_T, float]:
    found: list[_T] = []
    seconds = _seconds(lambda: found.append(work()), loaded.model.device.type)
    return found[0], seconds


def _seconds(work: Callable[[], object], device: str) -> float:
    began = _now(device)
    work()
    return _now(device) - began


def _now(device: str) -> float:
    """Seconds on the clock once the device has done all it was told to."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
    return perf_counter()


def _held(device: str) -> int | None:
    if device == "cuda":
        import torch

        return torch.cuda.memory_allocated()
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    import resource

    return pages * resource.getpagesize()


def _over(peak: int | None, before: int | None) -> int | None:
    return None if peak is None or before is None else max(0, peak - before)

"""The whole jobs, each one call: documents to file, file to answers, full file to small file, file to verdict."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flowmm.chosen import chosen_model, load_chosen_model
from flowmm.errors import MismatchError, UsageError
from flowmm.header import Header, read_header
from flowmm.header import verify as verify_checksums
from flowmm.inputs.options import ReadOptions
from flowmm.plan import Clock, Plan
from flowmm.plan import CompressOptions as CompressOptions
from flowmm.plan import Progress as Progress
from flowmm.records import Generation, ModelOptions, Part

if TYPE_CHECKING:
    from flowmm.byte_planner import Planned
    from flowmm.context import ContextCache
    from flowmm.hf.loading import LoadedModel
    from flowmm.observe.scout import Scouted

Notice = Callable[[str], None]

_READ = ReadOptions()
_MODEL = ModelOptions()
_GREEDY = Generation()
_COMPRESS = CompressOptions()


@dataclass(frozen=True)
class Verdict:
    """What ``verify`` found: checksums are always checked; the rest only with a model."""

    header: Header
    tensors_checked: int
    bytes_checked: int
    model_matches: bool | None = None
    probe_matches: bool | None = None  # None: not asked for, or no probe is stored
    probe_difference: float | None = None  # largest difference of the stored top logits


def prefill_file(
    paths: Sequence[str],
    output: str | Path,
    *,
    read: ReadOptions = _READ,
    model: ModelOptions = _MODEL,
    scout: str | None = None,
    compression: CompressOptions = _COMPRESS,
    system: str | None = None,
    chunk_tokens: int = 2048,
    kv_dtype: str | None = None,
    force: bool = False,
    provenance: bool = True,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> Header:
    """Read documents, compress, write.

    Args:
        scout: for a method such as ``smallkv``, the smaller model of the same family whose scores it takes.
        provenance: whether the file says where it came from, see :mod:`flowmm.withheld`.

    Returns:
        The header of the file written.

    Raises:
        FlowmmError: see :mod:`flowmm.errors`; nothing is left under ``output`` then.
    """
    from flowmm.atomic import check_apart, check_target
    from flowmm.inputs import read as read_documents

    check_target(output, force=force)
    check_apart(output, paths)
    name = chosen_model(model)
    plan = Plan.early(name, compression)
    plan.check_scout(scout)
    clock = Clock(progress)
    parts = read_documents(
        paths, plan.reading(read), on_file=lambda _, done, total: clock.progress("read", done, total)
    )
    clock.lap("read")
    if notice is not None and model.name is None and not os.environ.get("FLOWMM_MODEL"):
        notice("no model was named: the embedded reader reads (a demo model; name a real one with -m)")
    from flowmm.agreeing import compressed_and_compared
    from flowmm.byte_planner import Job, Planned  # not before: what the documents fail by needs no torch
    from flowmm.contexts import read_context
    from flowmm.held_out import held_out_questions, text_of
    from flowmm.observe.gate_file import gate_of
    from flowmm.store import stored_dtype

    scouted = _scouted(parts, scout, model, plan, system, chunk_tokens, compression.seed, clock)
    loaded = load_chosen_model(model)
    clock.lap("model")
    plan = plan.completed(loaded.family.name)
    plan.check_scout(scout)
    cache = read_context(
        parts,
        loaded,
        plan.method,
        passes=plan.passes,
        gate=gate_of(plan.known_profile, loaded, plan.method),
        system=system,
        chunk_tokens=chunk_tokens,
        seed=compression.seed,
        progress=clock.progress,
        notice=notice,
        scouted=scouted,
    )
    clock.seconds |= cache.provenance.seconds
    clock.skip()
    bare = partial(_bare, provenance=provenance)

    def finish(small: ContextCache, name: str) -> ContextCache:
        clock.lap("compress")
        return _finished(small, loaded, name, clock)

    questions = held_out_questions(parts)
    if plan.method is None:
        cache = replace(cache, provenance=replace(cache.provenance, held_out=questions))
        made = Planned(bare(_finished(cache, loaded, kv_dtype, clock)), stored_dtype(cache, kv_dtype))
    else:
        how = Job(plan.method, plan.known_profile, compression, kv_dtype, clock.progress, finish, bare)
        made = compressed_and_compared(cache, questions, loaded, how, text=text_of(parts))
    return _written(made, output, force, clock)


def compress_file(
    source: str | Path,
    output: str | Path,
    *,
    compression: CompressOptions = _COMPRESS,
    model: ModelOptions = _MODEL,
    kv_dtype: str | None = None,
    force: bool = False,
    provenance: bool = True,
    progress: Progress | None = None,
) -> Header:
    """Make a small file from a full one, without the documents; as :func:`prefill_file`.

    The model is needed for ``compression.min_agreement`` alone; which one it is, the file says.
    """
    from flowmm.agreeing import compressed_later
    from flowmm.atomic import check_apart, check_target
    from flowmm.byte_planner import Job
    from flowmm.store import load

    check_target(output, force=force)
    check_apart(output, [source])
    header = read_header(source)
    made = header.provenance.model
    plan = Plan.early(made.id, compression).completed(made.model_type)
    if plan.method is None:
        raise UsageError("there is nothing to do without compression", "Leave --no-compress away.")
    clock = Clock(progress)
    clock.progress("read", 0, 1)
    cache = load(source)
    clock.lap("read")

    def finish(small: ContextCache, _name: str) -> ContextCache:
        clock.lap("compress")
        seconds = {**cache.provenance.seconds, "compress": clock.seconds["compress"]}
        return replace(small, provenance=replace(small.provenance, probe=None, seconds=seconds))

    bare = partial(_bare, provenance=provenance)
    how = Job(plan.method, plan.known_profile, compression, kv_dtype, clock.progress, finish, bare)
    return _written(compressed_later(cache, header, model, how), output, force, clock)


def verify_file(path: str | Path, *, model: ModelOptions | None = None) -> Verdict:
    """Check every checksum, and with ``model`` the identity and the stored probe.

    Raises:
        CorruptFileError: a checksum is wrong. MismatchError: the model is another, or answers the probe differently.
    """
    header = verify_checksums(path)
    verdict = Verdict(header, len(header.tensors), sum(entry.end - entry.start for entry in header.tensors.values()))
    if model is None:
        return verdict
    from flowmm.probe import replay
    from flowmm.sessions import load_model_of
    from flowmm.store import load

    loaded = load_model_of(header, model)
    expected, found = str(header.provenance.model.processor), str(loaded.identity.processor)
    if expected != found:
        hint = "Use the processor the context was read with, or prefill again."
        raise MismatchError(str(path), "image processor", expected[:16], found[:16], hint)
    probe = header.provenance.probe
    if probe is None:
        return replace(verdict, model_matches=True)
    difference, close = replay(probe, load(path), loaded)
    if not close:
        raise MismatchError(
            str(path),
            "probe logits",
            "as stored",
            f"logits that differ by {difference:.3g}",
            "Same weights, other results: check --dtype, the device and the versions of torch and transformers.",
        )
    return replace(verdict, model_matches=True, probe_matches=True, probe_difference=difference)


def _scouted(
    parts: Sequence[Part],
    scout: str | None,
    model: ModelOptions,
    plan: Plan,
    system: str | None,
    chunk_tokens: int,
    seed: int,
    clock: Clock,
) -> Scouted | None:
    """What a scout sees, if one is sent; it runs as the model does."""
    if scout is None:
        return None
    from flowmm.scouting import send_scout

    scouted = send_scout(
        parts,
        replace(model, name=scout, revision=None),
        plan.known_method,
        system=system,
        chunk_tokens=chunk_tokens,
        seed=seed,
        progress=clock.progress,
    )
    clock.lap("scout")
    return scouted


def _finished(cache: ContextCache, loaded: LoadedModel, kv_dtype: str | None, clock: Clock) -> ContextCache:
    """With the probe and what the run cost."""
    from flowmm.hf.loading import peak_memory
    from flowmm.probe import take_probe
    from flowmm.store import stored_dtype

    probe = take_probe(cache, loaded, stored_dtype(cache, kv_dtype))
    clock.skip()
    provenance = replace(
        cache.provenance, probe=probe, seconds=dict(clock.seconds), peak_memory_bytes=peak_memory(loaded)
    )
    return replace(cache, provenance=provenance)


def _bare(cache: ContextCache, *, provenance: bool) -> ContextCache:
    """What is to be written of a cache."""
    if provenance:
        return cache
    from flowmm.withheld import without_provenance

    return replace(cache, provenance=without_provenance(cache.provenance))


def _written(made: Planned, output: str | Path, force: bool, clock: Clock) -> Header:
    from flowmm.store import save

    clock.progress("write", 0, 1)
    header = save(made.cache, output, kv_dtype=made.kv_dtype, force=force, most_bytes=made.most_bytes)
    clock.progress("write", 1, 1)
    return header

"""`flowmm inspect`: what a context file says of itself; reads the header only, without torch."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flowmm_cli import options as o
from flowmm_cli import output
from flowmm_cli.output import bar, human_bytes, human_seconds, percent

if TYPE_CHECKING:
    from flowmm import Header

_COLUMNS = ("layer", "kind", "flow", "", "strategy", "slots", "kept by modality", "merged", "bytes", "error")


def inspect(file: o.ContextFile, json: o.Json = False) -> None:
    """Show what a context file holds, layer by layer."""
    from flowmm import read_header

    header = read_header(file)
    if json:
        output.put_json({**header.as_dict(), **_derived(header)})
        return
    for line in _facts(file, header):
        output.put(line)
    output.put("")
    output.put_table(_COLUMNS, [_layer(header, i) for i in range(len(header.layers))], right=(0, 2, 5, 7, 8, 9))


def _derived(header: "Header") -> dict[str, Any]:
    compression = header.provenance.compression
    lost, agreed = (compression.diagnostics, compression.agreement) if compression else (None, None)
    return {
        "num_slots": header.num_slots,
        "num_slots_full": header.num_slots_full,
        "bytes_full": header.full_bytes,
        "keep_reached": header.keep,
        "reader_learns": _learned(header),
        "bits_per_number": header.bits_per_number,
        "num_slots_in_16_bits": header.num_exact,
        "bytes_by_part": header.bytes_by_part,
        "bytes_by_layer": [header.layer_bytes(i) for i in range(len(header.layers))],
        "loss": None
        if lost is None
        else {
            "agreement": None if agreed is None else asdict(agreed),
            "held_out_error_mean": lost.error_mean,
            "held_out_error_max": lost.error_max,
            "evicted_everywhere": lost.evicted_everywhere,
        },
    }


def _facts(file: str, header: "Header") -> Iterator[str]:
    made = header.provenance
    revision = f" at {made.model.revision[:12]}" if made.model.revision else ""
    compression = made.compression
    yield f"{file}: context file, format {header.format_version}, {human_bytes(header.file_bytes)}"
    yield f"model     {made.model.id}{revision} ({made.model.model_type}, {made.model.dtype})"
    yield f"weights   {made.model.weights[:16]}"
    yield f"created   {made.created or 'not recorded'}"
    yield f"tokens    {header.num_tokens}, next position {header.next_position}"
    yield f"slots     {header.num_slots} of {header.num_slots_full} ({percent(header.keep)})"
    yield f"stored    {_stored(header)}"
    yield f"bytes     {human_bytes(header.full_bytes)} full -> {human_bytes(header.file_bytes)} in the file"
    yield f"parts     {', '.join(f'{part} {human_bytes(size)}' for part, size in header.bytes_by_part.items() if size)}"
    if compression is None:
        yield "method    none: every slot is here"
    else:
        trained = ", trained through the model" if compression.trained else ""
        yield f"method    {compression.method}, profile {compression.profile}, seed {compression.seed}{trained}"
        yield f"keep      {percent(compression.keep_asked)} asked, {percent(compression.keep_reached)} reached"
        if compression.planned is not None:
            yield f"planned   {compression.planned}"
    if made.scout is not None:
        scout, overlap = made.scout.model, percent(made.scout.overlap_mean)
        yield f"scout     {scout.id} (weights {scout.weights[:16]}), heads overlap by {overlap}"
    yield from (f"lost      {line}" for line in _lost(header))
    if made.seconds:
        yield f"times     {', '.join(f'{phase} {human_seconds(s)}' for phase, s in made.seconds.items())}"
    for span in made.sources:
        page = f" page {span.source.page}" if span.source.page is not None else ""
        yield f"source    {span.source.name}{page} ({span.source.kind}): tokens {span.start} to {span.end - 1}"
    yield f"tells     {_learned(header)}"


def _learned(header: "Header") -> str:
    """What whoever gets the file can learn from it."""
    made, told = header.provenance, []
    documents = len({(span.source.name, span.source.sha256) for span in made.sources})
    if documents:
        told.append(f"names and hashes of {documents} document{'' if documents == 1 else 's'}")
    if made.model.local and made.model.id != made.model.model_type:
        told.append(f"the model's folder as {made.model.id}")
    if made.created or made.seconds or made.versions:
        told.append("when and with what it was made")
    if made.held_out:
        told.append("words of the documents in held-out questions")
    if made.compression is not None and (made.compression.method_text.strip("{}\n") or made.compression.profile_text):
        told.append("texts of method and profile")
    known = ", ".join(told) or "no name, hash, text or time"
    return f"{known}; and to whoever has the model what the documents say, for it can be asked"


def _stored(header: "Header") -> str:
    """The precision, what it comes to with its scales, and the slots that stay out of it."""
    used = "" if header.bits_per_number is None else f", {header.bits_per_number:.2f} bits a number"
    apart = f"; {header.num_exact} slots in bf16" if header.num_exact else ""
    return f"{header.kv_dtype}{used}{apart}"


def _lost(header: "Header") -> Iterator[str]:
    """Held-out attention error, what is gone everywhere, how far heads agree, as far as it was measured."""
    compression = header.provenance.compression
    if compression is None or compression.diagnostics is None:
        yield "nothing" if compression is None else "not measured"
        return
    found = compression.diagnostics
    if compression.agreement is not None:
        yield _agrees(asdict(compression.agreement))
    mean, worst = found.error_mean, found.error_max
    error = "not measured" if mean is None or worst is None else f"mean {percent(mean)}, max {percent(worst)}"
    yield f"held-out attention error {error}{_each(found.error_by_query)}"
    gone = percent(found.evicted_everywhere)
    yield f"evicted everywhere: {gone} of the tokens{_each(found.evicted_everywhere_by_modality)}"
    if found.head_consensus is not None:
        yield f"favourite tokens of the query heads, distinct ones per head: {found.head_consensus:.2f}"


def _agrees(found: Mapping[str, float]) -> str:
    """What held-out questions lose, as a sentence."""
    return (
        f"to {found['questions']} questions that no method has seen it gives {percent(found['top1'])} of the "
        f"{found['sure']} answer tokens that the full cache is sure of (KL {found['kl']:.3f} nats); of the "
        f"{found['important']} context tokens that they look at {percent(found['important_gone'])} are gone everywhere"
    )


def _each(shares: Mapping[str, float]) -> str:
    """Shares by modality, in brackets."""
    named = ", ".join(f"{name} {percent(share)}" for name, share in shares.items())
    return f" ({named})" if named else ""


def _layer(header: "Header", index: int) -> tuple[str, ...]:
    layer = header.layers[index]
    compression = header.provenance.compression
    record = compression.layers[index] if compression else None
    flow = record.flow if record else None
    if flow is None and index < len(header.provenance.flow):
        flow = header.provenance.flow[index]
    diagnostics = compression.diagnostics if compression else None
    lost = diagnostics.layers[index] if diagnostics else None
    kept = ", ".join(f"{name} {count}" for name, count in record.kept.items()) if record else "all"
    return (
        str(index),
        layer.kind if layer.window is None else f"sliding {layer.window}",
        "" if flow is None else f"{flow.rho:.3f}",
        "" if flow is None else bar(flow.rho),
        (record.strategy if record else None) or "-",
        str(layer.num_slots),
        kept,
        str(record.merged) if record else "0",
        human_bytes(header.layer_bytes(index)),
        "-" if lost is None or lost.error is None else percent(lost.error),
    )

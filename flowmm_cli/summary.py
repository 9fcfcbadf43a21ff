"""What was written: the lines and the JSON object that `prefill` and `compress` end with."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowmm_cli.output import human_bytes, human_seconds, percent, put_json, say

if TYPE_CHECKING:
    from flowmm import Header


def as_dict(path: Path, header: "Header") -> dict[str, Any]:
    """Raw numbers, units in the names."""
    provenance = header.provenance
    compression = provenance.compression
    return {
        "file": str(path),
        "model": provenance.model.id,
        "method": compression.method if compression else None,
        "tokens": header.num_tokens,
        "slots": header.num_slots,
        "slots_full": header.num_slots_full,
        "keep_asked": compression.keep_asked if compression else None,
        "keep_reached": header.keep,
        "agreement": compression.agreement.top1 if compression and compression.agreement else None,
        "bytes_full": header.full_bytes,
        "bytes_file": header.file_bytes,
        "seconds": dict(provenance.seconds),
        "peak_memory_bytes": provenance.peak_memory_bytes,
    }


def lines(path: Path, header: "Header") -> list[str]:
    """For people: what was kept, what it takes on disk, what it cost."""
    provenance = header.provenance
    made = provenance.compression
    how = f", method {made.method}" if made else ", not compressed"
    cost = [f"{phase} {human_seconds(value)}" for phase, value in provenance.seconds.items()]
    if provenance.peak_memory_bytes is not None:
        cost.append(f"peak memory {human_bytes(provenance.peak_memory_bytes)}")
    return [
        f"{path}: {header.num_tokens} tokens, {header.num_slots} of {header.num_slots_full} slots kept "
        f"({percent(header.keep)}){how}",
        f"{human_bytes(header.full_bytes)} of keys and values -> {human_bytes(header.file_bytes)} on disk",
        *([f"held-out answers: {percent(made.agreement.top1)} of the tokens stay"] if made and made.agreement else []),
        *([", ".join(cost)] if cost else []),
    ]


def show(path: Path, header: "Header", *, json: bool, stats: bool, quiet: bool) -> None:
    """The end of a command that wrote a file: JSON on stdout if asked for, else lines on stderr."""
    if json:
        put_json(as_dict(path, header))
    if stats or not (json or quiet):
        for line in lines(path, header):
            say(line)

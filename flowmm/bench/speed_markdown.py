"""What `bench speed` writes into a document, and its rows, which the command line shows too."""

from __future__ import annotations

from flowmm.bench.markdown import machine, table
from flowmm.bench.speed_report import FULL, TRANSFORMERS, Arm, SpeedReport, Spread

_RATIOS = {
    "first_token_vs_prefill": "first token: transformers reading the context again, over the smallest file",
    "first_token_vs_full_file": "first token: the saved full cache over the smallest file",
    "decode_vs_hf_full": "decoding, one question: transformers with its full cache over the smallest file",
    "batch64_vs_single": "questions a second, smallest file: 64 side by side over one by one",
}


def speed_section(report: SpeedReport, command: str) -> str:
    """The section of one model and length."""
    best = f"{report.machine.bandwidth / 1e9:.1f} GB/s read and {report.machine.rate / 1e9:.0f} G operations/s"
    compressed = ", ".join(f"{seconds:.2f} s to {share}" for share, seconds in report.compress_seconds.items())
    lines = [
        f"`{command}` on {machine(report.device)}",
        "",
        f"{report.model}, {report.dtype}, {report.context} tokens of text, compressed by `{report.method}`, questions "
        f"of {report.question} tokens, answers of {report.new_tokens}. Medians of {report.repeat} interleaved runs, "
        f"lowest and highest in brackets. This machine at best, measured just before: {best}. Once, not repeated: "
        f"prefill with all that the method observes {report.prefill_seconds:.1f} s; compression {compressed}.",
        "",
        *table(COLUMNS, [row(arm) for arm in report.arms]),
        "",
        *table(("ratio", ""), ratio_rows(report)),
    ]
    return "\n".join(lines)


COLUMNS = (
    *("from", "questions", "first token", "its floor", "a step", "its floor", "tokens/s", "questions/s"),
    *("memory grew", "tails"),
)


def row(arm: Arm) -> tuple[str, ...]:
    """One arm in :data:`COLUMNS`."""
    names = {TRANSFORMERS: "transformers, full cache", FULL: "file, full cache"}
    asked = arm.questions_per_second
    return (
        names.get(arm.source, f"file, {arm.source}"),
        str(arm.batch),
        "" if arm.first_token is None else _milliseconds(arm.first_token),
        "" if arm.first_token is None else f"{1e3 * arm.first_token_floor:.1f}",
        _milliseconds(arm.step),
        f"{1e3 * arm.step_floor:.1f}",
        f"{arm.batch / arm.step.median:.0f}",
        "" if asked is None else f"{asked:.2f}",
        "" if arm.grown_bytes is None else f"{arm.grown_bytes / 1e6:.0f} MB",
        f"{arm.tail_bytes / 1e6:.1f} MB",
    )


def ratio_rows(report: SpeedReport) -> list[tuple[str, str]]:
    """What each ratio is, and how large."""
    return [(_RATIOS[name], times(ratio)) for name, ratio in report.ratios.items()]


def times(ratio: float | None) -> str:
    """A ratio as text."""
    return "not measured" if ratio is None else f"{ratio:.1f} x"


def _milliseconds(spread: Spread) -> str:
    one, low, high = (f"{1e3 * seconds:.1f}" for seconds in (spread.median, spread.low, spread.high))
    return f"{one} ms ({low}-{high})"

"""One chart as SVG, drawn with the standard library: a score against shares (of slots, of bytes), a line each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_LEFT, _TOP, _WIDE, _HIGH = 64, 56, 600, 420  # the plot, in pixels
_LEGEND = 236  # width, to the right of it
_LINE = 18  # height of a line of the legend
_FOOT = 56
_SPREAD = 0.62  # of the room between two shares, over which the methods at one share stand side by side, at most
_APART = 12  # pixels between two of them, at most
# Colours that differ in lightness too (Okabe and Ito, and two of Tol's), so that they hold up in grey and for the
# colour-blind; when they are used up they come again with the next dash and shape.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9", "#882255", "#777777")
_DASHES = ("", "7 3", "2 3")
_SHAPES = ("circle", "square", "triangle")


@dataclass(frozen=True)
class Point:
    """A score at a share of what is kept, with its interval."""

    keep: float
    score: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Curve:
    """One method or precision; points ascend in ``keep``."""

    name: str
    points: tuple[Point, ...]


def curve_svg(
    title: str, score: str, curves: Sequence[Curve], levels: Mapping[str, float], across: str = "slots kept"
) -> str:
    """The chart. Shares stand at even distances, methods at one share side by side, so that bars do not hide bars.

    Args:
        title: above it.
        score: what the vertical axis is called; it runs from 0 to 1.
        curves: one line each.
        levels: horizontal lines by name, such as the full cache.
        across: what the horizontal axis is called.
    """
    ordered = sorted(curves, key=lambda curve: (-_mean(curve), curve.name))  # the legend reads like the chart
    keeps = sorted({point.keep for curve in curves for point in curve.points})
    height = max(_TOP + _HIGH + _FOOT, _TOP + _LINE * (len(ordered) + len(levels) + 1) + 12)
    width = _LEFT + _WIDE + _LEGEND
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="28" font-size="15" font-weight="bold">{escape(title)}</text>',
        *_axes(score, across, keeps),
        *_levels(levels),
    ]
    for number, curve in enumerate(ordered):
        lines += _curve(curve, number, len(ordered), keeps)
    lines += _legend([curve.name for curve in ordered], levels)
    return "\n".join([*lines, "</svg>", ""])


def _mean(curve: Curve) -> float:
    return sum(point.score for point in curve.points) / max(1, len(curve.points))


def _y(score: float) -> float:
    return round(_TOP + _HIGH * (1 - score), 1)


def _x(place: int, places: int, number: int = 0, count: int = 1) -> float:
    """Of method ``number`` of ``count`` at share ``place`` of ``places``."""
    room = _WIDE / max(1, places)
    aside = min(_APART, _SPREAD * room / max(1, count - 1)) * (number - (count - 1) / 2)
    return round(_LEFT + room * (place + 0.5) + aside, 1)


def _axes(score: str, across: str, keeps: Sequence[float]) -> list[str]:
    right, bottom = _LEFT + _WIDE, _TOP + _HIGH
    lines = []
    for tick in range(0, 11, 2):
        y = _y(tick / 10)
        lines.append(f'<path d="M{_LEFT} {y}H{right}" stroke="#ddd"/>')
        lines.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{tick / 10:g}</text>')
    for place, keep in enumerate(keeps):
        if place:
            border = round(_LEFT + _WIDE * place / len(keeps), 1)
            lines.append(f'<path d="M{border} {_TOP}V{bottom}" stroke="#eee"/>')
        lines.append(
            f'<text x="{_x(place, len(keeps))}" y="{bottom + 20}" text-anchor="middle">{100 * keep:g} %</text>'
        )
    middle = _TOP + _HIGH / 2
    return [
        *lines,
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#222"/>',
        f'<text x="{_LEFT + _WIDE / 2}" y="{bottom + 42}" text-anchor="middle">{escape(across)}</text>',
        f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">{escape(score)}</text>',
    ]


def _levels(levels: Mapping[str, float]) -> list[str]:
    return [
        f'<path d="M{_LEFT} {_y(score)}h{_WIDE}" {_level_look(number)}>'
        f"<title>{escape(name)}: {score:.3f}</title></path>"
        for number, (name, score) in enumerate(levels.items())
    ]


def _level_look(number: int) -> str:
    colour, dash = (("#222", "12 4"), ("#aaa", "1 4"), ("#555", "12 4 2 4"))[number % 3]
    return f'stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dash}"'


def _curve(curve: Curve, number: int, count: int, keeps: Sequence[float]) -> list[str]:
    colour, dash = _look(number)[:2]
    at = [(_x(keeps.index(point.keep), len(keeps), number, count), point) for point in curve.points]
    path = " ".join(f"{x},{_y(point.score)}" for x, point in at)
    lines = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dash} opacity="0.75"/>']
    for x, point in at:
        if point.interval is not None:
            low, high = (_y(end) for end in point.interval)
            lines.append(f'<path d="M{x} {low}V{high}M{x - 2} {low}h4M{x - 2} {high}h4" stroke="{colour}"/>')
        told = f"{curve.name} at {100 * point.keep:g} %: {point.score:.3f}"
        lines.append(f"<g><title>{escape(told)}</title>{_mark(number, x, _y(point.score))}</g>")
    return lines


def _legend(names: Sequence[str], levels: Mapping[str, float]) -> list[str]:
    x, lines = _LEFT + _WIDE + 20, []
    for number, name in enumerate(levels):
        y = _TOP + 4 + _LINE * number
        lines.append(f'<path d="M{x} {y}h30" {_level_look(number)}/>')
        lines.append(f'<text x="{x + 38}" y="{y + 4}">{escape(name)}</text>')
    for number, name in enumerate(names):
        y = _TOP + 10 + _LINE * (number + len(levels))
        colour, dash = _look(number)[:2]
        lines.append(f'<path d="M{x} {y}h30" stroke="{colour}" stroke-width="1.6"{dash}/>{_mark(number, x + 15, y)}')
        lines.append(f'<text x="{x + 38}" y="{y + 4}">{escape(name)}</text>')
    return lines


def _look(number: int) -> tuple[str, str, str]:
    """Colour, dash (as an attribute) and shape of a line."""
    again = number // len(_COLOURS) % len(_DASHES)
    dash = f' stroke-dasharray="{_DASHES[again]}"' if _DASHES[again] else ""
    return _COLOURS[number % len(_COLOURS)], dash, _SHAPES[again]


def _mark(number: int, x: float, y: float) -> str:
    colour, _, shape = _look(number)
    if shape == "circle":
        return f'<circle cx="{x}" cy="{y}" r="3.4" fill="{colour}"/>'
    if shape == "square":
        return f'<rect x="{x - 3.2:.1f}" y="{y - 3.2:.1f}" width="6.4" height="6.4" fill="{colour}"/>'
    side = 4.4
    low = y + side * math.sin(math.pi / 6)
    half = side * math.cos(math.pi / 6)
    return f'<path d="M{x} {y - side:.1f}L{x + half:.1f} {low:.1f}L{x - half:.1f} {low:.1f}Z" fill="{colour}"/>'

"""The chart is XML, shows every point at its height, and tells methods apart."""

import xml.etree.ElementTree as ET

from flowmm.bench.curve_svg import Curve, Point, curve_svg

SVG = "{http://www.w3.org/2000/svg}"
CURVES = [
    Curve("low & <odd>", (Point(0.05, 0.0, (0.0, 0.1)), Point(0.2, 0.25, (0.2, 0.3)))),
    Curve("high", (Point(0.05, 0.5, None), Point(0.2, 1.0, (0.9, 1.0)))),
]


def drawn(curves=CURVES, levels=None):
    return ET.fromstring(curve_svg("suite: a < b", "exact match", curves, levels or {"full cache": 1.0}))


def points_of(tree):
    return [
        [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
        for line in tree.iter(f"{SVG}polyline")
    ]


def test_heights_run_from_0_at_the_bottom_to_1_at_the_top():
    high, low = points_of(drawn())
    assert [y for _, y in high] == [56 + 210, 56]
    assert [y for _, y in low] == [56 + 420, 56 + 315]


def test_every_bar_runs_between_the_ends_of_its_interval():
    bars = [path.get("d") for path in drawn().iter(f"{SVG}path") if "h4M" in path.get("d")]
    assert len(bars) == 3
    assert any("56.0" in bar and "98.0" in bar for bar in bars)  # 1.0 and 0.9


def test_methods_at_one_share_stand_side_by_side_in_the_order_of_the_legend():
    tree = drawn()
    high, low = points_of(tree)
    assert all(a[0] < b[0] for a, b in zip(high, low, strict=True))
    texts = [text.text for text in tree.iter(f"{SVG}text")]
    assert texts.index("full cache") < texts.index("high") < texts.index("low & <odd>")
    assert {"suite: a < b", "exact match", "slots kept", "5 %", "20 %"} <= set(texts)


def test_as_many_methods_as_there_are_look_different():
    many = [Curve(f"m{number}", (Point(0.1, 0.5, None),)) for number in range(26)]
    looks = {(line.get("stroke"), line.get("stroke-dasharray")) for line in drawn(many).iter(f"{SVG}polyline")}
    assert len(looks) == 26


def test_a_run_without_methods_still_gives_a_chart():
    assert not points_of(drawn([]))

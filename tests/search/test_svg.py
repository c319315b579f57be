"""The pictures of a search's report."""

import re

from pock_tvm.search.svg import (
    Axis,
    Mark,
    bars,
    best_at_their_price,
    byte_axis,
    curves,
    scatter,
    ticks,
)

MARKS = [
    Mark(2.0 * 2**20, 0.5, "a", 0.1),
    Mark(3.0 * 2**20, 0.4, "b", 0.0),
    Mark(4.0 * 2**20, 0.9, "<c>", 0.0),
]


def numbers(picture):
    return [float(t) for t in re.findall(r"<text[^>]*>(-?[\d.]+)</text>", picture)]


def test_ticks_are_round_and_inside():
    assert ticks(0.03, 0.97) == [0.2, 0.4, 0.6000000000000001, 0.8]
    assert ticks(-12, 31) == [-10, 0, 10, 20, 30]
    assert ticks(1, 1) == [1]


def test_bytes_stand_in_a_unit_that_suits_them():
    assert byte_axis("x", [3 * 2**20]) == Axis("x, MiB", 2**20)
    assert byte_axis("x", [3 * 2**10]).label == "x, KiB"
    assert 3 in numbers(scatter(MARKS, byte_axis("x", [m.x for m in MARKS]), Axis("y")))


def test_the_frontier_holds_what_nothing_cheaper_beats():
    assert [m.name for m in best_at_their_price(MARKS)] == ["a", "<c>"]


def test_names_do_not_lie_on_each_other():
    close = [Mark(1.0, 0.5 + k / 1000, f"scheme {k}", 0.0) for k in range(5)]
    picture = scatter([*close, Mark(2.0, 1.0, "far", 0.0)], Axis("x"), Axis("y"), named=True)
    lines = [float(y) for y in re.findall(r"y='([\d.]+)' text-anchor='start'>scheme", picture)]
    assert len(lines) == 5
    assert all(b - a >= 14 for a, b in zip(sorted(lines), sorted(lines)[1:], strict=False))


def test_what_is_drawn_is_escaped():
    pictures = [bars(MARKS), scatter(MARKS, Axis("<x>"), Axis("y"), named=True)]
    pictures.append(curves({"<c>": [(0.0, 1.0), (2.0, 3.0)]}, Axis("x"), Axis("y")))
    for picture in pictures:
        assert "<c>" not in picture
        assert "&lt;c&gt;" in picture


def test_a_curve_holds_until_its_next_value():
    picture = curves({"a": [(0.0, 0.0), (1.0, 1.0)]}, Axis("x"), Axis("y"))
    (path,) = re.findall(r"points='([^']+)'", picture)
    (x0, y0), (x1, y1), (x2, y2) = (map(float, p.split(",")) for p in path.split())
    assert y0 == y1 > y2
    assert x0 < x1 == x2


def test_nothing_to_draw():
    assert scatter([], Axis("x"), Axis("y")) == curves({}, Axis("x"), Axis("y")) == ""
    assert "circle" in scatter(MARKS[:1], Axis("x"), Axis("y"))

"""Charts: well-formed, to scale, and safe with any name."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from monitor.web.svg import HEIGHT, WIDTH, Bar, Hour, Point, histogram, hours, shares, spark, timeline

LETTER = 6.5  # what a digit is wide at 13 units in the usual fonts
NASTY = "<script>\"&'</script>"


def dots(root: ET.Element) -> list[tuple[float, float]]:
    """Where the marks of drift stand."""
    (path,) = [e for e in root.iter("path") if e.get("class") == "d"]
    return [(float(x), float(y)) for x, y in re.findall(r"M([\d.]+) ([\d.]+)h0", path.get("d", ""))]


def written(root: ET.Element) -> list[tuple[float, float, float]]:
    """(left end, right end, y) of every text on a chart, by a letter's usual width."""
    found = []
    for text in root.iter("text"):
        width = LETTER * len(text.text or "")
        x = (
            float(text.get("x", ""))
            - {"start": 0.0, "middle": 0.5, "end": 1.0}[text.get("text-anchor", "")] * width
        )
        found.append((x, x + width, float(text.get("y", ""))))
    return found


def test_bars_are_to_scale() -> None:
    bars = [Bar(label="a", baseline=0.5, window=0.25), Bar(label="b", baseline=0.5, window=0.75)]
    root = ET.fromstring(histogram(bars, title="t", description="d"))
    heights = {
        r.get("class", "") + str(i): float(r.get("height", "0"))
        for i, g in enumerate(root.iter("g"))
        for r in g.iter("rect")
    }
    assert heights["w1"] == max(heights.values())
    assert abs(heights["b0"] / heights["w1"] - 0.5 / 0.75) < 0.01
    assert abs(heights["w0"] / heights["w1"] - 0.25 / 0.75) < 0.01


def test_names_from_outside_cannot_leave_the_text() -> None:
    drawn = histogram([Bar(label=NASTY, baseline=1.0, window=0.0)], title=NASTY, description=NASTY)
    root = ET.fromstring(drawn)
    assert not [e for e in root.iter() if e.tag == "script"]
    assert root.findtext("title") == NASTY


def test_an_empty_chart_is_still_a_chart() -> None:
    assert ET.fromstring(histogram([], title="t", description="d")).tag == "svg"
    assert ET.fromstring(timeline([], labels=[], title="t", description="d")).tag == "svg"


def test_the_line_at_one_lies_below_what_pages_and_every_drift_is_marked() -> None:
    points = [
        Point(at=0, value=0.0, drift=False),
        Point(at=60, value=20.0, drift=True),
        Point(at=90, value=1e300, drift=True),
    ]
    root = ET.fromstring(timeline(points, labels=[(0, "start")], title="t", description="d"))
    (line,) = [e for e in root.iter("line") if e.get("class") == "th"]
    (_, low), (_, high) = dots(root)
    assert 0 < high < low < float(line.get("y1", "")) < HEIGHT


def test_the_scale_is_one_of_powers_of_ten() -> None:
    points = [Point(at=at, value=10.0**-at, drift=True) for at in range(4)]
    root = ET.fromstring(timeline(points, labels=[], title="t", description="d"))
    heights = [y for _, y in dots(root)]
    steps = [b - a for a, b in pairwise(heights)]
    assert max(steps) - min(steps) < 0.2
    assert min(steps) > 0


def test_a_line_per_name_is_to_scale_and_says_its_shares() -> None:
    bars = [Bar(label="a", baseline=0.5, window=0.25), Bar(label=NASTY, baseline=0.0, window=0.01)]
    root = ET.fromstring(shares(bars, title="t", description="d"))
    widths = [float(rect.get("width", "")) for rect in root.iter("rect")]
    assert widths[1] == pytest.approx(widths[0] / 2, rel=0.01)
    texts = [text.text for text in root.iter("text")]
    assert texts == ["a", "50% → 25%", "<script>\"&'</…", "0% → 1.0%"]
    assert [g.findtext("title") for g in root.iter("g")] == [
        "a: baseline 50.0%, window 25.0%",
        f"{NASTY}: baseline 0.0%, window 1.0%",
    ]


@pytest.mark.parametrize("count", [1, 2, 5, 12, 20, 27])
@pytest.mark.parametrize("label", ["7", "12.5", "1,234,567", "-0.00001234", "a long name of a thing"])
def test_labels_under_the_bars_never_touch_and_stay_on_the_chart(count: int, label: str) -> None:
    bars = [Bar(label=label, edge=label, baseline=0.5, window=0.5) for _ in range(count)]
    bars.append(Bar(label="> 64.4", baseline=0.0, window=1.0, beyond=True))
    root = ET.fromstring(histogram(bars, title="t", description="d"))
    spots = sorted((left, right) for left, right, y in written(root) if y > HEIGHT - 10)
    assert spots[0][0] >= 0
    assert spots[-1][1] <= WIDTH
    assert all(left - right > 4 for (_, right), (left, _) in pairwise(spots))
    assert "> 64.4" in [text.text for text in root.iter("text")]


def test_the_ends_of_a_timeline_are_dated_on_the_chart() -> None:
    points = [Point(at=at, value=1.0, drift=False) for at in range(0, 1000, 10)]
    labels = [(0, "26 Jun"), (500, "08 Sep"), (990, "22 Nov")]
    root = ET.fromstring(timeline(points, labels=labels, title="t", description="d"))
    spots = [(left, right) for left, right, y in written(root) if y > HEIGHT - 10]
    assert len(spots) == 3
    assert all(left >= 0 and right <= WIDTH for left, right in spots)
    assert all(left > right for (_, right), (left, _) in pairwise(spots))


def test_wide_letters_are_cut_sooner() -> None:
    root = ET.fromstring(shares([Bar(label="漢" * 20, baseline=1.0, window=1.0)], title="t", description="d"))
    assert next(root.iter("text")).text == "漢" * 6 + "…"


def test_a_line_of_hours_is_to_scale_and_leaves_out_what_is_not_known() -> None:
    drawn = spark([0.0, 50.0, 100.0], [None, 200.0, 100.0], labels=("a", "b"), title=NASTY, description="d")
    root = ET.fromstring(drawn)
    lines = {
        e.get("class"): [tuple(map(float, p.split(","))) for p in e.get("points", "").split()]
        for e in root.iter("polyline")
    }
    (_, bottom), (_, quarter), (right, half) = lines["l"]
    (usual_x, top), (_, same) = lines["u"]
    assert bottom - quarter == pytest.approx((bottom - top) / 4)
    assert half == same == pytest.approx((bottom + top) / 2)
    assert usual_x == lines["l"][1][0]
    assert right <= WIDTH
    assert [e.text for e in root.iter("text")] == ["200", "0", "a", "b"]
    assert all(left >= 0 and end <= WIDTH for left, end, _ in written(root))


@pytest.mark.parametrize(
    ("top", "said"),
    [(0.25, "0.25"), (7.0, "7"), (999.4, "999"), (1_500.0, "1.5k"), (42_000.0, "42k"), (3e6, "3M")],
)
def test_the_scale_of_hours_fits_beside_them(top: float, said: str) -> None:
    root = ET.fromstring(spark([top, 0.0], [None, None], labels=("", ""), title="", description=""))
    assert next(root.iter("text")).text == said


def test_hours_without_a_row_are_a_line_at_the_bottom() -> None:
    root = ET.fromstring(spark([0.0, 0.0], [0.0, 0.0], labels=("", ""), title="", description=""))
    assert len({p.split(",")[1] for e in root.iter("polyline") for p in e.get("points", "").split()}) == 1


def week(found: list[Hour], count: int, *, limit: float | None = None) -> ET.Element:
    return ET.fromstring(
        hours(found, count, low=0.5, high=1.0, limit=limit, labels=[(0, "a")], title="t", description="d")
    )


def drawn(root: ET.Element, css: str) -> str:
    (path,) = [e for e in root.iter("path") if e.get("class") == css]
    return path.get("d", "")


def test_hours_without_a_value_are_gaps_and_one_alone_is_a_dot() -> None:
    values = [0.5, 1.0, None, 0.75, None, None, 0.5, 0.5]
    root = week([Hour(index=i, value=v, share=0.0) for i, v in enumerate(values)], 8)
    line = drawn(root, "l v")
    assert [part.count("L") for part in line.split("M")[1:]] == [1, 0, 1]
    assert ["h0" in part for part in line.split("M")[1:]] == [False, True, False]
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", line)]
    low, high = max(heights), min(heights)
    assert heights == [low, high, pytest.approx((low + high) / 2, abs=0.1), low, low]


def test_an_hour_that_is_missing_parts_the_line_and_the_strip() -> None:
    """A quiet hour has no row at all."""
    root = week([Hour(index=i, value=0.9, share=1.0) for i in (0, 1, 3)], 4)
    assert drawn(root, "l v").count("M") == 2
    assert drawn(root, "b").count("M") == 2


def test_the_strip_of_shares_is_to_scale_and_steady_hours_are_one_bar() -> None:
    shares_ = [1.0, 1.0, 0.5, 0.0, 0.5]
    strip = drawn(week([Hour(index=i, value=None, share=s) for i, s in enumerate(shares_)], 5), "b")
    bars = [(float(h), float(w)) for h, w in re.findall(r"v-([\d.]+)h([\d.]+)", strip)]
    (full, two), (half, one), (again, last) = bars
    assert (half, again) == (full / 2, full / 2)
    assert two == pytest.approx(2 * one, abs=0.2)
    assert one == last
    ends = [float(x) + w for x, (_, w) in zip(re.findall(r"M([\d.]+)", strip), bars, strict=True)]
    assert max(ends) <= WIDTH


def test_a_limit_lies_where_its_value_does() -> None:
    root = week([Hour(index=0, value=0.75, share=1.0), Hour(index=1, value=0.75, share=1.0)], 2, limit=0.75)
    (line,) = [e for e in root.iter("line") if e.get("class") == "th"]
    (y, _) = re.findall(r"[ML][\d.]+ ([\d.]+)", drawn(root, "l v"))
    assert float(line.get("y1", "")) == float(y)
    assert not [e for e in week([], 0).iter("line") if e.get("class") == "th"]

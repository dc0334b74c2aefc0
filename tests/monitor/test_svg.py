"""Charts: well-formed, to scale, and safe with any name."""

import xml.etree.ElementTree as ET
from itertools import pairwise

from monitor.web.svg import HEIGHT, Bar, Point, histogram, timeline

NASTY = "<script>\"&'</script>"


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
    low, high = list(root.iter("circle"))
    assert 0 < float(high.get("cy", "")) < float(low.get("cy", "")) < float(line.get("y1", "")) < HEIGHT


def test_the_scale_is_one_of_powers_of_ten() -> None:
    points = [Point(at=at, value=10.0**-at, drift=True) for at in range(4)]
    root = ET.fromstring(timeline(points, labels=[], title="t", description="d"))
    heights = [float(circle.get("cy", "")) for circle in root.iter("circle")]
    steps = [b - a for a, b in pairwise(heights)]
    assert max(steps) - min(steps) < 0.2
    assert min(steps) > 0

"""Charts as inline SVG, drawn by the server: no script, no font, no colour of their own.

Colours come from CSS classes, so that dark mode is the style sheet's business. Every chart carries a title
and a description for those who listen to the page. One unit is about a pixel of a phone; where the chart is shown
larger the style sheet makes the letters smaller, so that they stay the size of the text around them.
"""

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 340
HEIGHT = 170
_SPARK = 90
_HOURS, _STRIP = 126, 14
"""Heights of a chart of hours, and of the strip at its foot."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 6, 8, 22
_LOWEST, _HIGHEST = -6, 4
"""Powers of ten on a timeline of evidence."""
_LETTER = 7.5
"""Width of a letter, a little on the wide side of what browsers draw at 13 units."""
_LABEL_LETTERS = 14
_GAP = 8.0
_ROW = 26
_SAID = 96
"""Room for "35% → 4.6%" at the right of a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bin: its label and its share of the rows, then and now (0…1).

    `edge` is the number at the bin's right side, for axes that count along. `beyond` marks values outside the training
    range: their label is always written.
    """

    label: str
    baseline: float
    window: float
    edge: str = ""
    beyond: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One instant of a timeline: epoch seconds, the evidence, and whether a column was in drift."""

    at: int
    value: float
    drift: bool


def histogram(bars: Sequence[Bar], *, title: str, description: str) -> str:
    """Baseline (filled) against window (outlined) as shares per bin, side by side in their order."""
    top = max((max(bar.baseline, bar.window) for bar in bars), default=0.0) or 1.0
    step = (WIDTH - _LEFT - _RIGHT) / max(len(bars), 1)
    parts = [_open(HEIGHT, title, description), _axis(top)]
    for index, bar in enumerate(bars):
        x = _LEFT + index * step
        window = "w x" if bar.beyond else "w"
        parts.append(
            f"<g>{_hint(bar)}{_rect('b', x + 1, step - 2, bar.baseline / top)}"
            f"{_rect(window, x + 1, step - 2, bar.window / top)}</g>"
        )
    parts.extend(_text(x, HEIGHT - 6, "middle", label) for x, label in _ticks(bars, step))
    return "".join([*parts, "</svg>"])


def shares(bars: Sequence[Bar], *, title: str, description: str) -> str:
    """One line per name, with its bars lying beside it and the shares in words: for names, which need room."""
    top = max((max(bar.baseline, bar.window) for bar in bars), default=0.0) or 1.0
    left = max((_letters(_short(bar.label)) for bar in bars), default=0) * _LETTER + _GAP
    room = WIDTH - left - _SAID
    parts = [_open(_ROW * max(len(bars), 1), title, description)]
    for index, bar in enumerate(bars):
        y = index * _ROW
        rects = "".join(
            f'<rect class="{css}" x="{left:.1f}" y="{y + 5}" width="{max(share / top * room, 1):.1f}" height="16"/>'
            for css, share in (("b", bar.baseline), ("w", bar.window))
        )
        said = f"{_percent(bar.baseline)} → {_percent(bar.window)}"
        parts.append(
            f"<g>{_hint(bar)}{_text(left - 6, y + 17, 'end', _short(bar.label))}"
            f"{rects}{_text(WIDTH, y + 17, 'end', said)}</g>"
        )
    return "".join([*parts, "</svg>"])


def timeline(
    points: Sequence[Point], *, labels: Sequence[tuple[int, str]], title: str, description: str
) -> str:
    """Evidence over time on a scale of powers of ten; 1 is a dashed line, and instants in drift are marked."""
    parts = [_open(HEIGHT, title, description)]
    for power in range(_LOWEST, _HIGHEST + 1, 2):
        y = _y(_height(10.0**power))
        css = "th" if power == 0 else "g"
        parts.append(f'<line class="{css}" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        word = "1" if power == 0 else f"10{_superscript(power)}"
        parts.append(_text(_LEFT - 5, y + 4, "end", word))
    if points:
        first, span = points[0].at, max(points[-1].at - points[0].at, 1)

        def x_of(at: int) -> float:
            return _LEFT + (at - first) / span * (WIDTH - _LEFT - _RIGHT)

        places = [(f"{x_of(p.at):.1f}", f"{_y(_height(p.value)):.1f}") for p in points]
        parts.append(f'<polyline class="l" points="{" ".join(f"{x},{y}" for x, y in places)}"/>')
        # A line without length and with round ends is a dot, in a fifth of the bytes of a circle.
        dots = "".join(f"M{x} {y}h0" for (x, y), p in zip(places, points, strict=True) if p.drift)
        if dots:
            parts.append(f'<path class="d" d="{dots}"/>')
        parts.extend(_text(*_inside(x_of(at), label, HEIGHT), label) for at, label in labels)
    return "".join([*parts, "</svg>"])


def spark(
    now: Sequence[float],
    usual: Sequence[float | None],
    *,
    labels: tuple[str, str],
    title: str,
    description: str,
) -> str:
    """A line per hour on a scale from 0, over a dashed one of what is usual; `labels` stand at both ends."""
    top = max([*now, *(value for value in usual if value is not None)]) or 1.0
    step = (WIDTH - _RIGHT - _LEFT) / max(len(now) - 1, 1)

    def place(index: int, value: float) -> str:
        return f"{_LEFT + index * step:.1f},{_SPARK - _BOTTOM - value / top * (_SPARK - _BOTTOM - _TOP):.1f}"

    known = [place(i, value) for i, value in enumerate(usual) if value is not None]
    return "".join(
        [
            _open(_SPARK, title, description),
            _text(_LEFT - 5, _TOP + 5, "end", _round(top)),
            _text(_LEFT - 5, _SPARK - _BOTTOM + 4, "end", "0"),
            f'<line class="g" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{_SPARK - _BOTTOM}" y2="{_SPARK - _BOTTOM}"/>',
            f'<polyline class="u" points="{" ".join(known)}"/>',
            f'<polyline class="l" points="{" ".join(place(i, value) for i, value in enumerate(now))}"/>',
            _text(_LEFT, _SPARK - 6, "start", labels[0]),
            _text(WIDTH - _RIGHT, _SPARK - 6, "end", labels[1]),
            "</svg>",
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """One hour of a chart: its number from the first on, the value where there is one, and the share behind it (0…1)."""

    index: int
    value: float | None
    share: float


def hours(
    found: Sequence[Hour],
    count: int,
    *,
    low: float,
    high: float,
    limit: float | None,
    labels: Sequence[tuple[int, str]],
    title: str,
    description: str,
) -> str:
    """A line of values from `low` to `high` over `count` hours, with gaps, above a strip of shares; `limit` is dashed.

    `labels` stand under their hours.
    """
    step = (WIDTH - _LEFT - _RIGHT) / max(count, 1)
    floor = _HOURS - _BOTTOM - _STRIP - _GAP

    def y_of(value: float) -> float:
        part = (value - low) / ((high - low) or 1.0)
        return floor - min(max(part, 0.0), 1.0) * (floor - _TOP)

    heights = [("g", y_of(high)), ("g", floor), ("g", floor + _GAP)]
    if limit is not None:
        heights.append(("th", y_of(limit)))
    return "".join(
        [
            _open(_HOURS, title, description),
            *(
                f'<line class="{css}" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                for css, y in heights
            ),
            *(_text(_LEFT - 5, y_of(value) + 4, "end", _round(value)) for value in (high, low)),
            f'<path class="b" d="{_strip(found, step)}"/>',
            f'<path class="l v" d="{_line(found, step, y_of)}"/>',
            *(_text(*_inside(_LEFT + index * step, label, _HOURS), label) for index, label in labels),
            "</svg>",
        ]
    )


def _strip(found: Sequence[Hour], step: float) -> str:
    """One bar per hour, hours of the same height in one: the fewer bytes the steadier they are."""
    runs: list[tuple[int, int, int]] = []
    for hour in found:
        height = math.ceil(hour.share * _STRIP)
        if runs and runs[-1][1] == hour.index and runs[-1][2] == height:
            runs[-1] = (runs[-1][0], hour.index + 1, height)
        elif height:
            runs.append((hour.index, hour.index + 1, height))
    bottom = _HOURS - _BOTTOM
    return "".join(
        f"M{_LEFT + first * step:.1f} {bottom}v-{height}h{(end - first) * step:.1f}v{height}z"
        for first, end, height in runs
    )


def _line(found: Sequence[Hour], step: float, y_of: Callable[[float], float]) -> str:
    """Straight from hour to hour; an hour alone between gaps is a dot."""
    known = [hour for hour in found if hour.value is not None]
    parts = []
    for position, hour in enumerate(known):
        assert hour.value is not None
        place = f"{_LEFT + (hour.index + 0.5) * step:.1f} {y_of(hour.value):.1f}"
        joined = position > 0 and known[position - 1].index == hour.index - 1
        alone = not joined and (position + 1 == len(known) or known[position + 1].index != hour.index + 1)
        parts.append(f"{'L' if joined else 'M'}{place}{'h0' if alone else ''}")
    return "".join(parts)


def _round(value: float) -> str:
    """A number of at most four letters, for an axis."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.2g}{unit}" if value < 10 * size else f"{value / size:.0f}{unit}"
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _ticks(bars: Sequence[Bar], step: float) -> list[tuple[float, str]]:
    """The labels that fit under the bars, with their middles: values beyond training first, then evenly spaced ones."""
    spots = []
    for index, bar in enumerate(bars):
        label = _short(bar.edge or bar.label)
        half = _letters(label) * _LETTER / 2
        middle = _LEFT + (index + (1.0 if bar.edge else 0.5)) * step
        spots.append((min(max(middle, half), WIDTH - half), half, label))
    widest = max((2 * half for _, half, _ in spots), default=0.0)
    every = max(1, math.ceil((widest + _GAP) / step))
    chosen: list[tuple[float, float, str]] = []
    for index in [*(i for i, bar in enumerate(bars) if bar.beyond), *range(0, len(bars), every)]:
        x, half, label = spots[index]
        if all(abs(x - other) >= half + width + _GAP for other, width, _ in chosen):
            chosen.append(spots[index])
    return [(x, label) for x, _, label in chosen]


def _inside(x: float, label: str, height: int) -> tuple[float, float, str]:
    """Where a label under a chart of that height stands, and by which end, so that none leaves it."""
    half = _letters(label) * _LETTER / 2
    if x - half < _LEFT:
        return _LEFT, height - 6, "start"
    if x + half > WIDTH - _RIGHT:
        return WIDTH - _RIGHT, height - 6, "end"
    return x, height - 6, "middle"


def _height(value: float) -> float:
    """Where a value stands on the scale of powers of ten, 0 to 1, cut at both ends."""
    power = math.log10(value) if value > 0 else _LOWEST
    return (min(max(power, _LOWEST), _HIGHEST) - _LOWEST) / (_HIGHEST - _LOWEST)


def _superscript(number: int) -> str:
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _open(height: int, title: str, description: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" class="chart">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    )


def _axis(top: float) -> str:
    lines = []
    for part in (0.0, 0.5, 1.0):
        y = _y(part)
        label = f"{part * top:.0%}" if top >= 0.02 else f"{part * top:.1%}"
        lines.append(f'<line class="g" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(_text(_LEFT - 5, y + 4, "end", label))
    return "".join(lines)


def _rect(css: str, x: float, width: float, part: float) -> str:
    y = _y(part)
    return f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{HEIGHT - _BOTTOM - y:.1f}"/>'


def _text(x: float, y: float, anchor: str, words: str) -> str:
    return f'<text class="t" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _hint(bar: Bar) -> str:
    return f"<title>{escape(bar.label)}: baseline {bar.baseline:.1%}, window {bar.window:.1%}</title>"


def _y(part: float) -> float:
    return HEIGHT - _BOTTOM - min(max(part, 0.0), 1.0) * (HEIGHT - _TOP - _BOTTOM)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{share:.1%}"


def _letters(text: str) -> int:
    """How many letters wide a text is: ideographs and emoji take the room of two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _short(label: str) -> str:
    """The label, cut to what fits under or beside a bar."""
    if _letters(label) <= _LABEL_LETTERS:
        return label
    kept = ""
    for letter in label:
        if _letters(kept + letter) >= _LABEL_LETTERS:
            break
        kept += letter
    return kept + "…"

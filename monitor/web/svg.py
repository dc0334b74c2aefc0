"""Charts as inline SVG, drawn by the server: no script, no font, no colour of their own.

Colours come from CSS classes, so that dark mode is the style sheet's business. Every chart carries a title
and a description for those who listen to the page.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 440
HEIGHT = 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 6, 10, 30
_LOWEST, _HIGHEST = -6, 4
"""Powers of ten on a timeline of evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bin of a histogram: its label and its share of the rows, then and now (0…1)."""

    label: str
    baseline: float
    window: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One instant of a timeline: epoch seconds, the evidence, and whether a column was in drift."""

    at: int
    value: float
    drift: bool


def histogram(bars: Sequence[Bar], *, title: str, description: str) -> str:
    """Baseline (filled) against window (outlined) as shares per bin."""
    top = max((max(bar.baseline, bar.window) for bar in bars), default=0.0) or 1.0
    plot_width = WIDTH - _LEFT - _RIGHT
    step = plot_width / max(len(bars), 1)
    parts = [_open(title, description), _axis(top)]
    every = max(1, -(-len(bars) // 5))
    for index, bar in enumerate(bars):
        x = _LEFT + index * step
        hint = f"<title>{escape(bar.label)}: baseline {bar.baseline:.1%}, window {bar.window:.1%}</title>"
        parts.append(
            f"<g>{hint}{_rect('b', x + 1, step - 2, bar.baseline / top)}{_rect('w', x + 1, step - 2, bar.window / top)}</g>"
        )
        if index % every == 0:
            parts.append(
                f'<text class="t" x="{x + step / 2:.1f}" y="{HEIGHT - 12}" text-anchor="middle">{escape(_short(bar.label))}</text>'
            )
    return "".join([*parts, "</svg>"])


def timeline(
    points: Sequence[Point], *, labels: Sequence[tuple[int, str]], title: str, description: str
) -> str:
    """Evidence over time on a scale of powers of ten; 1 is a dashed line, and instants in drift are marked."""
    parts = [_open(title, description)]
    for power in range(_LOWEST, _HIGHEST + 1, 2):
        y = _y(_height(10.0**power))
        css = "th" if power == 0 else "g"
        parts.append(f'<line class="{css}" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        word = "1" if power == 0 else f"10{_superscript(power)}"
        parts.append(f'<text class="t" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{word}</text>')
    if points:
        first, span = points[0].at, max(points[-1].at - points[0].at, 1)

        def x_of(at: int) -> float:
            return _LEFT + (at - first) / span * (WIDTH - _LEFT - _RIGHT)

        path = " ".join(f"{x_of(p.at):.1f},{_y(_height(p.value)):.1f}" for p in points)
        parts.append(f'<polyline class="l" points="{path}"/>')
        parts.extend(
            f'<circle class="d" cx="{x_of(p.at):.1f}" cy="{_y(_height(p.value)):.1f}" r="2"/>'
            for p in points
            if p.drift
        )
        parts.extend(
            f'<text class="t" x="{min(max(x_of(at), _LEFT + 20), WIDTH - 24):.1f}" y="{HEIGHT - 12}" text-anchor="middle">{escape(label)}</text>'
            for at, label in labels
        )
    return "".join([*parts, "</svg>"])


def _height(value: float) -> float:
    """Where a value stands on the scale of powers of ten, 0 to 1, cut at both ends."""
    power = math.log10(value) if value > 0 else _LOWEST
    return (min(max(power, _LOWEST), _HIGHEST) - _LOWEST) / (_HIGHEST - _LOWEST)


def _superscript(number: int) -> str:
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _open(title: str, description: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="chart">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    )


def _axis(top: float) -> str:
    lines = []
    for part in (0.0, 0.5, 1.0):
        y = _y(part)
        label = f"{part * top:.0%}" if top >= 0.02 else f"{part * top:.1%}"
        lines.append(f'<line class="g" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text class="t" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    return "".join(lines)


def _rect(css: str, x: float, width: float, part: float) -> str:
    y = _y(part)
    return f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{HEIGHT - _BOTTOM - y:.1f}"/>'


def _y(part: float) -> float:
    return HEIGHT - _BOTTOM - min(max(part, 0.0), 1.0) * (HEIGHT - _TOP - _BOTTOM)


def _short(label: str) -> str:
    return label if len(label) <= 12 else label[:11] + "…"

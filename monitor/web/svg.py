"""Charts as inline SVG, drawn by the server: no script, no font, no colour of their own.

Colours come from CSS classes, so that dark mode is the style sheet's business. Every chart carries a title
and a description for those who listen to the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 640
HEIGHT = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 34


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bin of a histogram: its label and its share of the rows, then and now (0…1)."""

    label: str
    baseline: float
    window: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One instant of a timeline: epoch seconds, the value, and whether the column was in drift."""

    at: int
    value: float
    drift: bool


def histogram(bars: Sequence[Bar], *, title: str, description: str) -> str:
    """Baseline (filled) against window (outlined) as shares per bin."""
    top = max((max(bar.baseline, bar.window) for bar in bars), default=0.0) or 1.0
    plot_width = WIDTH - _LEFT - _RIGHT
    step = plot_width / max(len(bars), 1)
    parts = [_open(title, description), _axis(top)]
    every = max(1, -(-len(bars) // 7))
    for index, bar in enumerate(bars):
        x = _LEFT + index * step
        hint = f"<title>{escape(bar.label)}: baseline {bar.baseline:.1%}, window {bar.window:.1%}</title>"
        parts.append(
            f"<g>{hint}{_rect('b', x + 1, step - 2, bar.baseline / top)}{_rect('w', x + 1, step - 2, bar.window / top)}</g>"
        )
        if index % every == 0:
            parts.append(
                f'<text class="t" x="{x + step / 2:.1f}" y="{HEIGHT - 16}" text-anchor="middle">{escape(_short(bar.label))}</text>'
            )
    return "".join([*parts, "</svg>"])


def timeline(
    points: Sequence[Point],
    *,
    threshold: float,
    labels: Sequence[tuple[int, str]],
    title: str,
    description: str,
) -> str:
    """A value over time with its threshold as a dashed line; stretches in drift are marked."""
    parts = [_open(title, description)]
    top = max([threshold * 1.25, *(p.value for p in points)]) or 1.0
    parts.append(_axis(top, percent=False))
    y = _y(threshold / top)
    parts.append(f'<line class="th" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    if points:
        first, span = points[0].at, max(points[-1].at - points[0].at, 1)

        def x_of(at: int) -> float:
            return _LEFT + (at - first) / span * (WIDTH - _LEFT - _RIGHT)

        path = " ".join(f"{x_of(p.at):.1f},{_y(p.value / top):.1f}" for p in points)
        parts.append(f'<polyline class="l" points="{path}"/>')
        parts.extend(
            f'<circle class="d" cx="{x_of(p.at):.1f}" cy="{_y(p.value / top):.1f}" r="2.5"/>'
            for p in points
            if p.drift
        )
        parts.extend(
            f'<text class="t" x="{min(max(x_of(at), _LEFT + 20), WIDTH - 30):.1f}" y="{HEIGHT - 16}" text-anchor="middle">{escape(label)}</text>'
            for at, label in labels
        )
    return "".join([*parts, "</svg>"])


def _open(title: str, description: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="chart">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    )


def _axis(top: float, *, percent: bool = True) -> str:
    lines = []
    for part in (0.0, 0.5, 1.0):
        y = _y(part)
        label = f"{part * top:.0%}" if percent and top >= 0.02 else f"{part * top:.2g}"
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

"""The pages of a replay against those that were really sent: which appear, vanish, or come at another time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Literal

Kind = Literal["appears", "vanishes", "earlier", "later", "severity"]
Subject = tuple[str, str, str]
"""Version, segment and column: one of them has one open page at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One firing, real or replayed: `effect` is its statistic over its threshold, `alert` the id of a real one."""

    version: str
    segment: str
    column: str
    severity: str
    at: datetime
    until: datetime | None
    detector: str | None
    window_seconds: int | None
    statistic: float | None
    threshold: float | None
    evidence: float | None
    alert: int | None

    @property
    def subject(self) -> Subject:
        return self.version, self.segment, self.column


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference: `before` was really paged, `after` would be; `delay_seconds` is how much later, if both are."""

    kind: Kind
    before: Page | None
    after: Page | None
    delay_seconds: float | None

    @property
    def at(self) -> datetime:
        """When it is first felt."""
        return min(page.at for page in (self.before, self.after) if page is not None)


def page(
    labels: Any,
    *,
    severity: str,
    at: datetime,
    until: datetime | None,
    shown: Any,
    alert: int | None,
) -> Page:
    """A page from an alert's labels and what is stored for its readers."""
    evidence = shown.get("evidence") or {}
    return Page(
        version=labels.get("version", ""),
        segment=labels.get("segment", ""),
        column=labels.get("column", ""),
        severity=severity,
        at=at,
        until=until,
        detector=evidence.get("detector"),
        window_seconds=evidence.get("window_seconds"),
        statistic=evidence.get("statistic"),
        threshold=evidence.get("threshold"),
        evidence=evidence.get("evidence"),
        alert=alert,
    )


def compare(real: Sequence[Page], replayed: Sequence[Page]) -> tuple[Change, ...]:
    """The differences, by time. Pages of one column are the same page where they fire at overlapping times."""
    found: list[Change] = []
    both = sorted([*real, *replayed], key=lambda one: one.subject)
    for _, group in groupby(both, key=lambda one: one.subject):
        pages = list(group)
        found += _of_subject(
            sorted((p for p in pages if p.alert is not None), key=lambda p: p.at),
            sorted((p for p in pages if p.alert is None), key=lambda p: p.at),
        )
    return tuple(sorted(found, key=lambda change: (change.at, change.kind)))


def _of_subject(real: list[Page], replayed: list[Page]) -> list[Change]:
    changes: list[Change] = []
    left = list(replayed)
    for before in real:
        after = next((one for one in left if _overlap(before, one)), None)
        if after is None:
            changes.append(Change(kind="vanishes", before=before, after=None, delay_seconds=None))
            continue
        left.remove(after)
        delay = (after.at - before.at).total_seconds()
        if delay or after.severity != before.severity:
            kind: Kind = "later" if delay > 0 else "earlier" if delay < 0 else "severity"
            changes.append(Change(kind=kind, before=before, after=after, delay_seconds=delay))
    return [
        *changes,
        *(Change(kind="appears", before=None, after=one, delay_seconds=None) for one in left),
    ]


def _overlap(one: Page, other: Page) -> bool:
    return (other.until is None or one.at <= other.until) and (one.until is None or other.at <= one.until)

"""Which panes of a batch of counts are taken, and what is said of the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from detectors.profile import Baseline
from monitor.ingest.counted import CountedBatch, encode_counts
from monitor.ingest.decoded import MAX_ISSUES
from monitor.ingest.errors import Issue
from monitor.ingest.posted_counts import HOUR, OpenedCounts, PostedPane, read_panes
from monitor.ingest.times import SECOND, TimeLimits, clock_drift, drift_warning, refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenCounts:
    """What is stored of a batch: the payload, and the event times of its earliest and latest row."""

    payload: bytes
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedCounts:
    """The outcome for one body; `counts` is None where every pane is too old or too new. Numbers are of rows."""

    id: str | None
    body_sha256: str
    parameters: Mapping[str, Any]
    counts: TakenCounts | None
    accepted: int
    rejected: int
    errors: tuple[Issue, ...] = ()
    warnings: tuple[Issue, ...] = ()


def accept_counts(
    opened: OpenedCounts,
    baseline: Baseline,
    segment_keys: Sequence[str],
    now_ns: int,
    watermark_ns: int | None,
    limits: TimeLimits,
    sent_ns: int | None,
) -> AcceptedCounts:
    """Keep the panes of which a row is within the accepted event times.

    Panes are whole: one at the old end of the span brings rows that are up to its own length too old. A sender's clock
    that is 55 minutes or more off is corrected by whole panes. UnprocessableError where the counts cannot be true.
    """
    panes = read_panes(opened, baseline, segment_keys)
    warnings: tuple[Issue, ...] = ()
    drift = clock_drift(sent_ns, now_ns)
    length = baseline.pane_seconds * SECOND
    steps = round(drift / length)
    if steps:
        panes = [_moved(pane, steps * baseline.pane_seconds) for pane in panes]
        warnings = (Issue(pointer="/parameters/sent_at", detail=drift_warning(drift)),)
    span = limits.span(now_ns, watermark_ns)
    kept = [pane for pane in panes if span[0] <= pane.last_ns and pane.first_ns <= span[1]]
    starts = {pane.counted.start for pane in kept if not pane.counted.segment}
    errors = tuple(
        Issue(
            pointer=f"{pane.pointer}/start",
            detail=refusal(pane.last_ns if pane.last_ns < span[0] else pane.first_ns, now_ns, span),
        )
        for pane in panes
        if not pane.counted.segment and pane.counted.start not in starts
    )[:MAX_ISSUES]
    kept = [pane for pane in panes if pane.counted.start in starts]
    rows = sum(_rows(pane) for pane in panes)
    accepted = sum(_rows(pane) for pane in kept)
    return AcceptedCounts(
        id=opened.id,
        body_sha256=opened.body_sha256,
        parameters=opened.parameters,
        counts=_taken(opened.fingerprint, kept) if kept else None,
        accepted=accepted,
        rejected=rows - accepted,
        errors=errors,
        warnings=warnings,
    )


def _rows(pane: PostedPane) -> int:
    return 0 if pane.counted.segment else pane.counted.profile.rows


def _moved(pane: PostedPane, seconds: int) -> PostedPane:
    """The pane that many seconds later, a whole number of panes. Hours move by whole hours, as near as that comes."""
    hours: dict[int, int] = {}
    for start, rows in pane.hours.items():
        hour = (start + seconds) // HOUR * HOUR
        hours[hour] = hours.get(hour, 0) + rows
    return replace(
        pane,
        counted=replace(pane.counted, start=pane.counted.start + seconds),
        first_ns=pane.first_ns + seconds * SECOND,
        last_ns=pane.last_ns + seconds * SECOND,
        hours=hours,
    )


def _taken(fingerprint: str, panes: Sequence[PostedPane]) -> TakenCounts:
    hours: dict[int, int] = {}
    for pane in panes:
        for hour, rows in pane.hours.items():
            hours[hour] = hours.get(hour, 0) + rows
    counted = CountedBatch(fingerprint=fingerprint, panes=tuple(pane.counted for pane in panes), hours=hours)
    return TakenCounts(
        payload=encode_counts(counted),
        first_ns=min(pane.first_ns for pane in panes),
        last_ns=max(pane.last_ns for pane in panes),
    )

"""Event time: up to which instant a model's panes count as complete.

Pure functions over `Cursor`; instants are int64 nanoseconds UTC unless a name says seconds.
"""

from dataclasses import dataclass, replace

NANOSECONDS = 1_000_000_000
LIVE_WITHIN_NS = 3600 * NANOSECONDS
SILENCE_NS = 120 * NANOSECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a model stands in event time.

    `watermark_ns` never moves back. `evaluated_upto` is the last closed pane boundary in epoch seconds.
    `last_arrival_ns` is when (wall clock) the newest batch came, `newest_event_ns` the newest event time,
    `busy_since_ns` the arrival since which batches have come without a long gap.
    """

    watermark_ns: int | None = None
    evaluated_upto: int | None = None
    newest_event_ns: int | None = None
    last_arrival_ns: int | None = None
    busy_since_ns: int | None = None

    @property
    def live(self) -> bool:
        """Whether the model's traffic is about now: its newest event came within an hour of happening."""
        if self.newest_event_ns is None or self.last_arrival_ns is None:
            return False
        return self.last_arrival_ns - self.newest_event_ns <= LIVE_WITHIN_NS


def arrived(cursor: Cursor, *, newest_event_ns: int, arrival_ns: int, gap_ns: int) -> Cursor:
    """The cursor after a batch whose newest row happened at `newest_event_ns` came at `arrival_ns`.

    A silence of `gap_ns` or more before it ends the busy stretch and begins another.
    """
    after_gap = cursor.last_arrival_ns is None or arrival_ns - cursor.last_arrival_ns >= gap_ns
    return replace(
        cursor,
        newest_event_ns=max(newest_event_ns, cursor.newest_event_ns or newest_event_ns),
        last_arrival_ns=max(arrival_ns, cursor.last_arrival_ns or arrival_ns),
        busy_since_ns=arrival_ns if after_gap else cursor.busy_since_ns,
    )


def advanced(cursor: Cursor, *, now_ns: int, lateness_ns: int, silent_ns: int) -> Cursor:
    """The cursor with its watermark where it belongs at `now_ns`.

    The watermark follows the newest accepted event, `lateness_ns` behind. Only a live model is moved by the
    wall clock, after two minutes of silence, so that a replay of history never runs ahead of its own rows. `silent_ns` is
    that silence by the monotonic clock, since the daemon began: one that sets its wall clock forwards has waited no longer.
    """
    if cursor.newest_event_ns is None or cursor.last_arrival_ns is None:
        return cursor
    watermark = min(now_ns, cursor.newest_event_ns) - lateness_ns
    if cursor.live and min(now_ns - cursor.last_arrival_ns, silent_ns) >= SILENCE_NS:
        watermark = max(watermark, now_ns - lateness_ns)
    if cursor.watermark_ns is not None:
        watermark = max(watermark, cursor.watermark_ns)
    return replace(cursor, watermark_ns=watermark)


def last_boundary(watermark_ns: int, pane_seconds: int) -> int:
    """The newest pane boundary, in epoch seconds, that the watermark has passed."""
    return watermark_ns // NANOSECONDS // pane_seconds * pane_seconds

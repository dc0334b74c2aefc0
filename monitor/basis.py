"""What an evaluation rests on, so that it can be given up where another daemon folded into it meanwhile.

Boundaries are decided outside the transaction that stores them. On a shared database others may fold in between; rows
never become fewer in a pane or a block that still counts, so equal sums mean that nothing was added.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from monitor.ingest.schema import ModelHandle
from monitor.track import Track
from monitor.watermark import last_boundary
from storage import batches, blocks, panes
from storage.engine import Connection
from storage.errors import Overtaken


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """The panes (from `start`) and the open blocks (from `open_from`) of one baseline before `end`, epoch seconds."""

    baseline_id: int
    resolution: int
    start: int
    open_from: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """The rows in everything that the boundaries from one to another are decided from."""

    spans: tuple[_Span, ...]
    rows: tuple[int, ...]

    def check(self, conn: Connection) -> None:
        """In the transaction that stores the decisions: Overtaken if another daemon has added rows."""
        if _rows(conn, self.spans) != self.rows:
            raise Overtaken("another daemon folded into what was evaluated; it is evaluated again")


def basis(conn: Connection, tracks: Sequence[Track], *, at: int, upto: int) -> Basis:
    """What the boundaries `at` to `upto` rest on now; sums that lack what others have folded are dropped.

    Every row is counted in the whole, so the segments need not be looked at.
    """
    whole = [track for track in tracks if not track.identity.segment]
    for track in whole:
        if not _complete(conn, track):
            for same in tracks:
                if same.identity.baseline_id == track.identity.baseline_id:
                    same.windows.forget()
    spans = tuple(
        _Span(
            baseline_id=track.identity.baseline_id,
            resolution=track.baseline.pane_seconds,
            start=at - track.rule.windows[-1],
            open_from=-(2**62) if track.upto is None else track.upto,
            end=upto,
        )
        for track in whole
    )
    return Basis(spans=spans, rows=_rows(conn, spans))


def folded_upto(conn: Connection, model: ModelHandle, pane_seconds: int, upto: int) -> int:
    """The last boundary up to `upto` that no unfolded batch of any daemon reaches before."""
    ready = [version.version_id for version in model.versions.values() if version.baseline is not None]
    oldest_ns = batches.oldest_unfolded(conn, ready).get(model.model_id)
    return upto if oldest_ns is None else min(upto, last_boundary(oldest_ns, pane_seconds))


def _complete(conn: Connection, track: Track) -> bool:
    span = track.windows.span()
    return span is None or track.windows.agrees(
        panes.rows_by_start(conn, track.identity.baseline_id, "", track.baseline.pane_seconds, *span)
    )


def _rows(conn: Connection, spans: Sequence[_Span]) -> tuple[int, ...]:
    found: list[int] = []
    for span in spans:
        in_panes = panes.rows_by_start(conn, span.baseline_id, "", span.resolution, span.start, span.end)
        found.append(sum(in_panes.values()))
        found.append(blocks.total_rows(conn, span.baseline_id, "", start=span.open_from, end=span.end))
    return tuple(found)

"""The roll-up: panes of an hour that is over become one pane of an hour, those of a day one of a day.

It sums what is stored and deletes nothing: retention deletes what is part of a longer pane. A slice (one baseline,
segment, hour or day of one writer) is one transaction that writes the sum and marks its parts, so a crash leaves
either all of it or none. Rows that come later find the mark (`monitor.pane_sums`).

What a daemon that is gone has left is added to the longer panes of the one that leads its model. A daemon that was only
thought dead may not write once its place is taken (`storage.locks.living`), so no rows slip in behind the mark.
"""

import logging
from collections.abc import Iterable
from typing import Final

from detectors.codec import decode_profile
from monitor.bases import Bases
from monitor.catalog import Catalog
from monitor.ingest.schema import ModelHandle
from monitor.pane_sums import DAY, HOUR, Delta, Owner, added
from storage import locks, panes
from storage.engine import Connection, Database
from storage.errors import StorageError
from storage.panes import PaneRow

SLICES: Final = 16
"""Slices summed up per look and model: bounded, so that a catch-up over years holds up nobody."""
_LEVELS: Final = (((1, HOUR), HOUR), ((HOUR, DAY), DAY))
"""Which resolutions (from, to) are summed up to slices of which length."""

log = logging.getLogger("driftd.rollup")


class RolledTwice(StorageError):
    """Another roll-up took a pane of this slice first; nothing of the slice was written."""


class Rollup:
    """Sums up one writer's panes, and those of the dead. Not thread-safe, and not beside its own fold: one loop owns both."""

    def __init__(self, database: Database, catalog: Catalog, bases: Bases, writer: str) -> None:
        self._database = database
        self._catalog = catalog
        self._bases = bases
        self._writer = writer
        self._done_upto: dict[int, int] = {}

    def touched(self, model_id: int, starts: Iterable[int]) -> None:
        """Rows reached panes that start there (epoch seconds): hours before may have something to sum up again."""
        if min(starts, default=2**62) < self._done_upto.get(model_id, -(2**62)):
            del self._done_upto[model_id]

    def step(self, model: ModelHandle, evaluated_upto: int | None, *, leads: bool) -> bool:
        """Sum up some slices that end by the last evaluated boundary; whether more of them wait.

        `leads`: whether this daemon looks after the model, and so after what dead daemons left of it.
        """
        if evaluated_upto is None:
            return False
        hour = evaluated_upto // HOUR * HOUR
        if self._done_upto.get(model.model_id) == hour:
            return False
        room = SLICES
        for writer in [*(self._orphaned() if leads else ()), self._writer]:
            for resolutions, seconds in _LEVELS:
                for version in model.versions.values():
                    slices = self._due(writer, version.version_id, resolutions, seconds, evaluated_upto, room)
                    for part in slices:
                        self._roll(writer, version.version_id, *part, seconds)
                    room -= len(slices)
                    if room <= 0:
                        return True
        self._done_upto[model.model_id] = hour
        return False

    def _orphaned(self) -> list[str]:
        if not self._database.shared:
            return []
        with self._database.read() as conn:
            return panes.orphaned(conn)

    def _due(
        self,
        writer: str,
        version_id: int,
        resolutions: tuple[int, int],
        seconds: int,
        upto: int,
        room: int,
    ) -> list[tuple[int, str, int, int]]:
        with self._database.read() as conn:
            return panes.unrolled_slices(
                conn,
                writer=writer,
                version_id=version_id,
                resolutions=resolutions,
                seconds=seconds,
                before=upto // seconds * seconds,
                limit=room,
            )

    def _roll(
        self,
        writer: str,
        version_id: int,
        baseline_id: int,
        segment: str,
        resolution: int,
        start: int,
        seconds: int,
    ) -> None:
        owner = self._owner(version_id, baseline_id)
        layout = owner.layout_of(segment)
        with self._database.read() as conn:
            parts = panes.unrolled(
                conn,
                baseline_id=baseline_id,
                segment=segment,
                resolution=resolution,
                writer=writer,
                start=start,
                end=start + seconds,
            )
            deltas = [
                Delta(profile=decode_profile(layout, part.profile), rows_seen=part.rows_seen)
                for part in parts
            ]
            sums = added(conn, owner, seconds, {(segment, start): deltas})
        self._database.write(lambda conn: _write(conn, self._writer, sums.rows, parts)).result()

    def _owner(self, version_id: int, baseline_id: int) -> Owner:
        base = self._bases.of(baseline_id, self._catalog.baseline(baseline_id))
        return Owner(
            version_id=version_id,
            baseline_id=baseline_id,
            writer=self._writer,
            layout_of=lambda segment: base.of(segment).baseline.layout,
        )


def _write(conn: Connection, writer: str, sums: Iterable[PaneRow], parts: list[PaneRow]) -> None:
    locks.living(conn, writer)
    panes.upsert(conn, list(sums))
    if panes.mark_rolled(conn, [part.key for part in parts]) != len(parts):
        raise RolledTwice("a pane of this slice was summed up by another loop; the slice is given up")

"""Keeps the disk bounded: what is older than its retention goes, in chunks, so that no write waits long."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import storage.cursors
from monitor.catalog import Catalog
from monitor.config import Config
from monitor.config_schema import panes_kept
from monitor.ingest.schema import ModelHandle
from monitor.instants import to_ns
from storage import locks, retention
from storage.engine import Connection, Database

CHUNK: Final = 200
BATCHES_KEPT: Final = timedelta(days=30)
NOTIFICATIONS_KEPT: Final = timedelta(days=90)
EVALUATIONS_UNTHINNED: Final = timedelta(days=35)
EVALUATIONS_KEPT: Final = timedelta(days=400)
BLOCKS_KEPT: Final = timedelta(days=400)

log = logging.getLogger("driftd.retention")


def enforce_retention(database: Database, catalog: Catalog, config: Config, now: datetime) -> int:
    """Delete what has had its time; returns rows deleted."""
    kept = config.storage
    old = now - kept.payload_retention
    deleted = _all(database, lambda conn: retention.drop_payloads_before(conn, old, limit=CHUNK))
    deleted += _all(
        database, lambda conn: retention.drop_batches_before(conn, now - BATCHES_KEPT, limit=CHUNK)
    )
    forgotten = now - BATCHES_KEPT
    given_up = _all(database, lambda conn: retention.give_up_unfolded_before(conn, forgotten, limit=CHUNK))
    if given_up:
        log.warning("%d batches waited %s for a baseline and were given up", given_up, BATCHES_KEPT)
    deleted += given_up
    told = now - NOTIFICATIONS_KEPT
    deleted += _all(database, lambda conn: retention.drop_notifications_before(conn, told, limit=CHUNK))
    for model in catalog.models():
        deleted += _old_panes(database, model, now)
    before = _seconds(now - BLOCKS_KEPT)
    deleted += _all(database, lambda conn: retention.drop_blocks_before(conn, before, limit=CHUNK))
    thinned = _seconds(now - EVALUATIONS_UNTHINNED)
    deleted += _all(
        database,
        lambda conn: retention.drop_evaluations_before(conn, thinned, limit=CHUNK, keep_hourly=True),
    )
    ended = _seconds(now - EVALUATIONS_KEPT)
    deleted += _all(database, lambda conn: retention.drop_evaluations_before(conn, ended, limit=CHUNK))
    deleted += _thin(database, kept.payload_bytes)
    if deleted:
        log.info("retention deleted %d rows", deleted)
    return deleted


def _all(database: Database, step: Callable[[Connection], int]) -> int:
    total = 0
    while True:
        done = database.write(_alone(step)).result()
        total += done
        if done < CHUNK:
            return total


def _alone(step: Callable[[Connection], int]) -> Callable[[Connection], int]:
    """The step, unless another daemon is clearing away at the moment: then nothing is left to do here."""
    return lambda conn: step(conn) if locks.housekeeping(conn) else 0


def _old_panes(database: Database, model: ModelHandle, now: datetime) -> int:
    """Panes age by the model's own event time: a replay of last year keeps its panes until they are evaluated."""
    with database.read() as conn:
        upto = storage.cursors.get(conn, model.model_id).evaluated_upto
    if upto is None:
        return 0
    newest = min(_seconds(now), upto)
    deleted = 0
    for version in model.versions.values():
        if version.baseline is not None:
            resolution = version.baseline.pane_seconds
            before = newest - int(panes_kept(resolution).total_seconds())
            deleted += _all(database, _dropping_panes(version.version_id, resolution, before))
    return deleted


def _dropping_panes(version_id: int, resolution: int, before: int) -> Callable[[Connection], int]:
    return lambda conn: retention.drop_panes_before(
        conn, resolution, before, version_id=version_id, limit=CHUNK
    )


def _thin(database: Database, limit_bytes: int) -> int:
    """Above the cap whole batches go, in hash order of their ids, so that what stays is a fair sample."""
    total = 0
    while True:
        with database.read() as conn:
            over = retention.payload_use(conn).total_bytes - limit_bytes
        if over <= 0:
            return total
        thinned = database.write(_alone(_thinning(over))).result()
        if thinned == 0:
            return total
        total += thinned


def _thinning(over: int) -> Callable[[Connection], int]:
    return lambda conn: retention.thin_payloads(conn, over_bytes=over, limit=CHUNK).removed


def _seconds(instant: datetime) -> int:
    return to_ns(instant) // 1_000_000_000

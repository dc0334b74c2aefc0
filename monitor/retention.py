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
from monitor.pane_sums import DAY, HOUR
from storage import baselines, locks, retention
from storage.engine import Connection, Database

CHUNK: Final = 200
BATCHES_KEPT: Final = timedelta(days=30)
NOTIFICATIONS_KEPT: Final = timedelta(days=90)
EVALUATIONS_UNTHINNED: Final = timedelta(days=35)
EVALUATIONS_KEPT: Final = timedelta(days=400)
BLOCKS_KEPT: Final = timedelta(days=400)
SERVINGS_KEPT: Final = timedelta(days=730)
PERFORMANCES_KEPT: Final = timedelta(days=400)
LABELS_SPARED: Final = timedelta(days=1)
"""Labels stay so much longer than a prediction could still meet them: scoring may be behind."""

Thinning = Callable[..., retention.Thinned]
_NOTHING: Final = retention.Thinned(removed=0, removed_bytes=0, kept_share=None)

log = logging.getLogger("driftd.retention")


def enforce_retention(database: Database, catalog: Catalog, config: Config, now: datetime) -> int:
    """Delete what has had its time; returns rows deleted."""
    kept = config.storage
    old = now - kept.payload_retention
    deleted = _all(database, lambda conn: retention.drop_payloads_before(conn, old, limit=CHUNK))
    forgotten = now - max(BATCHES_KEPT, kept.payload_retention)
    deleted += _all(database, lambda conn: retention.drop_batches_before(conn, forgotten, limit=CHUNK))
    given_up = _all(database, lambda conn: retention.give_up_unfolded_before(conn, forgotten, limit=CHUNK))
    if given_up:
        log.warning("%d batches waited %s for a baseline and were given up", given_up, now - forgotten)
    deleted += given_up
    told = now - NOTIFICATIONS_KEPT
    deleted += _all(database, lambda conn: retention.drop_notifications_before(conn, told, limit=CHUNK))
    for model in catalog.models():
        deleted += _old_counts(database, model, now)
        deleted += _old_labels(database, model, config, now)
    scored = _seconds(now - PERFORMANCES_KEPT)
    deleted += _all(database, lambda conn: retention.drop_performances_before(conn, scored, limit=CHUNK))
    served = _seconds(now - SERVINGS_KEPT)
    deleted += _all(database, lambda conn: retention.drop_servings_before(conn, served, limit=CHUNK))
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


def _old_counts(database: Database, model: ModelHandle, now: datetime) -> int:
    """Panes and blocks age by the model's own event time: a replay of last year keeps them until they are evaluated."""
    with database.read() as conn:
        upto = storage.cursors.get(conn, model.model_id).evaluated_upto
        lengths = {
            version.version_id: {
                row.pane_seconds for row in baselines.list_baselines(conn, version.version_id)
            }
            for version in model.versions.values()
        }
    if upto is None:
        return 0
    newest = min(_seconds(now), upto)
    deleted = 0
    for version_id, counted in lengths.items():
        for resolution in sorted({*counted, HOUR, DAY} if counted else ()):
            before = newest - int(panes_kept(resolution).total_seconds())
            deleted += _all(database, _dropping_panes(version_id, resolution, before))
        before = newest - int(BLOCKS_KEPT.total_seconds())
        deleted += _all(database, _dropping_blocks(version_id, before))
    return deleted


def _old_labels(database: Database, model: ModelHandle, config: Config, now: datetime) -> int:
    """A label is of something that happened, of which rows may come `max_past` late, to be scored `labels_mature_after` later."""
    settings = config.settings(model.name)
    wait = settings.labels_mature_after or timedelta(0)
    before = now - wait - max(LABELS_SPARED, settings.max_past)
    return _all(
        database, lambda conn: retention.drop_labels_before(conn, model.model_id, before, limit=CHUNK)
    )


def _dropping_panes(version_id: int, resolution: int, before: int) -> Callable[[Connection], int]:
    return lambda conn: retention.drop_panes_before(
        conn, resolution, before, version_id=version_id, limit=CHUNK
    )


def _dropping_blocks(version_id: int, before: int) -> Callable[[Connection], int]:
    return lambda conn: retention.drop_blocks_before(conn, before, version_id=version_id, limit=CHUNK)


def _thin(database: Database, limit_bytes: int) -> int:
    """Above the cap whole batches go, in hash order of their ids, so that what stays is a fair sample.

    Those that wait for a baseline go last, and only they are lost uncounted.
    """
    counted, share = _thin_by(database, limit_bytes, retention.thin_payloads)
    waiting, rest = _thin_by(database, limit_bytes, retention.give_up_pending)
    if counted:
        log.info("payloads exceed storage.payload_bytes: %.3g of the batches keep theirs", share)
    if waiting:
        log.warning(
            "batches that wait for a baseline exceed storage.payload_bytes: %d were given up, %.3g of them are left",
            waiting,
            rest,
        )
    return counted + waiting


def _thin_by(database: Database, limit_bytes: int, step: Thinning) -> tuple[int, float]:
    """How many batches lost their payload, and the share of hash ranks below which they keep it."""
    total, share = 0, 1.0
    while True:
        with database.read() as conn:
            over = retention.payload_use(conn).total_bytes - limit_bytes
        if over <= 0:
            return total, share
        thinned = database.write(_thinning(step, over)).result()
        if thinned.kept_share is None:
            return total, share
        total, share = total + thinned.removed, thinned.kept_share


def _thinning(step: Thinning, over: int) -> Callable[[Connection], retention.Thinned]:
    """The step, unless another daemon is clearing away at the moment."""
    return lambda conn: step(conn, over_bytes=over, limit=CHUNK) if locks.housekeeping(conn) else _NOTHING


def _seconds(instant: datetime) -> int:
    return to_ns(instant) // 1_000_000_000

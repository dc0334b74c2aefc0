"""The loop behind the ingest: folds what was committed, closes boundaries, watches the facts.

One thread runs it, woken by commits and by a five-second tick. A model that fails is counted and alerted; the
others go on.
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

import storage.cursors
from monitor import scoring
from monitor.bases import Bases
from monitor.catalog import Catalog
from monitor.clock import Clock
from monitor.config import Config
from monitor.emergency import Emergency
from monitor.evaluate import Evaluator
from monitor.facts import Facts
from monitor.folding import GROUP, GROUP_BYTES, ChangedPane, Folder, GroupResult, Target, from_stored
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.instants import span_ns, to_ns
from monitor.liveness import (
    evaluation_failing,
)
from monitor.membership import Membership
from monitor.notify import Notifier
from monitor.recent import Recent
from monitor.refold import GROUPS, Refolder, told
from monitor.rollup import Rollup
from monitor.scoring import Scorer
from monitor.segments import Segments
from monitor.storagewatch import StorageWatch
from monitor.targets import Targets
from monitor.telemetry import Telemetry
from monitor.tracks import Tracks
from monitor.watermark import Cursor, advanced
from storage import batches
from storage.batches import StoredBatch
from storage.engine import Database
from storage.errors import Overtaken, StorageError
from storage.locks import Occupied
from storage.refolds import RefoldRow

GATHER_SECONDS: Final = 0.5
"""How long a wake-up waits for company: the edge search is paid per group of batches. Panes wait a minute for late rows."""

OVERTAKEN_TRIES: Final = 20
"""Folds of one group of batches before it is left for the next look; another daemon's evaluation takes milliseconds."""

log = logging.getLogger("driftd.pipeline")


class Pipeline:
    """Fold, evaluation and facts of every model, in one thread."""

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        config: Config,
        notifier: Notifier,
        clock: Clock,
        telemetry: Telemetry,
        membership: Membership,
        storage_watch: StorageWatch,
        emergency: Emergency,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._config = config
        self._notifier = notifier
        self._clock = clock
        self._telemetry = telemetry
        self._segments = Segments(database)
        self._membership = membership
        self._facts = Facts(
            database, config, notifier, clock, membership, self._segments, storage_watch, emergency
        )
        self._folder = Folder(database, membership.writer, self._segments)
        self._refolder = Refolder(database, membership.writer, self._segments)
        self._scorer = Scorer(database, membership.writer, self._segments)
        self._bases = Bases()
        self._targets = Targets(database, catalog, self._bases)
        self._recent = Recent(membership.writer)
        self._rollup = Rollup(database, catalog, self._bases, membership.writer)
        self._evaluators: dict[int, Evaluator] = {}
        self._cursors: dict[int, Cursor] = {}
        self._failures: dict[int, int] = {}
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._exclusive = threading.RLock()
        self._thread = threading.Thread(target=self._loop, name="pipeline", daemon=True)
        self.last_loop: datetime | None = None
        self.progressed_at: float | None = None
        self._done_at: float | None = None
        self.looked_at: float | None = None
        """When, on the monotonic clock, it last made progress, and last completed a whole look."""
        self._read_cursors()

    def adopt(self, config: Config) -> None:
        """Go by this configuration from the next look on."""
        self._config = config
        self._facts.adopt(config)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There is something to fold, or time has passed."""
        self._wake.set()

    def committed(self, batch: StoredBatch) -> None:
        """A batch is on disk, and here it is for the fold."""
        self._recent.put(batch)
        self._wake.set()

    def version_refused(self, model_id: int) -> None:
        """The model has its fill of versions, and one more was named."""
        self._facts.version_refused(model_id)

    def stop(self, timeout_seconds: float) -> None:
        """Finish the look under way and end."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout_seconds)

    def cursor(self, model_id: int) -> Cursor:
        """Where a model stands in event time."""
        return self._cursors.get(model_id, Cursor())

    @property
    def bases(self) -> Bases:
        """The baselines as rows are counted on them."""
        return self._bases

    @property
    def segments(self) -> Segments:
        """Which segments each baseline has."""
        return self._segments

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """No look is under way inside: for operations that change alerts or baselines the loop holds in memory."""
        with self._exclusive:
            yield

    def run_once(self) -> int:
        """One whole look: fold everything committed before it, evaluate, watch. Returns boundaries evaluated.

        A failure of one model is contained; StorageError of the fold or the facts is raised.
        """
        with self.exclusive():
            return self._look()

    def _look(self) -> int:
        began = time.perf_counter()
        self._membership.renew()
        if self._database.shared:
            self._see_others()
        try:
            self._fold()
        except StorageError:
            # No boundary may be decided without its rows, but that nothing can be stored has to be said.
            self._facts.look(self._led(), self.cursor)
            raise
        self._refold()
        self._score()
        boundaries = sum(self._evaluate(model) for model in self._led())
        self._sum_up()
        self._facts.look(self._led(), self.cursor)
        self._progressed()
        self.looked_at = self._clock.monotonic()
        self._telemetry.evaluation_seconds.observe(time.perf_counter() - began)
        return boundaries

    def _see_others(self) -> None:
        """What other daemons on the same database have registered, folded and evaluated."""
        self._membership.look()
        if self._database.shared:
            self._catalog.refresh()
        self._read_cursors()

    def _read_cursors(self) -> None:
        with self._database.read() as conn:
            for stored in storage.cursors.list_cursors(conn):
                self._cursors[stored.model_id] = from_stored(stored)

    def _led(self) -> Iterator[ModelHandle]:
        """The models that this daemon looks after; what it holds in memory of the others is let go."""
        for model in self._catalog.models():
            if self._membership.leads(model.name):
                yield model
            else:
                self._evaluators.pop(model.model_id, None)

    def _refold(self) -> None:
        """Count retained rows again on newer baselines, a few groups per look; a failure does not stop the rest."""
        versions = {v.version_id: (m, v) for m in self._catalog.models() for v in m.versions.values()}
        for row in self._refolder.unfinished():
            if row.version_id not in versions:
                continue  # registered through another daemon a moment ago
            model, version = versions[row.version_id]
            # It goes on if its version is compared with that baseline again. One daemon counts: the model's leader.
            if version.baseline_id != row.baseline_id or not self._membership.leads(model.name):
                continue
            try:
                self._refold_some(model, version, row)
            except Exception:
                log.exception(
                    "model %s: its retained rows were not counted again; it is tried again", model.name
                )

    def _refold_some(self, model: ModelHandle, version: VersionHandle, row: RefoldRow) -> None:
        assert version.baseline is not None
        settings = self._config.settings(model.name)
        target = self._targets.of(model, version.version_id, row.baseline_id, version.baseline, settings)
        longest = int(settings.windows[-1].total_seconds())
        for _ in range(GROUPS):
            done = self._refolder.step(row, target, self.cursor(model.model_id), longest, self._clock.now())
            row = done.row
            self._changed(model.model_id, done.panes)
            if row.finished_at is not None:
                log.info("%s", told(model.name, version.version, row, target.pane_seconds))
                return
        self.wake()

    def _score(self) -> None:
        """Let predictions that are old enough meet their labels, some per look; a failure does not stop the rest."""
        for model in self._led():
            settings = self._config.settings(model.name)
            after = settings.labels_mature_after
            if after is None:
                continue
            try:
                for _ in range(scoring.GROUPS):
                    if not self._scorer.step(model, after, settings.segments, self._clock.now()):
                        break
                    self._progressed()
                else:
                    self.wake()
            except Exception:
                log.exception(
                    "model %s: its predictions did not meet their labels; it is tried again", model.name
                )

    def _sum_up(self) -> None:
        """Roll up hours and days that are over, a few per look; a model that fails does not stop the others."""
        for model in self._catalog.models():
            try:
                leads = self._membership.leads(model.name)
                if self._rollup.step(model, self.cursor(model.model_id).evaluated_upto, leads=leads):
                    self.wake()
            except Exception:
                log.exception("model %s: its panes were not rolled up; it is tried again", model.name)

    def stood_still(self) -> timedelta | None:
        """How long ago the loop last got something done, by the monotonic clock; None if it never has."""
        done = self._done_at
        return None if done is None else timedelta(seconds=self._clock.monotonic() - done)

    def _progressed(self) -> None:
        """A sign of life: a long catch-up gives one with every chunk it has committed."""
        self._membership.renew()
        self.last_loop, self._done_at = self._clock.now(), self._clock.monotonic()
        self.progressed_at = self._done_at
        self._telemetry.loop.set(self.last_loop.timestamp())

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            if self._stop.wait(GATHER_SECONDS):
                return
            try:
                self.run_once()
            except StorageError as error:
                log.error("nothing could be folded or decided, it is tried again: %s", error)
                self.progressed_at = self._clock.monotonic()  # it lives, and a restart would mend no disk
            except Exception:
                log.exception("a defect in the evaluation loop; it goes on")

    def _fold(self) -> None:
        """Fold what was committed before now; what comes meanwhile is the next look's."""
        with self._database.read() as conn:
            upto = batches.newest_id(conn)
        ready = {
            v.version_id: (m, v)
            for m in self._catalog.models()
            for v in m.versions.values()
            if v.baseline is not None
        }
        mine = self._membership.writer if self._database.shared else None
        while True:
            with self._database.read() as conn:
                found = batches.unfolded(
                    conn,
                    limit=GROUP,
                    version_ids=ready,
                    upto_id=upto,
                    writer=mine,
                    most_bytes=GROUP_BYTES,
                    held=self._recent.take,
                )
            for version_id, group in groupby(
                sorted(found, key=lambda b: b.version_id), lambda b: b.version_id
            ):
                model, version = ready[version_id]
                settings = self._config.settings(model.name)
                for target, part in self._targets.split(model, version, list(group), settings):
                    self._fold_group(model, target, part)
            if not found or self._stop.is_set():
                return

    def _fold_group(self, model: ModelHandle, target: Target, group: Sequence[StoredBatch]) -> None:
        result = self._folded(model, target, group)
        self._cursors[model.model_id] = result.cursor
        if result.set_aside:
            self._telemetry.set_aside.labels(model=self._telemetry.label(model.name)).inc(result.set_aside)
        self._facts.heard(model.model_id)
        self._changed(model.model_id, result.panes)

    def _changed(self, model_id: int, panes: Sequence[ChangedPane]) -> None:
        self._progressed()
        self._rollup.touched(model_id, (pane.start for pane in panes))
        evaluator = self._evaluators.get(model_id)
        # On a shared database the evaluator compares its sums with what is stored, whoever folded it.
        if evaluator is not None and not self._database.shared:
            for pane in panes:
                evaluator.late(pane)

    def _folded(self, model: ModelHandle, target: Target, group: Sequence[StoredBatch]) -> GroupResult:
        """Fold, and again where another daemon closed a boundary of the model meanwhile."""
        for _ in range(OVERTAKEN_TRIES - 1):
            try:
                return self._folder.fold(target, group, self.cursor(model.model_id), to_ns(self._clock.now()))
            except (Overtaken, Occupied):
                self._reread_cursor(model)
        return self._folder.fold(target, group, self.cursor(model.model_id), to_ns(self._clock.now()))

    def _evaluate(self, model: ModelHandle) -> int:
        settings = self._config.settings(model.name)
        evaluator = self._evaluators.get(model.model_id)
        if evaluator is None:
            tracks = Tracks(self._database, self._bases, self._segments)
            evaluator = Evaluator(
                self._database, model, settings, tracks, self._notifier.announce, self._progressed
            )
            self._evaluators[model.model_id] = evaluator
        evaluator.adopt(model, settings)
        now = self._clock.now()
        lateness_ns = span_ns(settings.lateness)
        silent_ns = span_ns(self._facts.silent(model.model_id, self.cursor(model.model_id)))
        cursor = advanced(
            self.cursor(model.model_id), now_ns=to_ns(now), lateness_ns=lateness_ns, silent_ns=silent_ns
        )
        label = self._telemetry.label(model.name)
        try:
            cursor, boundaries = evaluator.run(cursor, now)
        except (Overtaken, Occupied) as error:
            log.info("model %s: %s", model.name, error)
            evaluator.forget()
            self._reread_cursor(model)
            self.wake()
            return 0
        except Exception as error:
            self._failed(model, evaluator, error)
            return 0
        self._succeeded(model)
        self._cursors[model.model_id] = cursor
        self._telemetry.boundaries.labels(model=label).inc(boundaries)
        if cursor.watermark_ns is not None:
            self._telemetry.watermark.labels(model=label).set(cursor.watermark_ns / 1e9)
        return boundaries

    def _failed(self, model: ModelHandle, evaluator: Evaluator, error: Exception) -> None:
        evaluator.forget()
        self._reread_cursor(model)
        failures = self._failures[model.model_id] = self._failures.get(model.model_id, 0) + 1
        log.error("model %s: look %d in a row failed: %s", model.name, failures, error, exc_info=error)
        self._telemetry.evaluation_failures.labels(model=self._telemetry.label(model.name)).inc()
        self._facts.observe(
            model.name, [evaluation_failing(model, failures, f"{type(error).__name__}: {error}")]
        )

    def _succeeded(self, model: ModelHandle) -> None:
        if self._failures.pop(model.model_id, 0):
            self._facts.observe(model.name, [evaluation_failing(model, 0, "")])

    def _reread_cursor(self, model: ModelHandle) -> None:
        """The database decides how far a failed run came."""
        with self._database.read() as conn:
            self._cursors[model.model_id] = from_stored(storage.cursors.get(conn, model.model_id))

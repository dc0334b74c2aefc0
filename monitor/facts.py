"""The loop's facts, by the clock: traffic, losses, limits, receivers and the store, and what they are told as.

They are facts rather than statistics (`monitor.liveness`), so they are looked at every few seconds, rows or not.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from alerts.lifecycle import Condition
from monitor.clock import Clock
from monitor.config import Config
from monitor.coverage import missing_labels
from monitor.emergency import Emergency
from monitor.episodes import AlertBook
from monitor.ingest.schema import ModelHandle
from monitor.instants import from_ns, to_ns
from monitor.liveness import RECENT, Fact, limit_reached, monitoring_loss, no_traffic, pending_baselines
from monitor.membership import Membership
from monitor.notify import Notifier
from monitor.performance import judged_upto, performance_facts
from monitor.receiverhealth import receiver_facts
from monitor.segments import Segments
from monitor.storagewatch import StorageWatch, storage_fact
from monitor.watermark import Cursor
from storage import batches, halves
from storage.engine import Connection, Database

FACTS_SECONDS: Final = 5.0
"""How often facts and repeats are looked at: they go by the clock, not by traffic."""
TOTALS_SECONDS: Final = 60.0
"""How often the last hour's batches are added up."""


class Facts:
    """What is known of models without looking at their rows. Not thread-safe: the evaluation loop owns it."""

    def __init__(
        self,
        database: Database,
        config: Config,
        notifier: Notifier,
        clock: Clock,
        membership: Membership,
        segments: Segments,
        storage_watch: StorageWatch,
        emergency: Emergency,
    ) -> None:
        self._database = database
        self._config = config
        self._notifier = notifier
        self._clock = clock
        self._membership = membership
        self._segments = segments
        self._storage = storage_watch
        self._emergency = emergency
        self._refused_versions: dict[int, datetime] = {}
        self._started = clock.monotonic()
        self._heard_at: dict[int, float] = {}
        self._newest_waiting: dict[int, datetime] = {}
        self._looked_at = -math.inf
        self._totals_at = -math.inf
        self._totals: dict[int, batches.BatchTotals] = {}
        self._judged_upto: dict[int, int] = {}
        """Per model the last mature day that was held against its floors; each is, once."""

    def adopt(self, config: Config) -> None:
        """Go by this configuration from the next look on."""
        self._config = config
        self._judged_upto.clear()  # its floors may be others

    def version_refused(self, model_id: int) -> None:
        """The model has its fill of versions, and one more was named."""
        self._refused_versions[model_id] = self._clock.now()

    def look(self, led: Iterable[ModelHandle], cursor: Callable[[int], Cursor]) -> None:
        """Observe the facts of these models, where it is time again. Raises StorageError."""
        if self._clock.monotonic() - self._looked_at < FACTS_SECONDS:
            return
        self._looked_at = self._clock.monotonic()
        now = self._clock.now()
        with self._database.read() as conn:
            waiting = batches.unfolded_by_version(conn)
            lost = halves.lost_since(conn, now - RECENT)
            if self._clock.monotonic() - self._totals_at >= TOTALS_SECONDS:
                self._totals_at = self._clock.monotonic()
                self._totals = batches.totals(conn, since=now - RECENT, until=now)
        for model in led:
            settings = self._config.settings(model.name)
            facts = list(pending_baselines(model, waiting))
            facts.append(self._limits(model, now))
            facts.append(
                monitoring_loss(model, lost.get(model.model_id, (0, 0)), self._totals.get(model.model_id))
            )
            arrivals = self._arrivals(model, cursor(model.model_id), waiting)
            traffic = no_traffic(model, settings, arrivals, silent=self.silent(model.model_id, arrivals))
            if traffic is not None:
                facts.append(traffic)
            upto = judged_upto(settings, now)
            if self._judged_upto.get(model.model_id) != upto:
                with self._database.read() as conn:
                    facts += performance_facts(conn, model, settings, upto)
                    facts += missing_labels(conn, model, settings, upto)
            self.observe(model.name, facts)
            self._judged_upto[model.model_id] = upto
        if self._membership.leads(""):
            self.observe("", self._own_facts(now))
            self._watch(now)

    def _own_facts(self, now: datetime) -> list[Fact]:
        """How the daemon's own receivers and store stand."""
        with self._database.read() as conn:
            facts = list(receiver_facts(conn, self._notifier.receivers, now))
        if not self._emergency.speaking:
            facts.append(storage_fact(self._storage.trouble))
        return facts

    def _limits(self, model: ModelHandle, now: datetime) -> Fact:
        """Whether versions or values of segment tags are left out."""
        found: set[Condition] = set()
        if self._config.settings(model.name).segments:
            baselines = [v.baseline_id for v in model.versions.values() if v.baseline_id is not None]
            found = {self._segments.refused(baseline_id) for baseline_id in baselines}
        worst = next((c for c in (Condition.TRUE, Condition.UNKNOWN) if c in found), Condition.FALSE)
        refused_at = self._refused_versions.get(model.model_id)
        return limit_reached(model, version_refused_at=refused_at, segments=worst, now=now)

    def _arrivals(self, model: ModelHandle, cursor: Cursor, waiting: dict[int, tuple[int, int]]) -> Cursor:
        """The cursor, kept alive by rows that only wait for their baseline."""
        if cursor.last_arrival_ns is not None and any(
            v.version_id in waiting for v in model.versions.values()
        ):
            with self._database.read() as conn:
                newest = batches.newest_waiting(conn, model.model_id)
            if newest is not None:
                if self._newest_waiting.get(model.model_id) != newest:
                    self._newest_waiting[model.model_id] = newest
                    self.heard(model.model_id)
                return replace(cursor, last_arrival_ns=max(cursor.last_arrival_ns, to_ns(newest)))
        return cursor

    def heard(self, model_id: int) -> None:
        """Something came from the model just now."""
        self._heard_at[model_id] = self._clock.monotonic()

    def silent(self, model_id: int, cursor: Cursor) -> timedelta:
        """How long nothing has come from the model, since the daemon began, or could take something in, at most."""
        since = self._heard_at.get(model_id, self._started)
        bounds = [timedelta(seconds=self._clock.monotonic() - since)]
        now, arrived = self._clock.now(), cursor.last_arrival_ns
        if self._storage.last_bad is not None:
            bounds.append(now - self._storage.last_bad)
        if self._database.shared and arrived is not None:
            bounds.append(now - from_ns(arrived))  # another daemon heard it
        return max(min(bounds), timedelta(0))

    def observe(self, model: str, facts: Sequence[Fact]) -> None:
        """Bring the alerts of a model ('' for the daemon's own) up to date, and plan what is to be told. Raises StorageError."""
        now = self._clock.now()
        with self._database.read() as conn:
            book = AlertBook.load(conn, model)
        for fact in facts:
            book.observe(fact.labels, fact.condition, fact.rule, now, fact.detail)
        if book.changed:
            self._database.write(
                lambda conn: self._notifier.announce(conn, book.write(conn, now), now)
            ).result()

    def _watch(self, now: datetime) -> None:
        """Repeats, and silences that ended, need no transition to be told of."""

        def write(conn: Connection) -> None:
            self._notifier.announce(conn, self._notifier.groups_to_watch(conn, now), now)

        self._database.write(write).result()

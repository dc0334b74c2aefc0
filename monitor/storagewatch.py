"""Whether the store takes what is written to it: noticed from failed writes, probed until it is whole again."""

import contextlib
from datetime import datetime, timedelta
from typing import Final

from alerts.identity import AlertKind, Severity, alert_labels
from alerts.lifecycle import Condition, LifecycleRule
from monitor.clock import Clock
from monitor.liveness import Fact
from storage.engine import Database
from storage.errors import StorageError

FAILING_AFTER: Final = timedelta(seconds=10)
"""How long writes must go on failing before somebody is told: a lock that another program held is no alert."""
WHOLE_AFTER: Final = timedelta(seconds=60)
"""How long no write may fail before it is over: on a full disk small ones still pass now and then."""


class StorageWatch:
    """Asked every few seconds to `look`; `trouble` is what it saw."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._failures = database.write_failures
        self._since: datetime | None = None
        self._reason = ""
        self.last_bad: datetime | None = None
        self.writable = True

    def look(self) -> None:
        """Probe a store that failed, and note how it stands."""
        now = self._clock.now()
        failed = self._database.write_failures != self._failures or not self._database.healthy
        why = self._database.last_error
        if failed or not self.writable:
            with contextlib.suppress(StorageError):
                self._database.probe()
        self._failures = self._database.write_failures
        self.writable = self._database.healthy
        reason = why or self._database.last_error or self._database.no_room
        if reason or failed:
            self._reason = reason or "writes fail now and then"
            self._since = self._since or now
            self.last_bad = now
        elif self.last_bad is not None and now - self.last_bad >= WHOLE_AFTER:
            self._since = None

    @property
    def stubborn(self) -> bool:
        """Whether the trouble has lasted so long that an alert about it would be stored if one could be."""
        return self._lasted >= 3 * FAILING_AFTER

    @property
    def trouble(self) -> str | None:
        """Why nothing can be stored, once that has lasted; None where all is well."""
        return self._reason if self._lasted >= FAILING_AFTER else None

    @property
    def _lasted(self) -> timedelta:
        """From the first failure of this trouble to the last."""
        if self._since is None or self.last_bad is None:
            return timedelta(0)
        return self.last_bad - self._since


def storage_fact(trouble: str | None) -> Fact:
    """Whether ingest is refused because nothing can be stored."""
    return Fact(
        labels=alert_labels(AlertKind.STORAGE_FAILING),
        condition=Condition.FALSE if trouble is None else Condition.TRUE,
        rule=LifecycleRule(severity=Severity.CRITICAL),
        detail={
            "summary": f"predictions are refused: {trouble}" if trouble else "what comes is stored again"
        },
    )

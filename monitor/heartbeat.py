"""Somebody notices when we die: a URL that is pinged only while everything between a prediction and a page works.

A service that watches for the pings (Healthchecks, Cronitor, a dead man's switch) tells people when they stop.
"""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from alerts.ports import Request, Secret, Transport, check_url, origin
from monitor.clock import Clock
from monitor.config import HeartbeatTarget
from monitor.pushing import late_since
from storage.engine import Connection, Database
from storage.errors import StorageError
from storage.operations import JobRun, record_job_run

JOB: Final = "heartbeat"

log = logging.getLogger("driftd.heartbeat")


class Heartbeat:
    """Pings one URL. `looked` is when, on the monotonic clock, the loop last completed a whole round."""

    def __init__(
        self,
        target: HeartbeatTarget,
        database: Database,
        transport: Transport,
        clock: Clock,
        looked: Callable[[], float | None],
    ) -> None:
        """Raises SecretError or AlertError, naming the key, never the URL."""
        url = Secret(target.read_url().get_secret_value())
        check_url("heartbeat.url", url)
        self._request = Request(
            url=url.reveal(),
            body=b"",
            headers={"Content-Type": "text/plain"},
            timeout_seconds=target.timeout.total_seconds(),
            allow_private=target.allow_private,
        )
        self._interval = target.interval
        self._database = database
        self._transport = transport
        self._clock = clock
        self._looked = looked
        self._looked_before: float | None = None
        self._said = ""

    @property
    def interval(self) -> timedelta:
        """How often it is to be pinged."""
        return self._interval

    def beat(self) -> bool:
        """Ping if all is well; whether the ping arrived. A state that lasts is logged once."""
        wrong = self._wrong()
        if wrong:
            self._say(f"not pinged: {wrong}")
            return False
        reply = self._transport.send(self._request)
        arrived = reply.failure is None and reply.status is not None and 200 <= reply.status < 300
        if arrived:
            self._say("")
        else:
            self._say(
                f"{origin(self._request.url)} did not take it: {reply.detail or f'HTTP {reply.status}'}"
            )
        return arrived

    def _wrong(self) -> str:
        """What is not well; '' where nothing is."""
        looked, before = self._looked(), self._looked_before
        self._looked_before = looked
        if looked is None or looked == before:
            return "the evaluation loop has completed no round since the last ping"
        now = self._clock.now()

        def proven(conn: Connection) -> str:
            due = late_since(conn, now)
            if due is not None:
                return f"a message has been due since {due:%Y-%m-%d %H:%M} UTC"
            record_job_run(conn, JobRun(job=JOB, started_at=now, finished_at=now, ok=True))
            return ""

        try:
            return self._database.write(proven).result()
        except StorageError as error:
            return f"nothing can be stored: {error}"

    def _say(self, words: str) -> None:
        if words and not self._said:
            log.warning("heartbeat: %s", words)
        elif self._said and not words:
            log.info("heartbeat: it is pinged again")
        self._said = words

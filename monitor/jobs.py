"""What happens by the clock: ticks of the pipeline, the heartbeat to systemd, retention.

APScheduler's defaults are not ours: its one second of misfire grace silently skips runs on a busy machine, so
grace is unlimited and missed runs coalesce into one. Its `.running` stays true after its thread has died,
so health looks at the pipeline's own heartbeat instead. It plans by the wall clock: one set back by an hour would
mean no run for an hour, so a step of that clock against the monotonic one plans everything anew.
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Final

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from monitor.clock import Clock
from monitor.watermark import NANOSECONDS

TICK = timedelta(seconds=5)
STEP: Final = timedelta(seconds=2)
"""A wall clock that went so much faster or slower than the monotonic one was set, not slewed."""
GUARD_SECONDS: Final = 1.0

log = logging.getLogger("driftd.jobs")


class Jobs:
    """The schedule of one daemon. `stepped` is told by how much the wall clock was set."""

    def __init__(self, clock: Clock, stepped: Callable[[timedelta], object] = lambda _: None) -> None:
        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        self._clock = clock
        self._stepped = stepped
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(2)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._intervals: dict[str, timedelta] = {}
        self._offset = self._wall_minus_monotonic()
        self._stop = threading.Event()
        self._guard = threading.Thread(target=self._watch, name="clock-guard", daemon=True)

    def every(self, interval: timedelta, name: str, run: Callable[[], object]) -> None:
        """Run `run` each `interval`; a failure is logged and the next run comes all the same."""

        def guarded() -> None:
            try:
                run()
            except Exception:
                log.exception("job %s failed; it runs again in %s", name, interval)

        self._intervals[name] = interval
        self._scheduler.add_job(
            guarded,
            "interval",
            seconds=interval.total_seconds(),
            id=name,
            name=name,
            next_run_time=self._clock.now() + interval,
        )

    def cancel(self, name: str) -> None:
        """Run a job no more; nothing if there is none of that name."""
        if self._intervals.pop(name, None) is not None:
            self._scheduler.remove_job(name)

    def start(self) -> None:
        self._scheduler.start()
        self._guard.start()

    def stop(self) -> None:
        """End after the runs under way."""
        self._stop.set()
        self._guard.join()
        self._scheduler.shutdown(wait=True)

    def seconds_to(self, name: str) -> float:
        """How long until a job runs, by the wall clock as it stands."""
        planned: float = self._scheduler.get_job(name).next_run_time.timestamp()
        return planned - self._clock.now_ns() / NANOSECONDS

    def check_clock(self) -> timedelta:
        """Plan every job anew if the wall clock was set since the last call; by how much it was."""
        offset = self._wall_minus_monotonic()
        step = timedelta(seconds=offset - self._offset)
        self._offset = offset
        if abs(step) <= STEP:
            return timedelta(0)
        log.warning("the wall clock was set by %s; every job is planned anew", step)
        now = self._clock.now()
        for name, interval in self._intervals.items():
            self._scheduler.modify_job(name, next_run_time=now + interval)
        return step

    def _wall_minus_monotonic(self) -> float:
        return self._clock.now_ns() / NANOSECONDS - self._clock.monotonic()

    def _watch(self) -> None:
        while not self._stop.wait(GUARD_SECONDS):
            try:
                step = self.check_clock()
                if step:
                    self._stepped(step)
            except Exception:
                log.exception("the clock could not be checked; it is tried again")

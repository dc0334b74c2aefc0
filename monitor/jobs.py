"""What happens by the clock: ticks of the pipeline, the heartbeat to systemd, retention.

APScheduler's defaults are not ours: its one second of misfire grace silently skips runs on a busy machine, so
grace is unlimited and missed runs coalesce into one. Its `.running` stays true after its thread has died,
so health looks at the pipeline's own heartbeat instead.
"""

import logging
from collections.abc import Callable
from datetime import UTC, timedelta

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

TICK = timedelta(seconds=5)

log = logging.getLogger("driftd.jobs")


class Jobs:
    """The schedule of one daemon."""

    def __init__(self) -> None:
        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(2)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def every(self, interval: timedelta, name: str, run: Callable[[], object]) -> None:
        """Run `run` each `interval`; a failure is logged and the next run comes all the same."""

        def guarded() -> None:
            try:
                run()
            except Exception:
                log.exception("job %s failed; it runs again in %s", name, interval)

        self._scheduler.add_job(guarded, "interval", seconds=interval.total_seconds(), id=name, name=name)

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        """End after the runs under way."""
        self._scheduler.shutdown(wait=True)

"""An edge device that was offline for days: its panes still come to their hours and days, as far back as `max_past`."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from monitor.retention import enforce_retention
from storage import panes
from tests.monitor import frames
from tests.monitor.api.test_counts import AT, BASELINE, post, told
from tests.monitor.harness import Harness, harness
from tests.monitor.ingest.counts_bodies import body, pane

DAYS = 6


def rows_by_resolution(daemon: Harness) -> dict[int, int]:
    found: dict[int, int] = {}
    with daemon.service.database.read() as conn:
        for seconds in (900, 3600, 86_400):
            found[seconds] = sum(row.rows for row in panes.window(conn, 1, "", seconds, 0, 2**40))
    return found


def settle(daemon: Harness) -> None:
    for _ in range(3):
        daemon.service.pipeline.run_once()


def one(start: int, rows: int, seed: int) -> dict[str, Any]:
    return body(BASELINE, [pane(BASELINE, frames.rows(seed, rows), start)])


def test_days_of_panes_that_come_at_last_are_in_hours_and_days(tmp_path: Path) -> None:
    with harness(tmp_path, '[models.m]\nmax_past = "10d"\n') as daemon:
        daemon.put_baseline(BASELINE)
        assert told(post(daemon, one(AT, 10, 0)), 200)["accepted"] == 10
        settle(daemon)
        daemon.clock.advance(timedelta(days=DAYS, minutes=20))
        assert told(post(daemon, one(AT + DAYS * 86_400, 5, 1)), 200)["accepted"] == 5
        settle(daemon)
        offline = [pane(BASELINE, frames.rows(day, 20), AT + day * 86_400 + 7200) for day in range(DAYS)]
        assert told(post(daemon, body(BASELINE, offline)), 200)["accepted"] == 20 * DAYS
        settle(daemon)
        service = daemon.service
        enforce_retention(service.database, service.catalog, service.config, daemon.clock.now())
        found = rows_by_resolution(daemon)
        assert found[3600] == found[86_400] == 10 + 20 * DAYS  # the hour of the newest goes on
        assert found[900] < 10 + 20 * DAYS  # quarters of an hour are kept for two days

"""The schedule under a wall clock that is set: no job waits for the hour that was set back."""

from datetime import UTC, datetime, timedelta

import pytest

from monitor.clock import ManualClock
from monitor.jobs import Jobs

# Half an hour before Central European clocks went forwards; UTC, which jobs go by, knows nothing of it.
START = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def planned() -> tuple[Jobs, ManualClock]:
    clock = ManualClock(START)
    jobs = Jobs(clock)
    jobs.every(timedelta(seconds=5), "tick", lambda: None)
    jobs.every(timedelta(minutes=10), "retention", lambda: None)
    return jobs, clock


@pytest.mark.parametrize("step", [-HOUR, HOUR, -24 * HOUR, 24 * HOUR, timedelta(seconds=-3)])
def test_a_step_of_the_wall_clock_plans_every_job_anew(step: timedelta) -> None:
    jobs, clock = planned()
    clock.advance(timedelta(seconds=3))
    clock.step(step)
    assert abs(jobs.seconds_to("tick") - 2) > 2
    assert jobs.check_clock() == step
    assert jobs.seconds_to("tick") == 5
    assert jobs.seconds_to("retention") == 600
    assert jobs.check_clock() == timedelta(0)


def test_time_that_passes_and_a_clock_that_is_slewed_plan_nothing_anew() -> None:
    jobs, clock = planned()
    for _ in range(100):
        clock.advance(timedelta(seconds=1))
        clock.step(timedelta(milliseconds=15))
        assert jobs.check_clock() == timedelta(0)
    assert jobs.seconds_to("retention") == pytest.approx(600 - 101.5)


def test_the_schedule_of_a_running_daemon_is_checked_and_what_steps_is_told() -> None:
    """The real scheduler and its guard, on a clock that goes back by a day while they run."""
    import threading

    clock, told = ManualClock(datetime.now(UTC)), threading.Event()
    steps: list[timedelta] = []

    def stepped(by: timedelta) -> None:
        steps.append(by)
        told.set()

    jobs = Jobs(clock, stepped)
    jobs.every(timedelta(days=2), "tick", lambda: None)
    jobs.start()
    try:
        clock.step(-24 * HOUR)
        assert told.wait(10)
        assert steps == [-24 * HOUR]
        assert jobs.seconds_to("tick") == 48 * 3600
    finally:
        jobs.stop()

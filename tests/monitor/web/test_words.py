"""Figures and sentences as a reader sees them."""

import math
from datetime import UTC, datetime, timedelta

import pytest

from monitor.judging import ColumnRule, LeadingBet
from monitor.traffic import Traffic, compare
from monitor.web import words

HOUR = 3600
NOW = int(datetime(2026, 3, 2, 9, tzinfo=UTC).timestamp())


def rule(**changes: object) -> ColumnRule:
    told: dict[str, object] = {
        "name": "x", "learning": "learned", "source": "training", "learning_since": None, "learned_from": None,
        "learned_until": None, "block_seconds": 60, "tau_seconds": None, "delay_seconds": None, "detectable": None,
        "ks_from": "learned", "psi_from": "learned", "thresholds": (), "budget": 0.1, "budget_share": 1.0, "evidence": 0.0,
        "leading": None,
    }  # fmt: skip
    return ColumnRule(**(told | changes))  # type: ignore[arg-type]  # a table of fields


def traffic(per_hour: int) -> Traffic:
    rows = [(hour, per_hour) for hour in range(NOW - 6 * 168 * HOUR, NOW + HOUR, HOUR)]
    return compare(rows, upto=NOW + HOUR - 1, outages=())


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (5.0, "5 s"),
        (89.0, "89 s"),
        (120.0, "2 min"),
        (2_700.0, "45 min"),
        (5_400.0, "1.5 h"),
        (86_400.0, "24 h"),
        (129_600.0, "1.5 d"),
        (86_400.0 * 40, "40 d"),
        (86_400.0 * 1_234, "1,234 d"),
    ],
)
def test_lengths_of_time_are_told_in_two_figures(seconds: float, said: str) -> None:
    assert words.about(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"), [(math.nan, "–"), (0.12345, "0.123"), (99.0, "99.000"), (12_345.0, "1.2e+04")]
)
def test_a_statistic_that_is_none_is_a_dash(value: float, said: str) -> None:
    assert words.figure(value) == said


@pytest.mark.parametrize(
    ("changes", "cell", "smallest", "delay"),
    [
        (
            {"detectable": 0.123, "delay_seconds": 7_200.0},
            "D ≥ 0.12",
            "D = 0.12",
            "about 2 h after a shift of D = 0.3",
        ),
        ({}, "learned", "no shift pages so soon", "a shift of D = 0.3 would not page"),
        (
            {"learning": "too_variable"},
            "too variable",
            "no shift pages so soon",
            "a shift of D = 0.3 would not page",
        ),
        ({"learning": "learning"}, "learning", "not known yet", "not known yet"),
        ({"learning": "mismatch"}, "baseline mismatch", "not known", "not known"),
        ({"learning": "unlearned"}, "unlearned", "not known", "not known"),
    ],
)
def test_what_is_not_known_is_not_called_impossible(
    changes: dict[str, object], cell: str, smallest: str, delay: str
) -> None:
    told = rule(**changes)
    assert (words.learning_cell(told), words.detectable(told), words.delay(told)) == (cell, smallest, delay)


def test_a_baseline_mismatch_is_said_as_such() -> None:
    said = words.learning_sentence(rule(learning="mismatch"))
    assert said.startswith(
        "Baseline mismatch, not drift: production never was what this version was trained on."
    )
    since = datetime(2026, 3, 1, tzinfo=UTC)
    learned = rule(learned_from=since, learned_until=since + timedelta(days=14))
    assert (
        "timestamped training data (2026-03-01 00:00 UTC to 2026-03-15 00:00 UTC)"
        in words.learning_sentence(learned)
    )


def test_thresholds_say_where_they_come_from() -> None:
    assert words.thresholds_from(rule()) == "Thresholds: learned."
    mixed = words.thresholds_from(rule(ks_from="configuration", psi_from="preset A"))
    assert mixed == "KS D: from the configuration; PSI: those of preset A."


def test_a_bet_on_a_mean_is_no_share() -> None:
    bet = LeadingBet(
        index=3, event="mean of c", kind="mean", direction="up", trained=0.8, low=0.773, high=0.827
    )
    assert words.bet(bet) == "mean of c: 0.8 in training, 0.773 to 0.827 is nothing new"


def test_a_column_without_budget_says_that_it_does_not_page() -> None:
    assert words.budget(rule(budget=0.0, budget_share=0.0)).startswith("none now")
    assert (
        words.budget(rule(budget=0.00714, budget_share=0.0714))
        == "0.0071 false pages a year, 7.1% of the model's"
    )


@pytest.mark.parametrize(
    ("per_hour", "said"),
    [
        (0, ["0 rows an hour", "0"]),
        (4, ["4 rows an hour", "8"]),
        (90, ["1.5 rows a minute", "3"]),
        (740_640, ["12,347 rows a minute", "24,688"]),
    ],
)
def test_traffic_is_told_in_one_unit(per_hour: int, said: list[str]) -> None:
    found = traffic(per_hour)
    assert found.high is not None
    assert words.rates(found, [found.rate, found.high]) == said

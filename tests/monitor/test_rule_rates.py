"""The figures that check-config cites are those of the published tables."""

import re
from pathlib import Path

import pytest

from detectors.paging import USUAL, ClassicRule
from detectors.simulation.rules import RULES
from detectors.simulation.scenarios import SCENARIOS
from monitor.rule_rates import RATES, Rate, rates_of

TABLES = (Path(__file__).parents[2] / "docs" / "statistics-tables.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("rate", RATES, ids=lambda rate: f"{rate.scenario}-{rate.rule}")
def test_a_cited_rate_is_a_row_of_the_tables(rate: Rate) -> None:
    row = rf"(?m)^\| {rate.scenario} \| `{rate.rule}` \| {re.escape(rate.years)} \| (permanent|[0-9.]+)( \(|  *\|)"
    (found,) = re.findall(row, TABLES)
    assert found[0] == ("permanent" if rate.pages is None else f"{rate.pages:g}")


@pytest.mark.parametrize("rate", RATES, ids=lambda rate: f"{rate.scenario}-{rate.rule}")
def test_the_commands_that_made_it_are_in_the_tables_and_name_what_there_is(rate: Rate) -> None:
    command = rf"`driftd simulate --scenario {rate.scenario} [^`]*--rule {rate.rule} [^`]*--years {float(rate.years):g} --seed 1`"
    assert len(re.findall(command, TABLES)) == 1
    assert (rate.scenario in SCENARIOS, rate.rule in RULES) == (True, True)


def test_every_classic_rule_has_rates() -> None:
    for kind, threshold in USUAL.items():
        simulated, rates = rates_of(ClassicRule(kind=kind, threshold=threshold))
        assert simulated == ClassicRule(kind=kind, threshold=threshold)
        assert len(rates) == 2

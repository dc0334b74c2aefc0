"""`driftd simulate`: what it prints, what it returns, and that a wrong name is answered with the right ones."""

import json

import pytest
from click.testing import CliRunner, Result

from detectors.simulation import RULES, SCENARIOS
from monitor.cli import main


def driftd(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["simulate", *arguments])


def test_json_is_one_object_for_a_rule() -> None:
    found = driftd("--scenario", "iid_2", "--rule", "psi_010", "--years", "0.001", "--columns", "2", "--json")
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert (result["scenario"], result["rule"], result["seed"], result["columns"]) == (
        "iid_2",
        "psi_010",
        0,
        2,
    )
    assert result["false_pages_per_model_year"] == 0.0
    assert result["minutes_in_alarm_share"] == 0.0
    assert (result["delay_hours_median"], result["missed_share"]) == (None, None)


def test_several_rules_are_a_line_each() -> None:
    found = driftd(
        *("--scenario", "shift_3", "--rule", "psi_025", "--rule", "two_key_a", "--years", "0.001"),
        *("--columns", "2", "--rows-per-minute", "2", "--json"),
    )
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert [line["rule"] for line in lines] == ["psi_025", "two_key_a"]
    assert all(line["missed_share"] == 0.0 and line["rows_per_minute"] == 2.0 for line in lines)
    assert lines[1]["delay_hours_median"] < lines[0]["delay_hours_median"]


@pytest.mark.parametrize(
    ("scenario", "heading"), [("iid_2", "FALSE PAGES A YEAR"), ("shift_3", "HOURS TO THE PAGE")]
)
def test_without_json_it_is_a_table(scenario: str, heading: str) -> None:
    found = driftd("--scenario", scenario, "--rule", "psi_025", "--years", "0.001", "--columns", "1")
    assert found.exit_code == 0, found.output
    assert heading in found.stdout
    assert found.stdout.splitlines()[1].startswith("psi_025")


def test_list_names_every_scenario_and_rule() -> None:
    shown = driftd("--list").stdout
    assert all(name in shown for name in (*SCENARIOS, *RULES))
    listed = json.loads(driftd("--list", "--json").stdout)
    assert (set(listed["scenarios"]), set(listed["rules"])) == (set(SCENARIOS), set(RULES))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scenario", "none", "--rule", "psi_010", "--years", "1"), "no scenario 'none'; there are iid_60"),
        (("--scenario", "iid_2", "--rule", "none", "--years", "1"), "no rule 'none'; there are two_key_a"),
        (("--scenario", "iid_2", "--rule", "psi_010"), "--years"),
        (("--scenario", "iid_2", "--rule", "psi_010", "--years", "0"), "--years"),
        ((), "--list"),
    ],
)
def test_a_misuse_is_told_in_one_line(arguments: tuple[str, ...], said: str) -> None:
    found = driftd(*arguments)
    assert found.exit_code == 2
    assert said in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1

"""The configured rule, preset and severity in the running daemon: what pages, and what people read."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from storage import outbox
from tests.monitor import frames
from tests.monitor.harness import START, Harness, harness
from tests.monitor.world import CONFIG, MODEL, World

RULES = {
    "ks_p_value": "KS p < 0.05 in any column",
    "ks_bonferroni": "KS p < 0.05, shared by the columns",
    "psi": "PSI ≥ 0.1",
    "wasserstein": "Wasserstein-1 ≥ 0.1 standard deviations",
}


@contextmanager
def paging(tmp_path: Path, settings: str) -> Iterator[Harness]:
    """A daemon with a Slack receiver, one model, and `settings` of [defaults]."""
    chat = '[receivers.chat]\ntype = "slack"\nurl = "https://hooks.example/x"\n'
    with harness(tmp_path, f"learning = false\nfalse_pages_per_year = 10\n{settings}\n{chat}") as daemon:
        daemon.put_baseline(frames.baseline(pane_seconds=900))
        yield daemon


def alerts(daemon: Harness) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.json("GET", "/v1/alerts")["alerts"]
    return found


def told(daemon: Harness) -> list[str]:
    """Every text of every message that was written by now, oldest first, a message each."""
    with daemon.service.database.read() as conn:
        rows = outbox.list_notifications(conn)[::-1]
    return ["\n".join(_texts(json.loads(row.body))) for row in rows]


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in _texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    return [value.replace("&lt;", "<")] if isinstance(value, str) else []


@pytest.mark.parametrize("rule", RULES)
def test_a_planted_shift_pages_by_each_rule_and_says_which(tmp_path: Path, rule: str) -> None:
    with paging(tmp_path, f'rule = "{rule}"') as daemon:
        daemon.traffic(START, 1, shift=8.0)
        (alert,) = [a for a in alerts(daemon) if a["column"] == "temp"]
        assert (alert["state"], alert["severity"], alert["kind"]) == ("firing", "critical", "feature_drift")
        assert alert["detail"]["rule"] == RULES[rule]
        (message,) = told(daemon)
        assert f"decided by {RULES[rule]}, which no budget of false pages covers" in message
        detector = alert["detail"]["evidence"]["detector"]
        assert f"{detector} {alert['detail']['evidence']['statistic']:.3g} over 6h (limit " in message
        for promise in ("evidence", "a page needs 1"):
            assert promise not in message
        page = daemon.ask("GET", f"/alerts/{alert['id']}").body.decode()
        assert "Decided by" in page
        for promise in ("a page needs 1", "Strongest bet"):
            assert promise not in page
        for path in ("/models/m", "/models/m/columns/temp"):
            shown = daemon.ask("GET", path).body.decode()
            assert "which no budget of false pages covers" in shown
            assert "needs evidence above" not in shown


def test_a_page_by_a_rule_resolves_when_the_rule_no_longer_holds(tmp_path: Path) -> None:
    with paging(tmp_path, 'rule = "psi"') as daemon:
        daemon.traffic(START, 2, shift=8.0)
        daemon.traffic(START + timedelta(hours=3), 12)
        assert [a["state"] for a in alerts(daemon)] == ["resolved"]


def test_the_default_is_two_keys_and_says_so(tmp_path: Path) -> None:
    with paging(tmp_path, "") as daemon:
        daemon.traffic(START, 10, shift=12.0)
        (alert,) = alerts(daemon)
        assert (alert["severity"], alert["detail"]["rule"]) == ("critical", None)
        (message,) = told(daemon)
        assert "(a page needs 1)" in message
        assert "decided by" not in message
        assert "needs evidence above" in daemon.ask("GET", "/models/m").body.decode()
        assert "Strongest bet" in daemon.ask("GET", f"/alerts/{alert['id']}").body.decode()


def test_a_rule_leaves_ignored_and_weightless_columns_alone(tmp_path: Path) -> None:
    settings = 'rule = "ks_p_value"\nignore = ["temp"]\nweights = { confidence = 0 }'
    with paging(tmp_path, settings) as daemon:
        daemon.traffic(START, 8, shift=12.0)
        assert alerts(daemon) == []


def test_evidence_is_gathered_under_a_rule_as_without_it(tmp_path: Path) -> None:
    states = []
    for name, rule in (("own", "two_key"), ("psi", "psi")):
        config = CONFIG.replace(
            "learning = false", f'learning = false\nrule = "{rule}"\nkeep_firing_for = "1d"'
        )
        config = config.replace('keep_firing_for = "10m"\n', "")
        world = World(tmp_path / name, config=config)
        world.register(frames.baseline())
        for minute in range(20):
            world.minute(minute, shift=minute / 2)
        track = world.service.pipeline._evaluators[1]._tracks.get(1, "")
        assert track is not None
        states.append(track.evidence.encode())
        world.close()
    assert states[0] == states[1]


def test_presets_move_the_threshold_and_an_own_effect_wins(tmp_path: Path) -> None:
    limits = {}
    for name, line in (
        ("auto", ""), ("A", 'preset = "A"'), ("C", 'preset = "C"'),
        ("own", 'preset = "C"\neffect = { temp = { ks = 0.3, psi = 0.4 } }'),
    ):  # fmt: skip
        with paging(tmp_path / name, line) as daemon:
            daemon.traffic(START, 1)
            (evaluator,) = daemon.service.pipeline._evaluators.values()
            track = evaluator._tracks.get(1, "")
            assert track is not None
            limits[name] = [*track._thresholds.theta[:, 0], *track._thresholds.psi[:, 0]]
    # Preset A and C at 1 h and 6 h.
    assert limits["auto"] == limits["A"] == pytest.approx([0.35, 0.20, 0.50, 0.25])
    assert limits["C"] == pytest.approx([0.18, 0.12, 0.18, 0.12])
    assert limits["own"] == [0.3, 0.3, 0.4, 0.4]


def test_preset_c_pages_a_shift_that_a_does_not(tmp_path: Path) -> None:
    for preset, count in (("A", 0), ("C", 1)):
        with paging(tmp_path / preset, f'preset = "{preset}"') as daemon:
            daemon.traffic(START, 20, shift=4.0)  # D = .16, PSI = .16
            assert len(alerts(daemon)) == count


def test_severity_goes_by_the_effect_when_the_alert_opens_and_stays(tmp_path: Path) -> None:
    with paging(tmp_path, "severity = { warning = 1.0, critical = 3.0 }") as daemon:
        daemon.traffic(START, 8, shift=6.5)
        (alert,) = alerts(daemon)
        assert 1.0 <= alert["detail"]["effect"] < 2.0
        assert (alert["state"], alert["severity"]) == ("firing", "warning")
        assert "WARNING: m: temp" in told(daemon)[-1]
        daemon.traffic(START + timedelta(hours=9), 8, shift=30.0)
        (alert,) = alerts(daemon)
        assert (alert["state"], alert["severity"]) == ("firing", "warning")
        assert "WARNING" in told(daemon)[-1]


def test_a_sudden_large_change_after_quiet_hours_is_large_at_once(tmp_path: Path) -> None:
    """The short window pages while it is half full, when against its own high threshold the change looks just enough."""
    with paging(tmp_path, "severity = { warning = 1.0, critical = 3.0 }") as daemon:
        daemon.traffic(START, 12)
        assert alerts(daemon) == []
        hour = 12
        while not (found := alerts(daemon)):
            daemon.traffic(START + timedelta(hours=hour), 1, shift=30.0)
            hour += 1
            assert hour < 16
        assert [(a["column"], a["severity"]) for a in found] == [("temp", "critical")]


def test_a_large_effect_opens_as_critical_and_a_word_holds_for_all(tmp_path: Path) -> None:
    for name, line, severity in (
        ("steps", "severity = { warning = 1.0, critical = 3.0 }", "critical"),
        ("word", 'severity = "warning"', "warning"),
    ):
        with paging(tmp_path / name, line) as daemon:
            daemon.traffic(START, 3, shift=30.0)
            assert [a["severity"] for a in alerts(daemon)] == [severity]


def _rows(seed: int, *, temp: float) -> Mapping[str, npt.NDArray[Any]]:
    """A minute in which the confidence has fallen to the lower end of what training knows."""
    low = np.random.default_rng(seed).uniform(0.5, 0.7, 60)
    return {**frames.rows(seed, 60, shift=temp), "confidence": np.round(low, 2).astype(np.float32)}


def test_a_column_with_a_larger_effect_raises_the_open_incidents_message(tmp_path: Path) -> None:
    """Each alert keeps its own severity; the pager, which hears critical only, hears of the one that is."""
    config = CONFIG.replace(
        "learning = false", "learning = false\nseverity = { warning = 1.0, critical = 1.5 }"
    )
    pager = '\n[receivers.pager]\ntype = "pagerduty"\nrouting_key = "0123456789abcdef0123456789abcdef"\n'
    world = World(tmp_path / "state", config=config + pager)
    world.register(frames.baseline())
    minute = 0
    while not world.alerts():
        world.minute(minute, shift=8.5)
        minute += 1
        assert minute < 90
    (first,) = world.alerts()
    assert (first.column, first.severity) == ("temp", "warning")
    world.clock.advance(timedelta(minutes=2))
    world.look()
    assert {n.receiver for n in world.notifications()} == {"hook"}
    while len(world.alerts()) < 2:
        at = world.clock.now()
        world.clock.advance(timedelta(minutes=1))
        world.send(at, _rows(minute, temp=8.5), spread=timedelta(seconds=59))
        world.look()
        minute += 1
        assert minute < 180
    world.clock.advance(timedelta(minutes=2))
    world.look()
    by_column = {alert.column: alert for alert in world.alerts()}
    assert {c: a.severity for c, a in by_column.items()} == {"temp": "warning", "confidence": "critical"}
    assert by_column["temp"].group_key == by_column["confidence"].group_key
    last = {n.receiver: n for n in world.notifications()}
    assert last["hook"].severity == last["pager"].severity == "critical"
    assert set(last["hook"].alert_ids) == {by_column["temp"].id, by_column["confidence"].id}
    assert list(last["pager"].alert_ids) == [by_column["confidence"].id]
    assert MODEL in last["pager"].group_key
    world.close()


@pytest.mark.parametrize("rule", RULES)
def test_what_a_rule_decided_is_decided_again_to_the_same_bits(tmp_path: Path, rule: str) -> None:
    with paging(tmp_path, f'rule = "{rule}"') as daemon:
        daemon.traffic(START, 1, shift=8.0)
        (alert,) = [a for a in alerts(daemon) if a["column"] == "temp"]
        found = daemon.json("GET", f"/v1/alerts/{alert['id']}/explanation")
    assert found["rule"] == RULES[rule]
    assert [check["identical"] for check in found["recomputed"]] == [True]
    (own,) = [line for line in found["effects"] if line["source"] == "rule"]
    assert (own["detector"], own["holds"]) == ("ks" if rule.startswith("ks") else rule, True)
    assert own["statistic"] >= own["threshold"]

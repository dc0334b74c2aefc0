"""Routes from the configuration to the receivers: who is told, who is told of the end, and what is unwise."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from alerts.identity import AlertKind, Severity, alert_labels
from alerts.lifecycle import Condition, LifecycleRule
from monitor.cli import main
from monitor.config import check, parse
from monitor.episodes import AlertBook
from monitor.routes import destinations
from storage.engine import Connection
from tests.monitor.world import World

MINUTE = timedelta(minutes=1)
RECEIVERS = """
[alerts]
group_wait = "0s"
group_interval = "1m"
[receivers.chat]
type = "webhook"
url = "https://chat.example/x"
[receivers.pager]
type = "webhook"
url = "https://pager.example/x"
min_severity = "critical"
"""
ROUTES = """
[[routes]]
matchers = ['model =~ "fraud.*"']
receivers = ["pager"]
continue = true
repeat_interval = "10m"
[[routes]]
matchers = ['model = "credit"', 'severity = "critical"']
receivers = ["pager"]
[[routes]]
receivers = ["chat"]
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, config=RECEIVERS + ROUTES)
    yield world
    world.close()


def say(world: World, labels: dict[str, str], condition: Condition, severity: str = "critical") -> None:
    """One alert, as a look would have decided it."""
    now, model = world.clock.now(), labels.get("model", "")
    with world.service.database.read() as conn:
        book = AlertBook.load(conn, model)
    book.observe(labels, condition, LifecycleRule(severity=Severity(severity)), now, {"summary": "moved"})

    def write(conn: Connection) -> None:
        world.service.notifier.announce(conn, book.write(conn, now), now)

    world.service.database.write(write).result()


def drift(model: str, column: str = "temp") -> dict[str, str]:
    return alert_labels(AlertKind.FEATURE_DRIFT, model, "1", "", column)


def told(world: World) -> list[tuple[str, str]]:
    """Who was sent what since the last call: host and status."""
    sent = [
        (request.destination.removeprefix("https://").partition(".")[0], json.loads(request.body)["status"])
        for request in world.wire.sent
    ]
    world.wire.sent.clear()
    return sorted(sent)


def test_an_alert_goes_where_its_route_leads_and_its_end_too(world: World) -> None:
    for model in ("fraud-eu", "credit", "churn"):
        say(world, drift(model), Condition.TRUE)
        world.look()
        expected = {"fraud-eu": ["chat", "pager"], "credit": ["pager"], "churn": ["chat"]}[model]
        assert told(world) == [(name, "firing") for name in expected]
        world.clock.advance(2 * MINUTE)
        say(world, drift(model), Condition.FALSE)
        world.look()
        assert told(world) == [(name, "resolved") for name in expected]


def test_a_routes_own_spans_are_kept_beside_the_general_ones(world: World) -> None:
    say(world, drift("fraud"), Condition.TRUE)
    world.look()
    assert told(world) == [("chat", "firing"), ("pager", "firing")]
    world.clock.advance(11 * MINUTE)
    world.look()
    world.look()
    assert told(world) == [("pager", "firing")]  # chat repeats after the general 4 h


def test_who_was_told_of_the_beginning_is_told_of_the_end_whatever_the_routes_say_by_then(
    world: World,
) -> None:
    say(world, drift("credit"), Condition.TRUE)
    world.look()
    assert told(world) == [("pager", "firing")]
    world.restart(RECEIVERS + '[[routes]]\nreceivers = ["chat"]\n')
    world.clock.advance(2 * MINUTE)
    world.look()
    world.look()
    assert told(world) == [("chat", "firing")]  # new there; the pager is told nothing while it fires
    world.clock.advance(2 * MINUTE)
    say(world, drift("credit"), Condition.FALSE)
    world.look()
    assert told(world) == [("chat", "resolved"), ("pager", "resolved")]


def test_a_column_on_another_route_joins_an_incident_only_where_it_leads(world: World) -> None:
    say(world, drift("credit", "temp"), Condition.TRUE)
    say(world, drift("credit", "age"), Condition.TRUE, "warning")
    world.look()
    bodies = {request.destination: json.loads(request.body) for request in world.wire.sent}
    columns = {host: [a["labels"]["column"] for a in body["alerts"]] for host, body in bodies.items()}
    assert columns == {"https://pager.example": ["temp"], "https://chat.example": ["age"]}
    told(world)
    world.clock.advance(2 * MINUTE)
    say(world, drift("credit", "age"), Condition.FALSE)
    world.look()
    assert told(world) == [("chat", "resolved")]


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ("", []),
        (ROUTES, []),
        ('[[routes]]\nreceivers = ["chat"]\n', ["receivers.pager: no route leads there"]),
        (
            '[[routes]]\nreceivers = ["chat"]\n[[routes]]\nreceivers = ["pager"]\n',
            [
                "routes[1]: never reached, because routes[0] takes every alert",
                "receivers.pager: no route leads there",
            ],
        ),
        (
            '[[routes]]\nmatchers = [\'kind =~ ".*drift"\']\nreceivers = ["chat", "pager"]\n',
            ["routes: no route takes some alerts, so nobody is told of them, such as kind=data_quality"],
        ),
    ],
)
def test_what_is_unwise_about_routes_is_said(routes: str, expected: list[str]) -> None:
    said = [line for line in check(parse(RECEIVERS + routes)) if "route" in line]
    assert len(said) == len(expected)
    for line, beginning in zip(said, expected, strict=True):
        assert line.startswith(beginning)


def test_the_command_shows_where_an_alert_would_go(tmp_path: Path) -> None:
    path = tmp_path / "driftd.toml"
    path.write_text(f'[storage]\nstate_dir = "{tmp_path}"\n' + RECEIVERS + ROUTES)
    run = CliRunner()
    shown = run.invoke(main, ["-c", str(path), "alerts", "routes", "--model", "fraud-eu", "--json"])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.output)
    assert [(f["receiver"], f["route"], f["repeat_interval"]) for f in found] == [
        ("pager", "routes[0]", "10m"),
        ("chat", "routes[2]", "4h"),
    ]
    nobody = run.invoke(main, ["-c", str(path), "alerts", "routes", "--model", "m", "--kind", "nonsense"])
    assert nobody.exit_code == 2
    assert "kind: 'nonsense' is none of feature_drift" in nobody.output


def test_a_warning_does_not_reach_a_receiver_of_pages_whatever_its_route() -> None:
    config = parse(RECEIVERS + ROUTES)
    assert [
        f["receiver"] for f in destinations(config, kind="no_traffic", severity="warning", model="fraud")
    ] == ["chat"]

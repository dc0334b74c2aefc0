"""Matchers, routes, silences and inhibition."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from alerts.errors import AlertError
from alerts.identity import AlertKind, Severity, alert_labels
from alerts.routing import Matcher, MatchOp, Route, parse_matcher, reachable, route
from alerts.silences import Silence, expire, inhibitors, muted
from tests.alerts.samples import NOW

HOUR = timedelta(hours=1)
TEMP = alert_labels(AlertKind.FEATURE_DRIFT, "credit", "7", "region=eu", "temp")


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ('model="credit"', True),
        ("model=credit", True),
        (' model = "credit" ', True),
        ("model=cred", False),
        ("model!=credit", False),
        ("model!=other", True),
        ("model=~cred.*", True),
        ("model=~cred", False),  # the whole value has to match
        ("column=~temp|age", True),
        ("model!~cred.*", False),
        ("receiver=", True),  # an absent label is the empty value
        ("receiver!=", False),
        ("receiver=~.*", True),
        ("segment=region=eu", True),
    ],
)
def test_matchers_mean_what_alertmanagers_mean(text: str, matches: bool) -> None:
    assert parse_matcher(text).matches(TEMP) is matches


def test_a_matcher_survives_being_written_and_read() -> None:
    for value in ('a"b', "a\\b", "line\nbreak", "", " spaced "):
        matcher = Matcher("column", MatchOp.EQUAL, value)
        assert parse_matcher(str(matcher)) == matcher


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model",
        "=x",
        "model>3",
        'model="open',
        'model="a"b"',
        "model=~(",
        "mo-del=x",
        "model=" + "x" * 2000,
    ],
)
def test_a_bad_matcher_is_refused(text: str) -> None:
    with pytest.raises(AlertError, match="matchers"):
        parse_matcher(text)


def names(labels: dict[str, str], routes: list[Route], severity: Severity = Severity.CRITICAL) -> list[str]:
    return list(route(labels, severity, routes))


EU = Route(receivers=("eu",), matchers=(parse_matcher("segment=~region=eu.*"),))
US = Route(receivers=("us",), matchers=(parse_matcher("segment=region=us"),))


def test_the_first_route_that_matches_wins() -> None:
    rest = Route(receivers=("eu", "rest"))
    assert names(TEMP, [US, EU, rest]) == ["eu"]
    assert names({**TEMP, "segment": "region=us"}, [US, EU, rest]) == ["us"]
    assert names({**TEMP, "segment": ""}, [US, EU, rest]) == ["eu", "rest"]
    assert names({**TEMP, "segment": ""}, [US, EU]) == []


def test_a_route_may_let_an_alert_go_on_and_each_receiver_is_named_once() -> None:
    on = Route(receivers=("eu", "log"), matchers=EU.matchers, goes_on=True, repeat_interval=HOUR)
    found = route(TEMP, Severity.CRITICAL, [on, US, Route(receivers=("log", "rest"))])
    assert list(found) == ["eu", "log", "rest"]
    assert found["log"].repeat_interval == HOUR  # the first route that leads there says when


def test_routes_go_by_severity_too() -> None:
    pages = Route(receivers=("pager",), matchers=(parse_matcher("severity=critical"),))
    chat = Route(receivers=("chat",))
    assert names(TEMP, [pages, chat]) == ["pager"]
    assert names(TEMP, [pages, chat], Severity.WARNING) == ["chat"]


def test_what_comes_after_a_route_for_everything_is_never_reached() -> None:
    everything = Route(receivers=("chat",))
    assert list(reachable([EU, everything, US])) == [EU, everything]
    assert list(reachable([EU, replace(everything, goes_on=True), US])) == [
        EU,
        replace(everything, goes_on=True),
        US,
    ]


def test_a_broken_receiver_is_not_told_of_itself() -> None:
    labels = alert_labels(AlertKind.RECEIVER_BROKEN, receiver="slack")
    assert names(labels, [Route(receivers=("slack", "pager"))]) == ["pager"]


def silence(*matchers: str, **changes: Any) -> Silence:
    values: dict[str, Any] = {
        "id": "s1",
        "matchers": tuple(map(parse_matcher, matchers)),
        "starts_at": NOW,
        "ends_at": NOW + HOUR,
        "author": "kim",
    }
    return Silence(**{**values, **changes})


def test_a_silence_mutes_from_its_start_up_to_its_end() -> None:
    quiet = silence("column=temp")
    table = {-1: (), 0: ("s1",), 3599: ("s1",), 3600: ()}
    for seconds, expected in table.items():
        assert muted(TEMP, [quiet], NOW + timedelta(seconds=seconds)) == expected
    assert muted(TEMP, [silence("column=age")], NOW) == ()
    assert muted(TEMP, [quiet, silence("model=credit", id="s2")], NOW) == ("s1", "s2")


def test_all_matchers_of_a_silence_have_to_match() -> None:
    assert muted(TEMP, [silence("column=temp", "model=other")], NOW) == ()


@pytest.mark.parametrize("matchers", [(), ("model=~.*",), ("model!=x",)])
def test_a_silence_that_would_mute_everything_is_refused(matchers: tuple[str, ...]) -> None:
    with pytest.raises(AlertError, match="empty value"):
        silence(*matchers)


def test_a_silence_has_an_author_and_an_order() -> None:
    with pytest.raises(AlertError, match="author"):
        silence("model=x", author=" ")
    with pytest.raises(AlertError, match="ends_at"):
        silence("model=x", ends_at=NOW - HOUR)


def test_an_expired_silence_mutes_nothing_more() -> None:
    quiet = silence("column=temp")
    over = expire(quiet, NOW + HOUR / 2)
    assert muted(TEMP, [over], NOW + HOUR / 2) == ()
    assert muted(TEMP, [over], NOW + HOUR / 4) == ("s1",)
    assert not expire(quiet, NOW - HOUR).active(NOW)
    assert expire(quiet, NOW + 2 * HOUR) == quiet


def test_no_traffic_explains_drift_of_its_model_only() -> None:
    dead = alert_labels(AlertKind.NO_TRAFFIC, "credit")
    assert inhibitors(TEMP, [dead]) == (dead,)
    assert inhibitors(TEMP, [alert_labels(AlertKind.NO_TRAFFIC, "other")]) == ()
    assert inhibitors(TEMP, [alert_labels(AlertKind.NO_TRAFFIC, "credit", "6")]) == ()
    assert inhibitors(TEMP, [alert_labels(AlertKind.NO_TRAFFIC, "credit", "7")]) != ()
    assert inhibitors(dead, [dead]) == ()
    assert inhibitors(alert_labels(AlertKind.EVALUATION_FAILING, "credit"), [dead]) == ()

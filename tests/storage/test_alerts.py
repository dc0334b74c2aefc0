"""One row per opening, one open alert per key, and a history that only grows."""

from dataclasses import replace

import pytest
from sqlalchemy import Connection

from storage import alerts, silences
from storage.alerts import NewAlert, NewTransition
from storage.errors import ConstraintViolated, Immutable, NotFound, StorageError
from tests.storage.conftest import START, after


def new(key: str = "drift|credit|v1||income", **changes: object) -> NewAlert:
    alert = NewAlert(
        key=key,
        labels={"alertname": "FeatureDrift", "model": "credit"},
        kind="feature_drift",
        group_key="drift|credit|",
        model="credit",
        version="v1",
        segment="",
        column="income",
        severity="critical",
        state="firing",
        since=after(60),
        active_since=after(60),
        firing_since=after(60),
        fired_at=after(65),
        false_since=None,
        last_true=after(60),
        detail={"statistic": 0.4},
        updated_at=after(65),
    )
    return replace(alert, **changes)  # type: ignore[arg-type]  # the tests name real fields


def test_an_opening_comes_back_as_it_was_written(conn: Connection) -> None:
    alert_id = alerts.open_alert(conn, new())
    found = alerts.get(conn, alert_id)
    for name in NewAlert.__dataclass_fields__:
        assert getattr(found, name) == getattr(new(), name), name
    assert (found.resolved_at, found.resolution) == (None, None)
    assert alerts.active(conn) == [found] == alerts.active(conn, "credit")
    assert alerts.active(conn, "other") == []
    with pytest.raises(NotFound, match="no alert with id 4711"):
        alerts.get(conn, 4711)


def test_a_key_has_at_most_one_open_alert_and_any_number_of_closed_ones(conn: Connection) -> None:
    first = alerts.open_alert(conn, new())
    with conn.begin_nested() as savepoint:
        with pytest.raises(ConstraintViolated, match=r"(?i)unique constraint"):
            alerts.open_alert(conn, new(state="pending"))
        savepoint.rollback()
    for alert_id in (first, None, None):
        alerts.resolve_alert(
            conn,
            alert_id or alerts.open_alert(conn, new()),
            at=after(120),
            resolution="cleared",
            now=after(121),
        )
    again = alerts.open_alert(conn, new())
    assert [row.id for row in alerts.active(conn)] == [again]
    assert len(alerts.list_alerts(conn, state="resolved")) == 3


def test_the_moving_parts_change_until_it_is_resolved(conn: Connection) -> None:
    alert_id = alerts.open_alert(conn, new(state="pending", firing_since=None, fired_at=None))

    def move(state: str, at: int) -> None:
        alerts.update_alert(
            conn,
            alert_id,
            state=state,
            since=after(at),
            firing_since=after(at),
            fired_at=after(at + 1) if at == 100 else None,
            false_since=None,
            last_true=after(at),
            detail={"statistic": at},
            now=after(at + 1),
        )

    move("firing", 100)
    move("firing", 200)
    row = alerts.get(conn, alert_id)
    assert (row.state, row.firing_since, row.fired_at, row.detail) == (
        "firing",
        after(200),
        after(101),
        {"statistic": 200},
    )
    assert (row.active_since, row.updated_at) == (after(60), after(201))
    alerts.resolve_alert(conn, alert_id, at=after(300), resolution="retired", now=after(301))
    row = alerts.get(conn, alert_id)
    assert (row.state, row.resolved_at, row.resolution) == ("resolved", after(300), "retired")
    with pytest.raises(Immutable, match=f"alert {alert_id} is resolved already"):
        move("firing", 400)
    with pytest.raises(Immutable):
        alerts.resolve_alert(conn, alert_id, at=after(400), resolution="cleared", now=after(400))
    with pytest.raises(NotFound):
        alerts.resolve_alert(conn, 4711, at=after(400), resolution="cleared", now=after(400))
    assert alerts.get(conn, alert_id) == row


def test_alerts_are_listed_by_every_filter_and_page(conn: Connection) -> None:
    differences: dict[str, dict[str, object]] = {
        "a": {},
        "b": {"model": "fraud", "group_key": "drift|fraud|"},
        "c": {"version": "v2"},
        "d": {"segment": "region=eu"},
        "e": {"column": "age"},
        "f": {"kind": "no_traffic"},
        "g": {"severity": "warning"},
        "h": {"state": "pending"},
        "i": {"active_since": after(5000)},
    }
    ids = {name: alerts.open_alert(conn, new(key=name, **changes)) for name, changes in differences.items()}
    alerts.resolve_alert(conn, ids["a"], at=after(1000), resolution="cleared", now=after(1001))
    names = {alert_id: name for name, alert_id in ids.items()}

    def listed(**filters: object) -> str:
        return "".join(names[row.id] for row in alerts.list_alerts(conn, **filters))  # type: ignore[arg-type]  # real filters

    assert listed() == "ihgfedcba"
    assert listed(model="fraud") == "b" == listed(group_key="drift|fraud|")
    assert listed(version="v2") == "c"
    assert listed(segment="region=eu") == "d"
    assert listed(column="age") == "e"
    assert listed(kind="no_traffic") == "f"
    assert listed(severity="warning") == "g"
    assert listed(state="pending") == "h"
    assert listed(state="resolved") == "a"
    assert listed(since=after(1001)) == "ihgfedcb"
    assert listed(since=after(1000), until=after(5000)) == "hgfedcba"
    assert listed(limit=2) == "ih"
    assert listed(limit=3, before_id=ids["h"], model="credit") == "gfe"


def test_the_history_keeps_every_transition_with_its_evidence(conn: Connection) -> None:
    alert_id, other = alerts.open_alert(conn, new()), alerts.open_alert(conn, new(key="x", model="fraud"))
    fired = NewTransition(
        alert_id=alert_id,
        from_state="inactive",
        to_state="firing",
        at=after(60),
        recorded_at=after(65),
        reason="drift",
        evidence={"mean": 1.5},
        ground=b"everything",
    )
    resolved = replace(
        fired, from_state="firing", to_state="resolved", at=after(600), evidence={}, ground=None
    )
    steps = (fired, resolved, replace(fired, alert_id=other, at=after(300)))
    ids = [alerts.add_transition(conn, step) for step in steps]
    history = alerts.history(conn, alert_id)
    assert [row.id for row in history] == ids[:2]
    for name in NewTransition.__dataclass_fields__:
        assert getattr(history[0], name) == getattr(fired, name), name
    with pytest.raises(ConstraintViolated):
        alerts.add_transition(conn, replace(fired, alert_id=4711))


def test_an_acknowledgement_belongs_to_an_alert(conn: Connection) -> None:
    alert_id, other = alerts.open_alert(conn, new()), alerts.open_alert(conn, new(key="x"))
    alerts.add_ack(conn, alert_id, at=after(70), author="ada")
    alerts.add_ack(conn, alert_id, at=after(80), author="bob", comment="me too")
    assert [(ack.author, ack.comment, ack.at) for ack in alerts.list_acks(conn, alert_id)] == [
        ("ada", "", after(70)),
        ("bob", "me too", after(80)),
    ]
    assert alerts.acknowledged(conn, [alert_id, other]) == {alert_id}
    assert alerts.acknowledged(conn, []) == set()
    with pytest.raises(NotFound):
        alerts.add_ack(conn, 4711, at=after(70), author="ada")


def test_a_silence_is_in_force_from_its_start_until_its_end_or_its_expiry(conn: Connection) -> None:
    matchers = [{"name": "model", "op": "=", "value": "credit"}]

    def add(start: int, end: int) -> int:
        return silences.add(
            conn,
            matchers=matchers,
            starts_at=after(start),
            ends_at=after(end),
            author="ada",
            comment="",
            now=START,
        )

    first, second = add(100, 200), add(150, 300)
    active = [
        [s.id for s in silences.active(conn, now=after(at))] for at in (99, 100, 150, 199, 200, 299, 300)
    ]
    assert active == [[], [first], [first, second], [first, second], [second], [second], []]
    assert silences.expire(conn, first, now=after(160))
    assert not silences.expire(conn, first, now=after(161))
    assert not silences.expire(conn, second, now=after(300))
    assert [s.id for s in silences.active(conn, now=after(170))] == [second]
    row = silences.get(conn, first)
    assert (row.matchers, row.expired_at) == (matchers, after(160))
    assert [s.id for s in silences.list_silences(conn)] == [second, first]
    with pytest.raises(StorageError, match=r"ends_at .* must lie after starts_at"):
        add(100, 100)
    with pytest.raises(NotFound):
        silences.expire(conn, 4711, now=START)

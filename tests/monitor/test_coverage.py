"""Whether labels still come: told of columns that have had some, by the predictions that could have one."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from alerts.lifecycle import Condition
from monitor.coverage import missing_labels
from storage.performances import PerformanceRow
from tests.monitor.harness import Harness, Heard, harness, listener
from tests.monitor.labelled import LATE, baseline, label, predict
from tests.monitor.test_performance import ZERO, H, model, row, score, settings

ON = 'labels_mature_after = "2h"'


@pytest.fixture
def heard() -> Iterator[Heard]:
    with listener() as opened:
        yield opened


@pytest.fixture
def found(tmp_path: Path, heard: Heard) -> Iterator[Harness]:
    with harness(tmp_path, f'{ON}\npage_max_age = "off"', url=heard.url) as opened:
        opened.put_baseline(baseline())
        yield opened


def condition(found: Harness, rows: list[PerformanceRow], upto: int, text: str = ON) -> Condition:
    score(found, rows)
    with found.service.database.read() as conn:
        told = list(missing_labels(conn, model(found), settings(text), ZERO + upto * 3600))
    (fact,) = [fact for fact in told if fact.labels["column"] == LATE]
    assert fact.labels["kind"] == "labels_missing"
    return fact.condition


def hour(at: int, labelled: int, identified: int = 100) -> PerformanceRow:
    return row(at, LATE, labelled=labelled, identified=identified, rows=100)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([hour(0, 90), hour(40, 0)], Condition.TRUE),
        ([hour(0, 90), hour(40, 1)], Condition.FALSE),
        ([hour(0, 29), hour(40, 0)], Condition.UNKNOWN),  # it never had many
        ([hour(0, 90), hour(40, 0, identified=29)], Condition.UNKNOWN),  # hardly any could have one
        ([hour(0, 90)], Condition.UNKNOWN),  # nothing matures
    ],
)
def test_labels_are_missed_where_there_were_some(
    found: Harness, rows: list[PerformanceRow], expected: Condition
) -> None:
    assert condition(found, rows, 48) is expected


def test_the_day_and_the_month_before_it_are_what_counts(found: Harness) -> None:
    rows = [hour(0, 90), hour(23, 90), hour(24, 0)]
    assert condition(found, rows, 47) is Condition.FALSE
    assert condition(found, [], 48) is Condition.TRUE
    assert condition(found, [hour(24 * 30 + 20, 0)], 24 * 30 + 23) is Condition.TRUE
    assert condition(found, [], 24 * 30 + 24) is Condition.UNKNOWN


def test_without_labels_wanted_none_is_missed(found: Harness) -> None:
    assert condition(found, [hour(0, 90), hour(40, 0)], 48, "") is Condition.FALSE


def test_that_labels_stop_is_told_once_and_that_they_come_again(found: Harness, heard: Heard) -> None:
    found.service.pipeline.run_once()
    for number in range(40):
        ids = [f"{number}-{i}" for i in range(50)]
        predict(found, ids, late=[1] * 50, delay=[0.0] * 50)
        if number < 6 or number >= 34:
            label(found, ids, late=[1] * 50)
        label(found, ids[:1], delay=[0.0])
        found.clock.advance(H)
        found.service.pipeline.run_once()
        found.clock.advance(timedelta(seconds=40))
        found.service.pipeline.run_once()
        for courier in found.service.couriers.values():
            courier.run_once()
    missed = [body for body in heard.bodies() if body["commonLabels"].get("kind") == "labels_missing"]
    assert {body["commonLabels"]["column"] for body in missed} == {LATE}
    told = [
        (body["status"], body["alerts"][0]["annotations"]["summary"])
        for body in missed
        if "repeat" not in body["notification_reason"]
    ]
    assert [status for status, _ in told] == ["firing", "resolved"]
    assert told[0][1].startswith("0 of 1,200 predictions with a request id, 24 h up to 2026-03-02 06:00 UTC")

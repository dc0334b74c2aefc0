"""Labels against a floor: what pages, what ends it, and what has no say in it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alerts.identity import AlertKind, alert_labels
from alerts.lifecycle import Condition
from detectors.performance import accuracy_p_value
from monitor.budget import serving
from monitor.config import ModelSettings, parse
from monitor.counting import HOUR
from monitor.floors import LOOKS_PER_YEAR
from monitor.ingest.schema import ModelHandle
from monitor.instants import from_seconds
from monitor.performance import by_hour, judged_upto, last_day, performance_facts
from monitor.picture import picture
from storage import alerts, performances
from storage.alerts import AlertRow
from storage.performances import PerformanceRow
from tests.monitor.harness import START, Harness, Heard, harness, listener
from tests.monitor.labelled import DELAY, LATE, baseline, label, predict

H = timedelta(hours=1)
ZERO = int(START.timestamp())
FLOORS = f'labels_mature_after = "2h"\nperformance = {{ {LATE} = {{ accuracy = 0.9 }}, {DELAY} = {{ mean_absolute_error = 2.0 }} }}'


@pytest.fixture
def found(tmp_path: Path) -> Iterator[Harness]:
    with harness(tmp_path, FLOORS) as opened:
        opened.put_baseline(baseline())
        yield opened


def settings(text: str = FLOORS) -> ModelSettings:
    return parse(f"[defaults]\n{text}").settings("m")


def model(found: Harness) -> ModelHandle:
    known = found.service.catalog.model("m")
    assert known is not None
    return known


def score(found: Harness, rows: Sequence[PerformanceRow]) -> None:
    found.service.database.write(lambda conn: performances.add(conn, rows)).result()


def row(hour: int = 0, column: str = LATE, *, version_id: int = 1, **sums: Any) -> PerformanceRow:
    """An hour since `START`, of 100 labelled predictions unless said."""
    sums = {"labelled": 100, "correct": 0} | sums
    return PerformanceRow(
        version_id=version_id, segment=sums.pop("segment", ""), column=column, start=ZERO + hour * HOUR,
        **({"rows": max(sums["labelled"], 1), "identified": sums["labelled"], "error": 0.0, "absolute_error": 0.0,
            "squared_error": 0.0, "confident": 0, "confidence": 0.0} | sums),
    )  # fmt: skip


def facts(
    found: Harness, upto: int, text: str = FLOORS, *, known: ModelHandle | None = None
) -> dict[tuple[str, str], tuple[Condition, str]]:
    """Condition and words by version and column, `upto` hours since START."""
    with found.service.database.read() as conn:
        told = list(performance_facts(conn, known or model(found), settings(text), ZERO + upto * HOUR))
    assert all(fact.labels["kind"] == "performance" for fact in told)
    return {
        (fact.labels["version"], fact.labels["column"]): (fact.condition, fact.detail["summary"])
        for fact in told
    }


def condition(found: Harness, upto: int, text: str = FLOORS, column: str = LATE) -> Condition:
    return facts(found, upto, text)["1", column][0]


@pytest.mark.parametrize(
    ("correct", "labelled", "expected"),
    [
        (900, 1000, Condition.FALSE),
        (899, 1000, Condition.UNKNOWN),
        (800, 1000, Condition.TRUE),
        (0, 29, Condition.UNKNOWN),
        (29, 29, Condition.UNKNOWN),
        (0, 30, Condition.TRUE),
        (30, 30, Condition.FALSE),
    ],
)
def test_accuracy_is_held_against_its_floor(
    found: Harness, correct: int, labelled: int, expected: Condition
) -> None:
    score(found, [row(labelled=labelled, correct=correct)])
    assert condition(found, 1) is expected


@pytest.mark.parametrize(
    ("mean", "expected"), [(2.0, Condition.FALSE), (2.05, Condition.UNKNOWN), (3.0, Condition.TRUE)]
)
def test_the_mean_absolute_error_is_held_against_its_ceiling(
    found: Harness, mean: float, expected: Condition
) -> None:
    """Of 1000 exponential errors."""
    score(found, [row(0, DELAY, labelled=1000, absolute_error=1000 * mean, squared_error=2000 * mean**2)])
    found_condition, words = facts(found, 1)["1", DELAY]
    assert found_condition is expected
    assert words.startswith(f"mean absolute error {mean:.4g} where 2 is the most; 1,000 of 1,000 labelled")


def test_where_both_are_set_either_pages_and_both_must_be_met(found: Harness) -> None:
    text = f'labels_mature_after = "2h"\nperformance = {{ {DELAY} = {{ accuracy = 0.5, mean_absolute_error = 2.0 }} }}'

    def seen(hour: int, correct: int, mean: float) -> Condition:
        score(
            found,
            [
                row(
                    hour, DELAY, labelled=1000, correct=correct, absolute_error=1000 * mean,
                    squared_error=2000 * mean**2,
                )
            ],
        )  # fmt: skip
        return condition(found, hour + 1, text, DELAY)

    assert seen(0, 600, 1.0) is Condition.FALSE
    assert seen(100, 100, 1.0) is Condition.TRUE
    assert seen(200, 600, 9.0) is Condition.TRUE
    assert seen(300, 600, 2.05) is Condition.UNKNOWN


def test_a_class_has_no_error_to_hold_against_a_ceiling(found: Harness) -> None:
    score(found, [row(correct=0)])
    text = f'labels_mature_after = "2h"\nperformance = {{ {LATE} = {{ mean_absolute_error = 2.0 }} }}'
    assert facts(found, 1, text)["1", LATE][0] is Condition.UNKNOWN


def test_the_budget_is_shared_by_floors_and_by_the_versions_that_answer(found: Harness) -> None:
    """So many wrong of 1000 page at the share of one floor, and not at a sixth of it."""
    one = 'labels_mature_after = "2h"\nperformance = { late = { accuracy = 0.9 } }'
    three = FLOORS.replace(f"{DELAY} = {{", f"{DELAY} = {{ accuracy = 0.1,")
    level = 0.1 / LOOKS_PER_YEAR
    correct = max(k for k in range(1000) if accuracy_p_value(k, 1000, 0.9) <= level)
    assert accuracy_p_value(correct, 1000, 0.9) > level / 3
    score(found, [row(labelled=1000, correct=correct)])
    assert condition(found, 1, one) is Condition.TRUE
    assert condition(found, 1, three) is Condition.UNKNOWN
    found.put_baseline(baseline(), version="2")
    assert condition(found, 1, one) is Condition.TRUE  # it does not answer yet
    score(found, [row(version_id=2, labelled=1000, correct=correct)])
    assert facts(found, 1, one)["1", LATE][0] is Condition.UNKNOWN
    assert facts(found, 1, one)["2", LATE][0] is Condition.UNKNOWN


def test_whole_hours_are_judged_and_no_more_than_a_day_of_them(found: Harness) -> None:
    score(found, [row(hour, correct=100) for hour in range(24)])
    score(found, [row(24, correct=0, labelled=2000)])
    assert condition(found, 24) is Condition.FALSE  # the last hour is not over
    assert condition(found, 25) is Condition.TRUE
    score(found, [row(hour, correct=100) for hour in range(25, 49)])
    assert condition(found, 48) is Condition.TRUE
    assert condition(found, 49) is Condition.FALSE


def test_an_hour_is_over_when_its_last_prediction_has_met_its_label() -> None:
    wanted = settings()
    assert judged_upto(wanted, START + 3 * H + timedelta(minutes=9)) == ZERO
    assert judged_upto(wanted, START + 3 * H + timedelta(minutes=10)) == ZERO + HOUR
    assert judged_upto(settings(""), START + timedelta(minutes=10)) == ZERO


def test_predictions_of_the_future_do_not_hide_those_of_today(found: Harness) -> None:
    score(found, [row(0, correct=0), row(40, correct=100)])
    assert condition(found, 1) is Condition.TRUE


def test_a_version_that_answers_no_more_is_over(found: Harness) -> None:
    score(found, [row(correct=0)])
    assert condition(found, 1 + 48) is Condition.TRUE
    assert condition(found, 1 + 49) is Condition.FALSE


@pytest.mark.parametrize("stage", ["candidate", "shadow"])
def test_of_a_version_that_is_not_in_production_nobody_is_paged(found: Harness, stage: str) -> None:
    score(found, [row(correct=0)])
    known = model(found)
    versions = {name: replace(version, stage=stage) for name, version in known.versions.items()}
    assert facts(found, 1, known=replace(known, versions=versions))["1", LATE][0] is Condition.FALSE


def test_without_a_floor_nothing_is_wrong(found: Harness) -> None:
    score(found, [row(correct=0)])
    assert condition(found, 1, 'labels_mature_after = "2h"') is Condition.FALSE
    assert condition(found, 1, "") is Condition.FALSE


def test_segments_are_shown_and_not_judged(found: Harness) -> None:
    score(found, [row(correct=100), row(correct=0, segment="region=eu")])
    assert condition(found, 1) is Condition.FALSE
    with found.service.database.read() as conn:
        (shown,) = last_day(conn, model(found).versions["1"], "region=eu")
    assert shown.accuracy == 0.0


def test_what_is_shown_of_a_class_and_of_a_number(found: Harness) -> None:
    score(
        found,
        [
            row(0, LATE, rows=200, labelled=100, correct=81, confident=50, confidence=45.0),
            row(1, LATE, rows=100, labelled=0, identified=10),
            row(1, DELAY, labelled=4, error=-2.0, absolute_error=6.0, squared_error=16.0, correct=1),
        ],
    )
    version = model(found).versions["1"]
    with found.service.database.read() as conn:
        delay, late = last_day(conn, version)
        hours = by_hour(conn, version, start=ZERO, end=ZERO + 2 * HOUR)
    assert (late.start, late.end) == (START - 22 * H, START + 2 * H)
    assert (late.rows, late.coverage, late.accuracy, late.confidence) == (300, 1 / 3, 0.81, 0.9)
    assert (late.mean_error, late.mean_absolute_error, late.root_mean_squared_error) == (None, None, None)
    assert (delay.mean_error, delay.mean_absolute_error, delay.root_mean_squared_error) == (-0.5, 1.5, 2.0)
    assert (delay.accuracy, delay.confidence) == (None, None)
    assert [(h.column, h.start, h.accuracy) for h in hours] == [
        (LATE, START, 0.81), (DELAY, START + H, None), (LATE, START + H, None),
    ]  # fmt: skip


def test_an_alert_of_a_column_that_is_predicted_no_more_ends(found: Harness) -> None:
    score(found, [row(correct=0)])
    gone = alert_labels(AlertKind.PERFORMANCE, "m", "1", "", "gone")
    found.open_alert(gone)
    told = facts(found, 1)
    assert told["1", "gone"][0] is Condition.FALSE
    assert "no prediction column any more" in told["1", "gone"][1]


# The whole path: predictions and labels over the API, the loop, a webhook.


def day(found: Harness, wrong: float, hours: int = 1) -> None:
    """Hours of a hundred predictions each, of which a share turns out to be wrong; then the loop looks."""
    for _ in range(hours):
        at = found.clock.now()
        ids = [f"{at:%d%H%M}-{n}" for n in range(100)]
        predict(found, ids, late=[1] * 100, delay=[0.0] * 100)
        label(found, ids, late=[0 if n < 100 * wrong else 1 for n in range(100)])
        wait(found, H)


def wait(found: Harness, span: timedelta) -> None:
    for _ in range(round(span / timedelta(minutes=30))):
        found.clock.advance(timedelta(minutes=30))
        found.service.pipeline.run_once()
        for courier in found.service.couriers.values():
            courier.run_once()


def told(heard: Heard) -> list[tuple[str, str]]:
    """Status and kind of what the receiver was sent about performance."""
    return [
        (body["status"], alert["labels"]["column"])
        for body in heard.bodies()
        for alert in body["alerts"]
        if alert["labels"]["kind"] == "performance"
    ]


def performance_alerts(found: Harness) -> list[AlertRow]:
    with found.service.database.read() as conn:
        return [row for row in alerts.list_alerts(conn) if row.kind == AlertKind.PERFORMANCE]


@pytest.fixture
def path(tmp_path: Path) -> Iterator[tuple[Harness, Heard]]:
    with listener() as heard, harness(tmp_path, FLOORS, url=heard.url) as opened:
        opened.put_baseline(baseline())
        opened.service.pipeline.run_once()
        yield opened, heard


def test_wrong_predictions_page_repeat_and_resolve(path: tuple[Harness, Heard]) -> None:
    found, heard = path
    day(found, 0.05, 6)
    assert told(heard) == []
    day(found, 0.9, 2)
    wait(found, H)
    assert told(heard) == []  # those hours are not mature yet, and no label of them counts
    wait(found, H)
    assert told(heard) == [("firing", LATE)]
    page = next(body for body in heard.bodies() if body["alerts"][0]["labels"]["kind"] == "performance")
    text = json.dumps(page, ensure_ascii=False)
    assert "accuracy 0.8286 where 0.9 is the least" in text
    assert "Labels say that predictions are wrong more often" in text
    assert "baseline accept" not in text
    wait(found, 4.5 * H)
    assert told(heard) == [("firing", LATE)] * 2  # a reminder after four hours
    day(found, 0.0, 30)
    (alert,) = performance_alerts(found)
    assert (alert.state, alert.resolution) == ("resolved", "cleared")
    assert told(heard)[-1] == ("resolved", LATE)
    assert [status for status, _ in told(heard)].count("resolved") == 1


def burn(found: Harness) -> AlertRow:
    """Fire, and say which alert it is."""
    day(found, 0.9, 2)
    wait(found, 3 * H)
    (alert,) = performance_alerts(found)
    assert alert.state == "firing"
    return alert


def test_a_floor_that_is_taken_away_ends_its_alert(path: tuple[Harness, Heard]) -> None:
    found, _ = path
    burn(found)
    text = f'[storage]\nstate_dir = "{found.state_dir}"\n[defaults]\nlabels_mature_after = "2h"'
    found.service.pipeline.adopt(parse(text))
    wait(found, timedelta(minutes=30))
    (alert,) = performance_alerts(found)
    assert (alert.state, alert.resolution) == ("resolved", "cleared")


def test_labels_that_are_turned_off_end_its_alert(path: tuple[Harness, Heard]) -> None:
    found, _ = path
    burn(found)
    found.service.pipeline.adopt(parse(f'[storage]\nstate_dir = "{found.state_dir}"'))
    wait(found, timedelta(minutes=30))
    (alert,) = performance_alerts(found)
    assert alert.state == "resolved"


def test_the_windows_of_drift_have_no_say_in_it(path: tuple[Harness, Heard]) -> None:
    """Nothing comes for longer than the longest window, six hours: drift retires then, wrong predictions stay wrong."""
    found, _ = path
    burn(found)
    wait(found, 20 * H)
    (alert,) = performance_alerts(found)
    assert alert.state == "firing"
    day(found, 0.9, 3)  # and the column is looked at again, without drift of its own
    (alert,) = performance_alerts(found)
    assert alert.state == "firing"


def test_drift_of_the_same_column_is_an_alert_of_its_own(path: tuple[Harness, Heard]) -> None:
    found, _ = path
    mine = burn(found)
    drift = alert_labels(AlertKind.PREDICTION_DRIFT, "m", "1", "", LATE)
    found.open_alert(drift)
    wait(found, 20 * H)
    with found.service.database.read() as conn:
        states = {row.kind: row.state for row in alerts.list_alerts(conn)}
    assert states["prediction_drift"] == "resolved"
    assert states["performance"] == "firing"
    assert performance_alerts(found)[0].id == mine.id


def test_a_column_whose_predictions_are_wrong_is_not_shown_as_drifted(path: tuple[Harness, Heard]) -> None:
    found, _ = path
    burn(found)
    with found.service.database.read() as conn:
        shown = picture(found.service, conn, model(found))
    assert shown.index is not None
    names = [column.name for column in shown.index.baseline.columns]
    assert shown.state_of(names.index(LATE), "") != "drift"
    (said,) = found.json("GET", "/v1/models")["models"]
    assert (said["state"], said["firing"]) == ("inaccurate", 1)


def test_it_takes_no_part_of_the_budget_of_drift(path: tuple[Harness, Heard]) -> None:
    found, _ = path
    burn(found)
    later = int((found.clock.now() + timedelta(days=12)).timestamp())
    with found.service.database.read() as conn:
        assert serving(conn, model(found), found.service.config.settings("m"), later) == []


def test_another_baseline_makes_no_prediction_right(path: tuple[Harness, Heard]) -> None:
    found, _ = path
    alert = burn(found)
    reply = found.ask("POST", f"/v1/alerts/{alert.id}/accept", {"author": "ann"})
    assert reply.status == 409
    assert b"a new baseline does not make predictions right" in reply.body
    drift = found.open_alert(
        alert_labels(AlertKind.PREDICTION_DRIFT, "m", "1", "", LATE), window_seconds=6 * HOUR
    )
    done = found.json("POST", f"/v1/alerts/{drift}/accept", {"author": "ann"})
    assert done["resolved"] == [drift]
    wait(found, H)
    assert performance_alerts(found)[0].state == "firing"


def test_it_is_acknowledged_and_silenced_as_any_other(path: tuple[Harness, Heard]) -> None:
    found, heard = path
    alert = burn(found)
    silence = found.json(
        "POST",
        "/v1/silences",
        {"matchers": ['kind="performance"'], "duration": "6h", "author": "ann", "comment": "known"},
        status=201,
    )
    found.json("POST", f"/v1/alerts/{alert.id}/ack", {"comment": "mine", "author": "ann"}, status=201)
    shown = found.json("GET", f"/v1/alerts/{alert.id}")["alert"]
    assert (shown["acknowledged"], shown["silenced_by"]) == (True, [silence["id"]])
    wait(found, 6 * H)
    assert told(heard) == [("firing", LATE)]


def test_a_reload_tells_of_nothing_twice(path: tuple[Harness, Heard]) -> None:
    found, heard = path
    burn(found)
    found.service.pipeline.adopt(found.service.config)
    wait(found, H)
    assert told(heard) == [("firing", LATE)]
    assert len(performance_alerts(found)) == 1


def test_hours_are_judged_once_each(path: tuple[Harness, Heard], monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget is shared by one look an hour: rows that come late make no look of their own."""
    found, _ = path
    looks: list[datetime] = []

    def look(conn: Any, model: Any, settings: Any, upto: int) -> Any:
        looks.append(from_seconds(upto))
        return performance_facts(conn, model, settings, upto)

    monkeypatch.setattr("monitor.facts.performance_facts", look)
    for _ in range(60):
        found.clock.advance(timedelta(minutes=3))
        found.service.pipeline.run_once()
    assert looks == [START + n * H for n in (-2, -1, 0)][-len(looks) :]
    assert len(looks) == 3

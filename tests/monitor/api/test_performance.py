"""How right predictions turned out to be, as the API and `/metrics` tell it."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binom, binomtest

from monitor.api.health import Metrics
from monitor.telemetry import LABEL_CAP
from tests.monitor import frames, labelled
from tests.monitor.harness import Harness, harness
from tests.monitor.labelled import DELAY, LATE

PERFORMANCE = "/v1/models/m/performance"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Harness]:
    """Labels have two hours to come; a column is right 45 times of 60, and 54 of 60 are labelled."""
    with harness(tmp_path, 'labels_mature_after = "2h"\nsegments = ["region"]') as made:
        made.put_baseline(labelled.baseline())
        made.service.pipeline.run_once()
        yield made


def gauges(daemon: Harness) -> dict[str, float]:
    lines = daemon.ask("GET", "/metrics").body.decode().splitlines()
    told = [line.rsplit(" ", 1) for line in lines if line.startswith(("driftd_realised", "driftd_label_"))]
    return {name: float(value) for name, value in told}


def named(metric: str, column: str, version: str = "1") -> str:
    return f'driftd_{metric}{{column="{column}",model="m",version="{version}"}}'


def test_the_last_mature_day_and_its_hours(daemon: Harness) -> None:
    labelled.hours(daemon, 5, right=45)
    shown = daemon.json("GET", PERFORMANCE)
    assert (shown["model"], shown["version"], shown["segment"]) == ("m", "1", "")
    assert shown["mature_upto"] == "2026-03-01T03:00:00Z"
    delay, late = shown["last_day"]
    assert (delay["column"], late["column"]) == (DELAY, LATE)
    assert (late["start"], late["end"]) == ("2026-02-28T03:00:00Z", "2026-03-01T03:00:00Z")
    assert (late["rows"], late["identified"], late["labelled"]) == (180, 180, 162)
    assert (late["coverage"], late["accuracy"]) == (0.9, 45 / 54)
    interval = binomtest(135, 162).proportion_ci(method="wilson")
    assert late["accuracy_low"] == pytest.approx(interval.low)
    assert late["accuracy_high"] == pytest.approx(interval.high)
    assert (late["mean_absolute_error"], delay["accuracy"]) == (None, None)
    assert delay["mean_absolute_error"] == delay["mean_error"] == pytest.approx(3 * 9 / 54)
    assert delay["root_mean_squared_error"] == pytest.approx((9 * 9 / 54) ** 0.5)
    assert [hour["start"][11:13] for hour in shown["hours"] if hour["column"] == LATE] == [
        "00",
        "01",
        "02",
    ]
    two = daemon.json("GET", f"{PERFORMANCE}?hours=2&version=1")
    assert [hour["start"][11:13] for hour in two["hours"]] == ["01", "01", "02", "02"]
    assert two["last_day"] == shown["last_day"]


def test_a_segment_has_its_own(daemon: Harness) -> None:
    labelled.hours(daemon, 4, right=45)
    shown = daemon.json("GET", f"{PERFORMANCE}?segment=region%3Deu")
    assert shown["segment"] == "region=eu"
    late = shown["last_day"][1]
    assert (late["segment"], late["rows"], late["labelled"]) == ("region=eu", 60, 54)
    (version,) = daemon.json("GET", "/v1/models/m?segment=region%3Deu")["versions"]
    assert version["performance"] == shown["last_day"]


def test_before_anything_is_mature_there_is_nothing(daemon: Harness) -> None:
    labelled.hours(daemon, 1)
    empty: dict[str, Any] = {
        "model": "m",
        "version": "1",
        "segment": "",
        "mature_upto": None,
        "last_day": [],
        "hours": [],
    }
    assert daemon.json("GET", PERFORMANCE) == empty
    assert daemon.json("GET", "/v1/models/m")["versions"][0]["performance"] == []
    assert daemon.json("GET", "/v1/status")["models"][0]["performance"] == []
    assert gauges(daemon) == {}


def test_a_model_without_any_version_that_has_a_baseline(daemon: Harness) -> None:
    body = {"model_version": "2", "columns": {"temp": [1.0]}}
    assert daemon.ask("POST", "/v1/models/m/predictions", body).status == 200
    assert daemon.json("GET", f"{PERFORMANCE}?version=2")["mature_upto"] is None


@pytest.mark.parametrize(
    ("target", "status", "complaint"),
    [
        ("/v1/models/n/performance", 404, "there is no model 'n'"),
        (f"{PERFORMANCE}?version=7", 404, "model 'm' has no version '7'"),
        (f"{PERFORMANCE}?segment=region%3Dasia", 404, "model 'm' has no segment 'region=asia'"),
        (f"{PERFORMANCE}?hours=0", 400, "hours is a whole number from 1 to 9600, not '0'"),
        (f"{PERFORMANCE}?hours=9601", 400, "hours is a whole number from 1 to 9600"),
        (f"{PERFORMANCE}?hours=1.5", 400, "hours is a whole number"),
        (f"{PERFORMANCE}?hour=1", 400, "it takes version, segment, hours"),
    ],
)
def test_bad_questions_are_told_what_is_wrong(
    daemon: Harness, target: str, status: int, complaint: str
) -> None:
    assert complaint in daemon.json("GET", target, status=status)["detail"]


def test_models_say_it_in_short(daemon: Harness) -> None:
    labelled.hours(daemon, 4, right=45)
    (model,) = daemon.json("GET", "/v1/status")["models"]
    delay, late = model["performance"]
    assert late == {
        "column": LATE, "labelled": 108, "coverage": 0.9, "accuracy": 45 / 54, "mean_absolute_error": None,
    }  # fmt: skip
    assert (delay["accuracy"], delay["mean_absolute_error"]) == (None, pytest.approx(0.5))
    (version,) = daemon.json("GET", "/v1/models/m")["versions"]
    assert version["performance"] == daemon.json("GET", PERFORMANCE)["last_day"]


def test_metrics_are_of_what_answers_in_production(daemon: Harness) -> None:
    labelled.hours(daemon, 4, right=45)
    assert gauges(daemon) == {
        named("realised_accuracy", LATE): 45 / 54,
        named("realised_mean_absolute_error", DELAY): pytest.approx(0.5),
        named("label_coverage", LATE): 0.9,
        named("label_coverage", DELAY): 0.9,
    }
    daemon.clock.advance(timedelta(hours=48))
    assert named("realised_accuracy", LATE) in gauges(daemon)
    daemon.clock.advance(timedelta(hours=1))
    assert gauges(daemon) == {}


def test_a_shadow_version_has_no_metrics(tmp_path: Path) -> None:
    with harness(tmp_path, 'labels_mature_after = "2h"') as made:
        from detectors.codec import encode_baseline

        at = "/v1/models/m/versions/1/baseline?stage=shadow"
        octets = {"Content-Type": "application/octet-stream"}
        assert made.ask("PUT", at, encode_baseline(labelled.baseline()), headers=octets).status == 200
        made.service.pipeline.run_once()
        labelled.hours(made, 4)
        assert len(made.json("GET", PERFORMANCE)["last_day"]) == 2
        assert gauges(made) == {}


def test_names_beyond_the_cap_are_left_out_of_the_metrics(daemon: Harness) -> None:
    labelled.hours(daemon, 4)
    telemetry = daemon.service.telemetry
    for number in range(LABEL_CAP):
        telemetry.label(f"name{number}")
    assert gauges(daemon) == {}
    assert Metrics(daemon.service).page().status_code == 200


def test_an_alert_of_it_is_explained_from_what_was_stored(tmp_path: Path) -> None:
    floors = "performance = { late = { accuracy = 0.95 }, delay = { mean_absolute_error = 0.1 } }"
    with harness(tmp_path, f'labels_mature_after = "2h"\n{floors}') as daemon:
        daemon.put_baseline(labelled.baseline())
        daemon.service.pipeline.run_once()
        labelled.hours(daemon, 12, right=40)
        alerts = {a["column"]: a for a in daemon.json("GET", "/v1/alerts")["alerts"]}
        assert alerts[LATE]["title"].startswith("late: accuracy 0.7407 where 0.95 is the least; ")
        found = daemon.json("GET", f"/v1/alerts/{alerts[LATE]['id']}/explanation")
        (test,) = found["tests"]
        assert (test["measure"], test["value"], test["limit"]) == ("accuracy", 40 / 54, 0.95)
        assert test["level"] == pytest.approx(0.1 / (8766 * 2))
        # The first mature hour decides.
        assert (found["rows"], found["labelled"]) == (60, 54)
        assert test["p_value"] == pytest.approx(binom.cdf(40, 54, 0.95))
        assert found["summary"] == alerts[LATE]["detail"]["summary"]
        assert [step["identical"] for step in found["recomputed"]] == [True]
        (error,) = daemon.json("GET", f"/v1/alerts/{alerts[DELAY]['id']}/explanation")["tests"]
        assert (error["measure"], error["limit"]) == ("mean_absolute_error", 0.1)
        damage(daemon, alerts[LATE]["id"], correct=41)
        (step,) = daemon.json("GET", f"/v1/alerts/{alerts[LATE]['id']}/explanation")["recomputed"]
        assert not step["identical"]
        assert "accuracy: stored 0.74" in step["differences"][0]


def damage(daemon: Harness, alert: int, **sums: Any) -> None:
    """Another sum in the stored transitions of an alert than was tested."""
    from sqlalchemy import select, update

    from storage.engine import Connection
    from storage.tables import transitions

    def write(conn: Connection) -> None:
        mine = transitions.c.alert_id == alert
        for number, kept in conn.execute(select(transitions.c.id, transitions.c.evidence).where(mine)).all():
            evidence = kept if isinstance(kept, dict) else json.loads(kept)
            evidence["day"] |= sums
            conn.execute(update(transitions).where(transitions.c.id == number).values(evidence=evidence))

    daemon.service.database.write(write).result()


def test_a_model_without_labels_answers_as_ever(tmp_path: Path) -> None:
    with harness(tmp_path) as daemon:
        daemon.put_baseline(frames.baseline(pane_seconds=900))
        assert daemon.json("GET", PERFORMANCE)["last_day"] == []

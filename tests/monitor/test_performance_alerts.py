"""A floor for accuracy pages, beside drift of the same column and untouched by it."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from alerts.identity import AlertKind, alert_labels
from monitor.budget import serving
from storage import alerts
from storage.alerts import AlertRow
from tests.monitor import labelled
from tests.monitor.harness import Harness, harness
from tests.monitor.labelled import DELAY, LATE

FLOORS = """
    labels_mature_after = "2h"
    performance = { late = { accuracy = 0.95 }, delay = { mean_absolute_error = 0.1 } }
    segments = ["region"]
"""


@pytest.fixture
def found(tmp_path: Path) -> Iterator[Harness]:
    with harness(tmp_path, FLOORS) as opened:
        opened.put_baseline(labelled.baseline())
        opened.service.pipeline.run_once()
        yield opened


def opened(found: Harness) -> list[AlertRow]:
    with found.service.database.read() as conn:
        return alerts.active(conn, "m")


def of_performance(found: Harness) -> dict[str, str]:
    return {row.column: row.state for row in opened(found) if row.kind == "performance"}


def test_drift_of_the_same_column_neither_ends_it_nor_takes_its_place(found: Harness) -> None:
    labelled.hours(found, 12, rows=600, labelled=600, right=400)
    first = {row.id for row in opened(found)}
    assert [(row.kind, row.column) for row in opened(found)] == [
        ("performance", DELAY),
        ("performance", LATE),
    ]
    # Looks in which the columns' values are judged, and found stable, for longer than keep_firing_for.
    labelled.hours(found, 3, rows=600, labelled=600, right=400, step=timedelta(hours=3))
    assert {row.id for row in opened(found)} == first
    labelled.hours(found, 6, rows=600, labelled=600, right=400, shift=40.0)
    assert of_performance(found) == {LATE: "firing", DELAY: "firing"}
    drifted = {(row.column, row.segment) for row in opened(found) if row.kind == "prediction_drift"}
    assert drifted == {(DELAY, segment) for segment in ("", "region=eu", "region=us")}


def test_a_new_baseline_does_not_make_predictions_right(found: Harness) -> None:
    labelled.hours(found, 12, rows=120, labelled=120, right=80)
    late = next(row for row in opened(found) if row.column == LATE and row.kind == "performance")
    told = found.json("POST", f"/v1/alerts/{late.id}/accept", status=409)
    assert "a new baseline does not make predictions right" in told["detail"]
    drift = found.open_alert(alert_labels(AlertKind.PREDICTION_DRIFT, "m", "1", "", LATE))
    done = found.json("POST", f"/v1/alerts/{drift}/accept")
    assert done["resolved"] == [drift]
    assert of_performance(found) == {LATE: "firing", DELAY: "firing"}


def test_a_version_that_falls_silent_keeps_it_until_it_answers_no_more(found: Harness) -> None:
    labelled.hours(found, 12, right=40)
    first = {row.id for row in opened(found) if row.kind == "performance"}
    for _ in range(7):
        found.clock.advance(timedelta(hours=6))
        found.service.pipeline.run_once()
    assert {row.id for row in opened(found) if row.kind == "performance"} == first
    assert of_performance(found) == {LATE: "firing", DELAY: "firing"}
    found.clock.advance(timedelta(hours=24))
    found.service.pipeline.run_once()
    assert of_performance(found) == {}


def test_it_is_not_read_as_drift(found: Harness) -> None:
    labelled.hours(found, 12, rows=120, labelled=120, right=80)
    (model,) = found.json("GET", "/v1/models")["models"]
    assert (model["state"], model["firing"]) == ("inaccurate", 2)
    (version,) = found.json("GET", "/v1/models/m")["versions"]
    assert "drift" not in {column["state"] for column in version["columns"]}
    with found.service.database.read() as conn:
        handle = found.service.catalog.model("m")
        assert handle is not None
        found.clock.advance(timedelta(days=1))
        settings = found.service.config.settings("m")
        upto = int(found.clock.now().timestamp()) + 10**6
        assert serving(conn, handle, settings, upto) == []  # no part of the budget of what answers now

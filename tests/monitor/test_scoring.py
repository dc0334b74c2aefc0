"""Predictions meet their labels when they are old enough: once each, whatever came when."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from monitor import scoring
from monitor.scoring import Scorer
from storage import performances
from storage.errors import Overtaken
from storage.performances import PerformanceRow, summed
from tests.monitor.harness import START, Harness, harness
from tests.monitor.labelled import DELAY, LATE, baseline, label, predict

H = timedelta(hours=1)


@pytest.fixture
def found(tmp_path: Path) -> Iterator[Harness]:
    with harness(tmp_path, 'labels_mature_after = "2h"\nsegments = ["region"]') as opened:
        opened.put_baseline(baseline())
        opened.service.pipeline.run_once()  # from now on labels are waited for
        yield opened


def pass_time(found: Harness, span: timedelta) -> None:
    found.clock.advance(span)
    while True:
        before = rows(found, None)
        found.service.pipeline.run_once()
        if rows(found, None) == before:
            return


def rows(found: Harness, segment: str | None = "") -> list[PerformanceRow]:
    model = found.service.catalog.model("m")
    assert model is not None
    with found.service.database.read() as conn:
        ids = [version.version_id for version in model.versions.values()]
        return performances.list_rows(conn, ids, start=0, end=2**40, segment=segment)


def of(found: Harness, column: str, segment: str = "") -> PerformanceRow:
    return summed([row for row in rows(found, segment) if row.column == column])


def test_predictions_meet_their_labels_when_they_are_old_enough(found: Harness) -> None:
    predict(
        found,
        ["a", "b", "c", None],
        late=[1, 0, 1, 0],
        delay=[5.0, -1.0, 2.0, 0.5],
        confidence=[0.9, 0.75, 0.5, 1],
    )
    label(found, ["a", "b"], late=[1, 1], delay=[4.0, 1.0])
    pass_time(found, H * 1.99)
    assert rows(found) == []
    label(found, ["c"], late=[1], delay=[2.0])
    pass_time(found, H * 0.02)
    late, delay = of(found, LATE), of(found, DELAY)
    assert (late.rows, late.identified, late.labelled, late.correct) == (4, 3, 3, 2)
    assert (late.error, late.absolute_error, late.squared_error) == (0.0, 0.0, 0.0)
    assert late.confident == 3
    assert late.confidence == pytest.approx(2.15)
    assert (delay.labelled, delay.correct) == (3, 1)
    assert (delay.error, delay.absolute_error, delay.squared_error) == (-1.0, 3.0, 5.0)
    assert late.start == int(START.timestamp())
    label(found, ["a"], late=[0])  # too late to count
    pass_time(found, H)
    assert of(found, LATE) == late


def test_what_was_there_before_labels_were_asked_for_is_not_scored(tmp_path: Path) -> None:
    with harness(tmp_path, 'labels_mature_after = "2h"') as opened:
        opened.put_baseline(baseline())
        predict(opened, ["old"], late=[1], delay=[0.0])
        opened.clock.advance(3 * H)
        pass_time(opened, H)
        predict(opened, ["new"], late=[1], delay=[0.0])
        pass_time(opened, 3 * H)
        assert of(opened, LATE).rows == 1


def test_segments_have_their_own(found: Harness) -> None:
    predict(found, ["a", "b", "c"], late=[1, 1, 1], delay=[0.0] * 3, tags={"region": ["eu", "us", "eu"]})
    label(found, ["a", "b", "c"], late=[1, 1, 0])
    pass_time(found, 3 * H)
    assert [(r.rows, r.correct) for r in (of(found, LATE, "region=eu"), of(found, LATE, "region=us"))] == [
        (2, 1),
        (1, 1),
    ]
    assert of(found, LATE).correct == 2


def test_hours_are_those_of_the_predictions(found: Harness) -> None:
    found.clock.advance(5 * H)
    at = [int((START + n * H).timestamp()) * 10**9 for n in (3, 4, 4)]
    predict(found, ["a", "b", "c"], late=[1, 1, 1], delay=[0.0] * 3, ts=at)
    pass_time(found, 3 * H)
    assert [(r.start, r.rows) for r in rows(found) if r.column == LATE] == [
        (int((START + 3 * H).timestamp()), 1),
        (int((START + 4 * H).timestamp()), 2),
    ]


def test_the_last_word_on_a_prediction_counts(found: Harness) -> None:
    predict(found, ["a", "b"], late=[1, 1], delay=[0.0, 0.0])
    label(found, ["a", "b"], late=[0, 1])
    found.clock.advance(timedelta(minutes=1))
    label(found, ["a", "b"], late=[1, 0])
    pass_time(found, 3 * H)
    assert of(found, LATE).correct == 1


@pytest.mark.parametrize("truth", [[True, False], ["1", "0"], [1.0, 0.0], ["true", "false"]])
def test_a_class_may_be_written_in_several_ways(found: Harness, truth: list[object]) -> None:
    predict(found, ["a", "b"], late=[1, 0], delay=[0.0, 0.0])
    label(found, ["a", "b"], late=truth)
    pass_time(found, 3 * H)
    assert (of(found, LATE).labelled, of(found, LATE).correct) == (2, 2)


def test_a_number_is_compared_as_the_model_writes_it(found: Harness) -> None:
    """0.1 is no float32: a prediction of it is right all the same."""
    predict(found, ["a"], late=[1], delay=[0.1])
    label(found, ["a"], delay=[0.1])
    pass_time(found, 3 * H)
    assert of(found, DELAY).correct == 1


def test_errors_beyond_all_measure_spoil_no_sum(tmp_path: Path) -> None:
    """The square of 1e200 is no float, 1e308 less -1e308 is none either, and one of each sign add up to NaN."""
    with harness(tmp_path, 'labels_mature_after = "2h"') as opened:
        opened.put_baseline(baseline(delay="float64"))
        opened.service.pipeline.run_once()
        predict(opened, ["a", "b", "c", "d"], late=[1] * 4, delay=[1e308, -1e308, 1e200, 1.0])
        label(opened, ["a", "b", "c", "d"], delay=[-1e308, 1e308, 0.0, 0.0])
        pass_time(opened, 3 * H)
        found = of(opened, DELAY)
        assert found.labelled == 4
        assert found.error == pytest.approx(1e100)
        assert found.absolute_error == pytest.approx(3e100)
        assert found.squared_error == pytest.approx(3e200)


def test_batches_of_two_layouts_are_scored_as_each_alone(found: Harness) -> None:
    predict(found, ["a", "b"], late=[1, 0], delay=[1.0, 2.0])
    found.json(
        "POST",
        "/v1/models/m/predictions",
        {"model_version": "1", "columns": {DELAY: [4, 5], LATE: [1, 1], "temp": [1, 2]}, "ids": ["c", "a"]},
    )
    label(found, ["a", "b", "c"], late=[1, 0, 0], delay=[1.0, 1.0, 1.0])
    pass_time(found, 3 * H)
    late, delay = of(found, LATE), of(found, DELAY)
    assert (late.rows, late.labelled, late.correct, late.confident) == (4, 4, 3, 2)
    assert (delay.labelled, delay.correct, delay.absolute_error) == (4, 1, 0 + 1 + 3 + 4)


def test_the_only_prediction_is_meant_by_its_role_too(found: Harness) -> None:
    """As when one sender names the column and another its role; where both are told, the column's own name stands."""
    found.put_baseline(baseline(LATE))
    predict(found, ["a", "b", "c"], late=[1, 1, 1], delay=[0.0] * 3)
    label(found, ["a"], late=[1])
    label(found, ["b"], prediction=[1])
    label(found, ["c"], late=[1], prediction=[0])
    pass_time(found, 3 * H)
    assert (of(found, LATE).labelled, of(found, LATE).correct) == (3, 3)


def test_a_role_that_several_columns_have_means_none_of_them(found: Harness) -> None:
    refused = found.json(
        "POST", "/v1/models/m/labels", {"ids": ["a"], "columns": {"prediction": [1]}}, status=422
    )
    assert "they are 'delay', 'late'" in refused["errors"][0]["detail"]


def test_many_batches_take_several_looks_and_count_once(
    found: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "GROUP", 3)
    monkeypatch.setattr(scoring, "GROUPS", 2)
    for number in range(10):
        predict(found, [f"a{number}"], late=[1], delay=[0.0])
        label(found, [f"a{number}"], late=[1])
    found.clock.advance(3 * H)
    looks = []
    for _ in range(3):
        found.service.pipeline.run_once()
        looks.append(of(found, LATE).correct)
    assert looks == [6, 10, 10]


def test_of_two_daemons_one_counts(found: Harness) -> None:
    predict(found, ["a"], late=[1], delay=[0.0])
    label(found, ["a"], late=[1])
    found.clock.advance(3 * H)
    service = found.service
    model = service.catalog.model("m")
    assert model is not None
    other = Scorer(service.database, "other", service.pipeline.segments)
    mine = Scorer(service.database, "mine", service.pipeline.segments)
    meanwhile = other._group

    def overtaken(*arguments: object) -> object:
        group = meanwhile(*arguments)  # type: ignore[arg-type]
        mine.step(model, 2 * H, (), service.clock.now())
        return group

    other._group = overtaken  # type: ignore[method-assign, assignment]
    with pytest.raises(Overtaken):
        other.step(model, 2 * H, (), service.clock.now())
    assert of(found, LATE).correct == 1


def test_a_model_without_traffic_moves_on_past_the_others(
    found: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "FAR", 4)
    found.put_baseline(baseline(), model="idle")
    found.service.pipeline.run_once()
    idle = found.service.catalog.model("idle")
    assert idle is not None
    for number in range(4):
        predict(found, [f"a{number}"], late=[1], delay=[0.0])

    def upto() -> int | None:
        with found.service.database.read() as conn:
            return performances.scored_upto(conn, idle.model_id)

    assert upto() == 0
    pass_time(found, 3 * H)
    assert upto() == 2  # at a distance from ids whose transactions may be under way


def test_a_version_without_a_baseline_is_passed_over(found: Harness) -> None:
    predict(found, ["a"], late=[1], delay=[0.0], model_version="2")
    predict(found, ["b"], late=[1], delay=[0.0])
    pass_time(found, 3 * H)
    assert of(found, LATE).rows == 1


def test_a_failure_is_told_and_tried_again(
    found: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    predict(found, ["a"], late=[1], delay=[0.0])
    found.clock.advance(3 * H)
    with monkeypatch.context() as broken:
        broken.setattr(scoring, "scored", lambda *_: 1 / 0)
        found.service.pipeline.run_once()
    assert "did not meet their labels" in caplog.text
    assert rows(found) == []
    pass_time(found, H)
    assert of(found, LATE).rows == 1


def test_rows_of_one_hour_are_written_together() -> None:
    row = PerformanceRow(
        version_id=1, segment="", column=LATE, start=0, rows=1, identified=1, labelled=1, correct=1, error=0.5,
        absolute_error=0.5, squared_error=0.25, confident=1, confidence=0.5,
    )  # fmt: skip
    assert scoring._summed([row, replace(row, start=3600), row]) == [
        replace(row, rows=2, identified=2, labelled=2, correct=2, error=1.0, absolute_error=1.0,
                squared_error=0.5, confident=2, confidence=1.0),
        replace(row, start=3600),
    ]  # fmt: skip

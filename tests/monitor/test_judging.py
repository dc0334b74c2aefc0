"""How columns are judged, as it is told: what is stored, what the operator set, and where nothing is known."""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from detectors.decision import (
    Calibration,
    CalibrationSource,
    ColumnLearning,
    EventIndex,
    Thresholds,
    unlearned,
)
from monitor.config import parse
from monitor.judging import ColumnRule, describe, judged
from storage import baselines
from storage.engine import Connection
from tests.monitor import frames
from tests.monitor.world import CONFIG, MODEL, START, World

BASELINE = frames.baseline()
INDEX = EventIndex.of(BASELINE)
SPAN = (1_700_000_000, 1_701_209_600)
LEARNING = CONFIG.replace("learning = false", "learning = true")


def calibration(*states: ColumnLearning) -> Calibration:
    """What was learned of temp, carrier and confidence: `detectable` and the delay are infinite for carrier."""
    start = unlearned(INDEX, (900, 3600), 60)
    theta = np.array([[0.4, np.inf, 0.6], [0.2, 0.3, 0.35]])
    return replace(
        start,
        states=states,
        source=CalibrationSource.TRAINING,
        span=SPAN,
        thresholds=Thresholds(theta=theta, psi=2 * theta, rates=np.stack([theta] * 3)),
        block_seconds=np.array([60, 3600, 60]),
        tau_seconds=np.array([5_400.0, 100.0, math.nan]),
        delay_seconds=np.array([2_700.0, math.inf, math.nan]),
        detectable=np.array([0.23, math.inf, math.nan]),
    )


LEARNED = calibration(ColumnLearning.LEARNED, ColumnLearning.LEARNED, ColumnLearning.MISMATCH)


def told(found: Calibration, config: str = LEARNING, *, share: float = 0.5) -> dict[str, ColumnRule]:
    rules = describe(INDEX, found, parse(config).settings(MODEL), stored=None, share=share)
    return {rule.name: rule for rule in rules}


def test_what_was_learned_is_told_and_infinity_is_never_a_number() -> None:
    rules = told(LEARNED)
    temp, carrier, confidence = rules["temp"], rules["carrier"], rules["confidence"]
    assert (temp.learning, temp.source, temp.ks_from, temp.psi_from) == (
        "learned",
        "training",
        "learned",
        "learned",
    )
    assert (temp.detectable, temp.delay_seconds, temp.tau_seconds, temp.block_seconds) == (
        0.23,
        2_700.0,
        5_400.0,
        60,
    )
    assert [(t.seconds, t.ks, t.psi) for t in temp.thresholds] == [(900, 0.4, 0.8), (3600, 0.2, 0.4)]
    assert [(t.seconds, t.ks, t.psi) for t in carrier.thresholds] == [(900, None, None), (3600, 0.3, 0.6)]
    assert (carrier.detectable, carrier.delay_seconds) == (None, None)
    assert (confidence.learning, confidence.ks_from, confidence.tau_seconds) == ("mismatch", "preset A", None)
    assert temp.learned_from == datetime.fromtimestamp(SPAN[0], UTC)
    assert temp.learned_until == datetime.fromtimestamp(SPAN[1], UTC)
    assert {rule.learning_since for rule in rules.values()} == {None}


def test_a_budget_is_shared_by_weight_and_an_ignored_column_has_none() -> None:
    weighed = LEARNING.replace("[alerts]", 'ignore = ["carrier"]\nweights = { temp = 3.0 }\n[alerts]')
    rules = told(LEARNED, weighed)
    assert [rules[n].budget_share for n in ("temp", "carrier", "confidence")] == [0.375, 0.0, 0.125]
    assert [rules[n].budget for n in ("temp", "carrier", "confidence")] == [0.375, 0.0, 0.125]
    assert told(LEARNED, share=0.0)["temp"].budget == 0.0


@pytest.mark.parametrize(
    ("own", "sources", "first"),
    [
        ("ks = 0.5", ("configuration", "learned"), (0.5, 0.8)),
        ("psi = 0.7", ("learned", "configuration"), (0.4, 0.7)),
        ("ks = 0.5\npsi = 0.7", ("configuration", "configuration"), (0.5, 0.7)),
    ],
)
def test_thresholds_of_the_operator_are_told_as_such(
    own: str, sources: tuple[str, str], first: tuple[float, float]
) -> None:
    rule = told(LEARNED, f"{LEARNING}\n[models.credit.effect.temp]\n{own}\n")["temp"]
    assert (rule.ks_from, rule.psi_from) == sources
    assert (rule.thresholds[0].ks, rule.thresholds[0].psi) == first


def test_a_threshold_in_the_columns_own_units_is_the_operators() -> None:
    rule = told(LEARNED, f"{LEARNING}\n[models.credit.effect.temp]\nshift = 10.0\n")["temp"]
    assert (rule.ks_from, rule.psi_from) == ("configuration", "learned")
    # Ten of a normal column with deviation ten: D = 2 Phi(1/2) - 1.
    assert rule.thresholds[1].ks == pytest.approx(0.383, abs=0.02)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path / "state", config=LEARNING)
    opened.register(BASELINE)
    yield opened
    opened.close()


def rules_of(world: World) -> dict[str, ColumnRule]:
    model = world.service.catalog.model(MODEL)
    assert model is not None
    with world.service.database.read() as conn:
        return {rule.name: rule for rule in judged(world.service, conn, model, model.versions["1"])}


def test_before_the_first_row_nothing_is_learned_and_no_budget_is_spent(world: World) -> None:
    temp = rules_of(world)["temp"]
    assert (temp.learning, temp.learning_since, temp.learned_from) == ("learning", None, None)
    assert (temp.evidence, temp.leading, temp.budget) == (0.0, None, 0.0)


def test_what_is_told_is_what_the_daemon_judges_by_also_after_it_has_stopped(world: World) -> None:
    for minute in range(20):
        world.minute(minute, shift=30.0)
    track = world.service.pipeline._evaluators[1]._tracks.get(1, "")
    assert track is not None
    temp = rules_of(world)["temp"]
    assert temp.learning_since == START
    assert temp.block_seconds == track.calibration.block_seconds[0]
    assert temp.budget_share == pytest.approx(track.rule.shares[0])
    assert temp.evidence > 1
    assert temp.leading is not None
    assert temp.leading.event.startswith("temp")
    event = temp.leading.index
    assert temp.leading.low == track.calibration.bands.low[event]
    assert temp.leading.high == track.calibration.bands.high[event]
    assert temp.leading.low <= temp.leading.trained <= temp.leading.high
    world.restart()
    assert rules_of(world)["temp"] == temp


def test_a_stored_calibration_is_told(world: World) -> None:
    def write(conn: Connection) -> None:
        row = baselines.NewCalibration(
            version_id=1,
            baseline_id=1,
            segment="",
            valid_from=-(2**62),
            source="training",
            span_start=SPAN[0],
            span_end=SPAN[1],
            blob=LEARNED.encode(),
        )
        baselines.add_calibration(conn, row)

    world.service.database.write(write).result()
    world.minute(1)
    world.clock.advance(timedelta(minutes=1))
    assert {name: rule.learning for name, rule in rules_of(world).items()} == {
        "temp": "learned",
        "carrier": "learned",
        "confidence": "mismatch",
    }

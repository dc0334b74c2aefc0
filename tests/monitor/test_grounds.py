"""Every verdict that opened, held or ended an alert can be decided again, bit for bit, from what was stored with it."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from detectors.decision import EventIndex, Ground, Rules, redo, threshold_source
from detectors.profile import Baseline, ColumnData, build_baseline
from detectors.types import ColumnState, DetectorError
from monitor.backtest import backtest
from monitor.explanation import NotDecided, explain
from monitor.redoing import decide_again
from monitor.track import measure
from storage import retention
from storage.engine import Connection
from storage.tables import blocks, transitions
from tests.monitor import frames
from tests.monitor.test_learning import HOURLY
from tests.monitor.world import CONFIG, World

BASELINE = frames.baseline()
INDEX = EventIndex.of(BASELINE)
OWN = CONFIG.replace("lateness", "effect = { temp = { ks = 0.25 } }\nweights = { temp = 3.0 }\nlateness")


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a drift alert that fired, subsided and resolved, left behind by a daemon that was once restarted."""
    directory = tmp_path_factory.mktemp("left") / "state"
    world = World(directory, config=OWN)
    world.register(BASELINE)
    for minute in range(100):
        world.minute(1000 + minute, shift=10.0 if 20 <= minute < 50 else 0.0)
        if minute == 30:
            world.restart()
        if minute == 35:
            world.clock.advance(timedelta(minutes=3))
    world.close()
    return directory


@pytest.fixture
def world(left: Path, tmp_path: Path) -> Iterator[World]:
    shutil.copytree(left, tmp_path / "state")
    opened = World(tmp_path / "state", config=OWN)
    yield opened
    opened.close()


def story(world: World) -> int:
    (alert,) = [a for a in world.alerts() if a.column == "temp"]
    assert alert.state == "resolved"
    return alert.id


def grounds(world: World, alert_id: int) -> list[Ground]:
    stored = [row.ground for row in world.history(alert_id)]
    return [Ground.decode(BASELINE, blob) for blob in stored if blob is not None]


def test_every_transition_of_a_drift_is_decided_again_to_the_same_bits(world: World) -> None:
    alert_id = story(world)
    rows = world.history(alert_id)
    assert (rows[0].reason, rows[-1].reason) == ("fired", "resolved")
    with world.service.database.read() as conn:
        again = [decide_again(conn, INDEX, "", row) for row in rows]
    assert [one.check.differences for one in again] == [()] * len(rows)
    assert {one.check.blocks_from for one in again} == {"blocks"}
    fired = again[0]
    assert fired.redone.verdict.state is ColumnState.DRIFT
    assert fired.redone.verdict.evidence >= 1.0
    told = rows[0].evidence["evidence"]
    assert fired.redone.verdict.effect is not None
    assert (told["statistic"], told["threshold"]) == (
        fired.redone.verdict.effect.statistic,
        fired.redone.verdict.effect.threshold,
    )
    assert told["evidence"] == fired.redone.verdict.evidence
    assert again[-1].redone.holds is False


def test_a_ground_survives_configuration_and_retention(world: World) -> None:
    alert_id = story(world)
    world.restart(CONFIG.replace("false_pages_per_year = 1.0", "false_pages_per_year = 50.0"))
    with world.service.database.read() as conn:
        before = explain(conn, alert_id)
    drop = world.service.database.write(lambda conn: retention.drop_blocks_before(conn, 2**40, limit=10**6))
    assert drop.result() == 99
    with world.service.database.read() as conn:
        after = explain(conn, alert_id)
    assert before.identical
    assert after.identical
    assert before.effects == after.effects
    assert before.budget.false_pages_per_year == 1.0
    assert {check.blocks_from for check in before.recomputed} == {"blocks"}
    assert {check.blocks_from for check in after.recomputed} == {"transition"}
    assert after.evidence.blocks == ()


def test_a_block_that_was_tampered_with_is_told(world: World) -> None:
    alert_id = story(world)
    first = grounds(world, alert_id)[0]
    start = first.blocks[-1][0]

    def tamper(conn: Connection) -> None:
        other = INDEX.count(BASELINE.profile).encode()
        conn.execute(blocks.update().where(blocks.c.start == start).values(events=other))

    world.service.database.write(tamper).result()
    with world.service.database.read() as conn:
        found = explain(conn, alert_id)
    assert not found.identical
    told = found.recomputed[0].differences
    assert any("stored with other counts than were bet on" in line for line in told)
    assert any(line.startswith("evidence: ") for line in told)


def test_what_was_in_force_is_in_the_ground(world: World) -> None:
    fired = grounds(world, story(world))[0]
    assert fired.rules.false_pages_per_year == 1.0
    assert fired.rules.share == pytest.approx(3 / 5)
    # B w / (blocks per year of 365.25 days), the blocks a minute long.
    assert fired.rules.budget == pytest.approx(1.0 * 0.6 / (365.25 * 1440))
    assert fired.rules.configured == ("ks",)
    assert fired.thresholds[0].tolist() == [0.25, 0.25]
    assert threshold_source(fired.rules, "ks") == "configured"
    assert threshold_source(fired.rules, "psi") == "preset A"
    assert fired.windows == (900, 3600)
    # The effect's window holds the rows that the message told of.
    assert fired.verdict["effect"]["rows"] in {profile.rows for profile in fired.profiles}


def test_a_ground_is_compact_and_damage_is_refused(world: World) -> None:
    alert_id = story(world)
    blob = world.history(alert_id)[0].ground
    assert blob is not None
    assert len(blob) < 8_000
    assert Ground.decode(BASELINE, blob).encode() == blob
    for at in (0, 3, 20, len(blob) // 2, len(blob) - 1):
        broken = blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]
        with pytest.raises(DetectorError):
            Ground.decode(BASELINE, broken)
    with pytest.raises(DetectorError, match="no column 'temp'"):
        Ground.decode(_without_temp(), blob)


def _without_temp() -> Baseline:
    values = frames.rows(1, 200)["carrier"]
    column = BASELINE.columns[1]
    data = ColumnData(name="c", role=column.role, type=column.type, dtype=column.dtype, values=values)
    return build_baseline([data], 60, (), None, "test")


def test_segments_and_longer_blocks_are_decided_again_and_replayed(tmp_path: Path) -> None:
    """Blocks of six panes, and the coarse cells of a segment, whose budget is half of the half."""
    baseline = frames.baseline(pane_seconds=3600)
    config = HOURLY.replace("lateness", 'segments = ["region"]\nlateness').replace(
        "learning = true", "learning = false"
    )
    config = config.replace('evidence_block = "1h"', 'evidence_block = "6h"')
    world = World(tmp_path / "state", config=config)
    world.register(baseline)
    for hour in range(72):
        at = world.clock.now()
        world.clock.advance(timedelta(hours=1))
        tags: dict[str, list[str | None]] = {"region": ["eu", "us"] * 300}
        rows = frames.rows(hour, 600, shift=20.0 if hour >= 24 else 0.0)
        world.send(at, rows, spread=timedelta(minutes=59), tags=tags)
        world.look()
    fired = {a.segment: a for a in world.alerts() if a.column == "temp"}
    assert set(fired) == {"", "region=eu", "region=us"}
    with world.service.database.read() as conn:
        found = {segment: explain(conn, alert.id) for segment, alert in fired.items()}
    assert all(one.identical for one in found.values())
    assert {one.evidence.block_seconds for one in found.values()} == {21_600}
    assert found["region=eu"].budget.share == pytest.approx(found[""].budget.share / 2)
    assert [line.rows for line in found["region=eu"].evidence.blocks][-1] == 6 * 300
    (report,) = backtest(world.service.database, world.config, last=timedelta(days=30))
    assert (report.changes, report.paged) == ((), 3)
    world.close()


def test_an_alert_without_a_ground_cannot_be_decided_again(world: World) -> None:
    alert_id = story(world)

    def forget(conn: Connection) -> None:
        conn.execute(transitions.update().values(ground=None, baseline_id=None))

    world.service.database.write(forget).result()
    with world.service.database.read() as conn, pytest.raises(NotDecided, match="no statistic decided it"):
        explain(conn, alert_id)


def test_other_columns_play_no_part_in_a_redone_verdict(world: World) -> None:
    """What surrounds the column in the redone arrays is empty, so it has no distance, however the columns look."""
    ground = grounds(world, story(world))[0]
    redone = redo(INDEX, ground, measure)
    others = np.arange(len(BASELINE.columns)) != redone.position
    assert not redone.found.holds[..., others].any()
    assert np.isnan(redone.found.statistic[:2][..., others]).all()
    starts = redone.evidence.starts
    assert redone.evidence.r[starts[1] :].max() == 0.0
    assert isinstance(ground.rules, Rules)

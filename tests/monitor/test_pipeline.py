"""The loop behind the ingest: exactly once, in order, and never silent about what it could not do."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from detectors.codec import decode_profile
from detectors.decision import BlockEvents, EventIndex, Evidence, advance, closing, unlearned
from detectors.profile import Profile, profile_rows
from storage import blocks, cursors, evaluations, panes
from storage.engine import Address
from tests.monitor import frames
from tests.monitor.world import CONFIG, MODEL, START, World
from tests.postgres import on_both

BASELINE = frames.baseline()
MINUTE = timedelta(minutes=1)


@pytest.fixture
def world(where: Path | Address) -> Iterator[World]:
    opened = World(where)
    opened.register(BASELINE)
    yield opened
    opened.close()


def stored_panes(world: World) -> dict[int, Profile]:
    with world.service.database.read() as conn:
        rows = panes.window(conn, 1, "", 60, 0, 2**40)
        return {row.start: decode_profile(BASELINE.layout, row.profile) for row in rows}


def boundaries(world: World) -> list[int]:
    with world.service.database.read() as conn:
        return [row.boundary for row in evaluations.between(conn, 1, "", start=0, end=2**40)]


def drift(world: World, minutes: int = 60, shift: float = 25.0) -> None:
    """Shifted traffic until an alert fires."""
    for minute in range(minutes):
        world.minute(1000 + minute, shift=shift)
        if any(alert.state == "firing" for alert in world.alerts()):
            return
    raise AssertionError("no alert fired")


@on_both
def test_every_committed_row_is_counted_once_however_often_it_is_sent(world: World) -> None:
    rows = frames.rows(5, 500)
    assert world.send(START, rows, batch_id="same") == "stored"
    world.look()
    assert world.send(START, rows, batch_id="same") == "duplicate"
    world.look()
    world.restart()
    assert world.send(START, rows, batch_id="same") == "duplicate"
    world.look()
    (pane,) = stored_panes(world).values()
    assert np.array_equal(pane.counts, profile_rows(BASELINE, rows).counts)


@on_both
def test_a_group_that_cannot_be_committed_is_folded_again_and_counted_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.send(START, frames.rows(5, 100))
    real = panes.upsert

    def failing(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]  # passed on as it came
        raise RuntimeError("power cut")

    monkeypatch.setattr(panes, "upsert", failing)
    with pytest.raises(RuntimeError):
        world.look()
    assert stored_panes(world) == {}
    monkeypatch.undo()
    world.look()
    assert [pane.rows for pane in stored_panes(world).values()] == [100]


@on_both
def test_every_boundary_is_evaluated_once_and_in_order(world: World) -> None:
    for minute in range(20):
        world.minute(minute)
        if minute == 11:
            world.restart()
    found = boundaries(world)
    assert found == sorted(set(found))
    assert np.diff(found).tolist() == [60] * (len(found) - 1)
    assert len(found) >= 19


def test_a_restart_changes_no_score(tmp_path: Path) -> None:
    """Windows rebuilt from panes decide as the running sums would have."""
    scores = []
    for name, restarts in (("straight", ()), ("restarted", (3, 7, 15))):
        world = World(tmp_path / name)
        world.register(BASELINE)
        for minute in range(20):
            world.minute(minute, shift=minute / 4)
            if minute in restarts:
                world.restart()
        with world.service.database.read() as conn:
            rows = evaluations.between(conn, 1, "", start=0, end=2**40)
            evidence = cursors.get_evidence(conn, 1, "")
        assert evidence is not None
        scores.append(([(row.boundary, row.states, row.scores) for row in rows], evidence.state))
        world.close()
    assert scores[0] == scores[1]


@on_both
def test_late_rows_count_in_later_windows_and_in_one_open_block(world: World) -> None:
    for minute in range(10):
        world.minute(minute)
    world.send(START + 2 * MINUTE, frames.rows(99, 30))
    before = boundaries(world)
    world.look()
    assert boundaries(world) == before  # nothing is decided again
    world.minute(10)
    with world.service.database.read() as conn:
        last = evaluations.latest(conn, 1, "")
    assert last is not None
    assert last.boundary == int((START + 10 * MINUTE).timestamp())
    assert last.rows == 10 * 60 + 30
    with world.service.database.read() as conn:
        kept = blocks.list_blocks(conn, 1, "", start=0, end=2**40)
    # The late rows bear evidence in the block that was open when they came, and in no other.
    assert sum(row.rows for row in kept) == 11 * 60 + 30
    assert {row.rows for row in kept if row.closed} == {60, 90}


def test_drift_fires_one_message_and_its_end_is_told_too(world: World) -> None:
    for minute in range(30):
        world.minute(minute)
    assert world.alerts() == []
    drift(world)
    world.clock.advance(timedelta(seconds=1))
    world.look()
    (alert,) = [a for a in world.alerts() if a.column == "temp"]
    assert (alert.kind, alert.state, alert.severity) == ("feature_drift", "firing", "critical")
    body = json.loads(world.wire.sent[0].body)
    assert (body["version"], body["status"]) == ("4", "firing")
    told = body["driftd"]["alerts"][0]
    assert told["labels"]["column"] == "temp"
    assert told["evidence"]["statistic"] >= told["evidence"]["threshold"]
    assert "median 4" in told["summary"] or "median 3" in told["summary"]
    for minute in range(90):
        world.minute(2000 + minute)
    assert [a.state for a in world.alerts()] == ["resolved"] * len(world.alerts())
    assert json.loads(world.wire.sent[-1].body)["status"] == "resolved"
    states = [t.to_state for t in world.history(alert.id)]
    assert (states[0], states[-1]) == ("firing", "resolved")


def test_after_a_resolved_page_the_evidence_starts_again_from_nothing(world: World) -> None:
    drift(world)
    for minute in range(90):
        world.minute(2000 + minute)
    with world.service.database.read() as conn:
        stored = cursors.get_evidence(conn, 1, "")
    assert stored is not None
    evidence = Evidence.decode(stored.state)
    assert evidence.r[:16].max() < 1e-3


@on_both
def test_a_kill_between_decision_and_delivery_loses_nothing(world: World) -> None:
    world.wire.status = 503
    drift(world)
    world.look()
    ids = {n.id for n in world.notifications()}
    world.restart()
    world.wire.status = 200
    world.clock.advance(timedelta(hours=1))
    world.look()
    delivered = [n for n in world.notifications() if n.status == "sent"]
    assert {n.id for n in delivered} >= ids
    sent_ids = [request.headers["webhook-id"] for request in world.wire.sent]
    assert sent_ids[0] in ids
    assert set(sent_ids) == {n.id for n in delivered}


def test_a_version_without_a_baseline_waits_and_is_counted_when_it_comes(world: World) -> None:
    world.minute(0)
    world.send(world.clock.now() - MINUTE, frames.rows(7, 40), version="2")
    world.clock.advance(timedelta(seconds=6))
    world.look()
    assert [a.kind for a in world.alerts()] == ["pending_baseline"]
    assert world.unfolded() == 1
    version_id = world.register(BASELINE, version="2")
    world.clock.advance(timedelta(seconds=6))
    world.look()
    assert world.unfolded() == 0
    with world.service.database.read() as conn:
        assert (
            sum(row.rows for row in panes.window(conn, 2, "", 60, 0, 2**40) if row.version_id == version_id)
            == 40
        )
    assert [a.state for a in world.alerts()] == ["resolved"]


def test_a_busy_model_that_falls_silent_is_missed_and_its_return_is_told(world: World) -> None:
    for minute in range(75):
        world.minute(minute)
    world.clock.advance(timedelta(minutes=14))
    world.look()
    assert world.alerts() == []
    world.clock.advance(timedelta(minutes=2))
    world.look()
    assert [(a.kind, a.state) for a in world.alerts()] == [("no_traffic", "firing")]
    world.minute(76)
    world.clock.advance(timedelta(seconds=6))
    world.look()
    assert [a.state for a in world.alerts()] == ["resolved"]


def test_our_own_downtime_is_nobodys_outage(world: World) -> None:
    for minute in range(75):
        world.minute(minute)
    world.clock.advance(timedelta(hours=2))
    world.restart()
    world.look()
    assert world.alerts() == []
    world.clock.advance(timedelta(minutes=16))
    world.look()
    assert [a.kind for a in world.alerts()] == ["no_traffic"]


def test_a_job_that_sends_now_and_then_is_not_missed(world: World) -> None:
    for hour in range(5):
        world.minute(hour)
        world.clock.advance(timedelta(hours=1))
        world.look()
    assert world.alerts() == []


def test_a_catch_up_tells_the_final_state_only(tmp_path: Path) -> None:
    """Two days of history with a drift that came and went: recorded, and nobody is woken."""
    world = World(tmp_path / "state")
    world.register(BASELINE)
    start = START - timedelta(days=2)
    for minute in range(300):
        shifted = 100 <= minute < 160
        world.send(
            start + minute * MINUTE,
            frames.rows(minute, 60, shift=25.0 if shifted else 0.0),
            spread=timedelta(seconds=59),
        )
    world.look()
    assert {a.state for a in world.alerts()} == {"resolved"}
    assert world.alerts()[0].column == "temp"
    assert world.notifications() == []
    world.close()


def test_old_news_is_recorded_but_wakes_nobody(tmp_path: Path) -> None:
    world = World(tmp_path / "state")
    world.register(BASELINE)
    start = START - timedelta(days=2)
    for minute in range(120):
        world.send(start + minute * MINUTE, frames.rows(minute, 60, shift=25.0), spread=timedelta(seconds=59))
    world.look()
    assert "firing" in {a.state for a in world.alerts()}
    assert world.notifications() == []
    world.close()
    told = World(tmp_path / "told", config=CONFIG.replace("lateness", 'page_max_age = "off"\nlateness'))
    told.register(BASELINE)
    for minute in range(120):
        told.send(start + minute * MINUTE, frames.rows(minute, 60, shift=25.0), spread=timedelta(seconds=59))
    told.look()
    assert [n.kind for n in told.notifications()] == ["firing"]
    told.close()


def test_one_failing_model_is_alerted_and_stops_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monitor.evaluate import Evaluator

    world.minute(0)
    real = Evaluator.run

    def broken(self: Evaluator, *arguments: object) -> object:
        if self.model.name == MODEL:
            raise ValueError("a bad column")
        return real(self, *arguments)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(Evaluator, "run", broken)
    for minute in range(1, 5):
        world.minute(minute)
    (alert,) = world.alerts()
    assert (alert.kind, alert.state) == ("evaluation_failing", "firing")
    assert "a bad column" in alert.detail["summary"]
    monkeypatch.undo()
    world.minute(5)
    assert world.alerts()[0].state == "resolved"
    assert boundaries(world)[-1] == int(world.clock.now().timestamp()) - 60


def test_a_damaged_payload_is_set_aside_and_holds_nobody_back(world: World) -> None:
    from storage import batches
    from storage.engine import Connection
    from storage.tables import payloads

    world.send(START, frames.rows(1, 10))

    def damage(conn: Connection) -> None:
        conn.execute(payloads.update().values(data=b"garbage"))

    world.service.database.write(damage).result()
    # Read from disk, as after a restart.
    world.service.pipeline._recent.take([1])
    world.send(START, frames.rows(2, 20))
    world.look()
    assert [pane.rows for pane in stored_panes(world).values()] == [20]
    with world.service.database.read() as conn:
        assert batches.unfolded(conn, limit=10) == []


def test_too_little_data_neither_opens_nor_closes(world: World) -> None:
    drift(world)
    open_now = [a.id for a in world.alerts() if a.state == "firing"]
    for minute in range(30):
        world.minute(3000 + minute, rows=1)
    assert [a.id for a in world.alerts() if a.state == "firing"] == open_now


def test_a_version_that_is_gone_resolves_as_retired(world: World) -> None:
    world.register(BASELINE, version="2")
    drift(world)
    for minute in range(75):
        world.minute(4000 + minute, version="2")
    assert {a.resolution for a in world.alerts() if a.version == "1"} == {"retired"}


def test_ignored_columns_never_page(tmp_path: Path) -> None:
    world = World(tmp_path / "state", config=CONFIG.replace("lateness", 'ignore = ["temp"]\nlateness'))
    world.register(BASELINE)
    for minute in range(60):
        world.minute(minute, shift=25.0)
    assert world.alerts() == []
    world.close()


def test_a_candidate_version_is_watched_but_never_pages(tmp_path: Path) -> None:
    world = World(tmp_path / "state")
    world.register(BASELINE)
    world.register(BASELINE, version="next", stage="candidate")
    for minute in range(40):
        world.minute(minute)
        world.send(
            world.clock.now() - MINUTE,
            frames.rows(minute, 60, shift=25.0),
            version="next",
            spread=timedelta(seconds=50),
        )
        world.look()
    assert world.alerts() == []
    world.close()


@on_both
def test_the_evidence_is_recomputed_bit_for_bit_from_the_stored_blocks(world: World) -> None:
    """The replay audit: integers in `blocks`, the rule, and nothing else make the stored evidence."""
    for minute in range(25):
        world.minute(minute, shift=minute / 5)
        if minute == 9:
            world.send(START + 2 * MINUTE, frames.rows(77, 40))  # late rows bear evidence too
        if minute == 15:
            world.restart()
    index = EventIndex.of(BASELINE)
    calibration = unlearned(index, [900, 3600], 60)
    budget = calibration.budget(1.0, [1 / 3] * 3)
    with world.service.database.read() as conn:
        kept = blocks.list_blocks(conn, 1, "", start=0, end=2**40, closed=True)
        stored = cursors.get_evidence(conn, 1, "")
    assert stored is not None
    again = Evidence.zeros(index)
    base = [(row.start, BlockEvents.decode(row.events)) for row in kept]
    for block in closing(calibration, 60, base, after=0, upto=stored.upto, valid_from=0):
        again = advance(
            again, block.events, calibration.bands, budget, block_start=block.starts, columns=block.columns
        )
    assert again.encode() == stored.state
    assert again.r.max() > 0

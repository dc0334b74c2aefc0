"""Batches that come as counts: panes, blocks and the watermark are those of the rows, and the rows are kept nowhere."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.codec import decode_profile, encode_baseline
from detectors.profile import Baseline, profile_rows
from monitor.bases import Bases
from monitor.counting import Onto, count
from monitor.ingest.batch import Batch, text_tensor
from monitor.ingest.counted import COUNTS_CODEC, encode_counts
from monitor.instants import to_ns
from monitor.operations import register_baseline
from storage import batches, blocks, cursors, models, panes
from storage.batches import NewBatch
from storage.engine import Address
from tests.monitor import frames
from tests.monitor.world import CONFIG, MODEL, START, World, tensor
from tests.postgres import on_both

OLD, NEW = frames.baseline(), frames.baseline(n=3000)
SEGMENTED = CONFIG.replace("lateness", 'segments = ["region"]\nlateness')
REGIONS = ["eu", "us", None]


def send_counts(
    world: World,
    at: datetime,
    values: frames.Rows,
    *,
    onto: Baseline = OLD,
    baseline_id: int = 1,
    spread: timedelta = timedelta(seconds=59),
    tags: Sequence[str | None] = (),
    key: str = "counts",
) -> None:
    """Commit what `World.send` would, counted."""
    rows = len(values["temp"])
    times = to_ns(at) + np.linspace(0, spread.total_seconds() * 1e9, rows, endpoint=False).astype(np.int64)
    batch = Batch(
        id=None,
        model_version="1",
        parameters={},
        rows=rows,
        times_ns=times,
        tensors=tuple(tensor(name, column) for name, column in values.items()),
        tags={"region": text_tensor("region", list(tags))} if tags else {},
        row_ids=None,
        body_sha256="",
    )
    settings = world.service.config.settings(MODEL)
    where = Onto(baseline_id=baseline_id, base=Bases().of(baseline_id, onto), segment_keys=settings.segments)
    new = NewBatch(
        model_id=1,
        version_id=1,
        batch_key=f"{key}-{at.isoformat()}",
        body_sha256="",
        received_at=world.clock.now(),
        t_first_ns=int(times.min()),
        t_last_ns=int(times.max()),
        accepted=rows,
        rejected=0,
        writer=world.service.membership.writer,
        codec=COUNTS_CODEC,
        payload=encode_counts(count(where, world.service.pipeline.segments, [batch], 1.0)),
    )
    world.service.database.write(lambda conn: batches.append(conn, [new])).result()


def rows_on(world: World, baseline_id: int, segment: str = "") -> int:
    with world.service.database.read() as conn:
        return sum(row.rows for row in panes.window(conn, baseline_id, segment, 60, 0, 2**40))


def state_of(world: World) -> dict[str, Any]:
    """Everything that folding and evaluating left behind, without what names the batches."""
    with world.service.database.read() as conn:
        found: dict[str, Any] = {
            "cursor": cursors.get(conn, 1),
            "hours": models.rows_by_hour(conn, 1, start=0, end=2**40),
        }
        for segment in ("", "region=eu", "region=us"):
            layout = world.service.pipeline.bases.of(1, OLD).of(segment).baseline.layout
            found[f"panes {segment}"] = [
                (p.start, p.rows, p.rows_seen, decode_profile(layout, p.profile).counts.tolist())
                for p in panes.window(conn, 1, segment, 60, 0, 2**40)
            ]
            found[f"blocks {segment}"] = [
                (b.start, b.rows, b.events, b.closed)
                for b in blocks.list_blocks(conn, 1, segment, start=0, end=2**40)
            ]
            evidence = cursors.get_evidence(conn, 1, segment)
            found[f"evidence {segment}"] = None if evidence is None else (evidence.upto, evidence.state)
        return found


@on_both
def test_folded_counts_leave_behind_what_folded_rows_do(where: Path | Address, tmp_path: Path) -> None:
    by_rows, by_counts = World(tmp_path / "other", config=SEGMENTED), World(where, config=SEGMENTED)
    for world in (by_rows, by_counts):
        world.register(OLD)
        for minute in range(4):
            at = world.clock.now()
            world.clock.advance(timedelta(minutes=1))
            # The last of them comes late: its minutes are evaluated already.
            for start, seed in ((at, minute), (at - timedelta(minutes=2), 50 + minute)):
                values = frames.rows(seed, 30)
                tags = [REGIONS[row % 3] for row in range(30)]
                if world is by_counts and (minute + seed) % 4 != 1:
                    send_counts(world, start, values, tags=tags, key=str(seed))
                else:
                    world.send(start, values, spread=timedelta(seconds=59), tags={"region": tags})
            world.look()
    expected, found = state_of(by_rows), state_of(by_counts)
    for name, value in expected.items():
        assert found[name] == value, name
    assert sum(rows for _, rows in found["hours"]) == 8 * 30
    by_rows.close()
    by_counts.close()


def test_the_payload_goes_with_the_fold_and_the_batch_stays_known(tmp_path: Path) -> None:
    world = World(tmp_path / "state")
    world.register(OLD)
    send_counts(world, START, frames.rows(1, 20))
    assert world.unfolded() == 1
    world.look()
    with world.service.database.read() as conn:
        assert batches.payloads_between(conn, 1, start_ns=0, end_ns=2**62, limit=9) == []
        assert batches.kept_share(conn, 1, start_ns=0, end_ns=2**62) == 0.0
        known = batches.find(conn, 1, f"counts-{START.isoformat()}", "")
    assert known is not None
    assert (known.status, known.accepted) == ("duplicate", 20)
    world.close()


def test_counts_of_the_baseline_before_go_onto_that_one(tmp_path: Path) -> None:
    world = World(tmp_path / "state")
    world.register(OLD)
    send_counts(world, START, frames.rows(1, 20))
    world.clock.advance(timedelta(minutes=1))
    world.look()
    send_counts(world, START + timedelta(minutes=1), frames.rows(2, 7))
    world.send(START + timedelta(minutes=1), frames.rows(3, 5))
    register_baseline(world.service, model=MODEL, version="1", blob=encode_baseline(NEW), actor="test")
    world.clock.advance(timedelta(minutes=1))
    for _ in range(2):
        world.look()
        world.restart()
    assert (rows_on(world, 1), rows_on(world, 2)) == (27, 5)
    with world.service.database.read() as conn:
        whole = sum(
            decode_profile(OLD.layout, p.profile).counts for p in panes.window(conn, 1, "", 60, 0, 2**40)
        )
    sent = frames.concatenate([frames.rows(1, 20), frames.rows(2, 7)])
    assert np.array_equal(whole, profile_rows(OLD, sent).counts)
    send_counts(world, START + timedelta(minutes=2), frames.rows(4, 3), onto=NEW, baseline_id=2, key="new")
    world.look()
    assert (rows_on(world, 1), rows_on(world, 2)) == (27, 8)
    world.close()


def test_counts_of_a_baseline_that_nobody_knows_are_set_aside_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path / "state")
    world.register(OLD)
    send_counts(world, START, frames.rows(1, 20), onto=NEW)
    world.send(START, frames.rows(3, 5))
    with caplog.at_level(logging.ERROR, "driftd.fold"):
        world.look()
    assert rows_on(world, 1) == 5
    assert world.unfolded() == 0
    assert f"counted on the baseline {NEW.fingerprint!r}" in caplog.text
    assert (
        f'driftd_batches_set_aside_total{{model="{MODEL}"}} 1.0' in world.service.telemetry.render().decode()
    )
    world.close()

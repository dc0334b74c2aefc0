"""Several daemons on one PostgreSQL database count, decide and tell what one would, and each thing once."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from detectors.codec import decode_profile
from detectors.profile import Profile
from monitor.clock import ManualClock
from monitor.evaluate import Evaluator
from monitor.membership import LEASE, RENEWED_EVERY, Membership
from monitor.retention import enforce_retention
from monitor.scores import decode, decode_states
from storage import alerts, batches, blocks, cursors, evaluations, locks, models, operations, outbox, panes
from storage.engine import Address, Connection
from storage.errors import StorageError
from tests.monitor import frames
from tests.monitor.world import CONFIG, MODEL, START, World
from tests.postgres import Server

BASELINE = frames.baseline()
MINUTE = timedelta(minutes=1)
SECONDS_59 = timedelta(seconds=59)

Places = Callable[[], Address]


@pytest.fixture(scope="module")
def place(postgres_server: Server, postgres_template: str) -> Iterator[Places]:
    """New databases, as many as the test wants."""
    made: list[str] = []

    def make() -> Address:
        made.append(postgres_server.create(postgres_template))
        return Address(postgres_server.url(made[-1]))

    yield make
    for name in made:
        postgres_server.drop(name)


class Fleet:
    """Daemons on one database and one clock; every minute's rows are split over them."""

    def __init__(self, where: Address, size: int, *, config: str = CONFIG) -> None:
        self.clock = ManualClock(START)
        self.worlds = [World(where, config=config, clock=self.clock) for _ in range(size)]
        self.worlds[0].register(BASELINE)
        self._sent = 0
        for world in self.worlds:
            world.look()
        for world in self.worlds:
            world.look()

    def minute(self, seed: int, *, shift: float = 0.0, rows: int = 60) -> None:
        """A minute of traffic in four batches, each to the next daemon in turn; then all look until all is done."""
        at = self.clock.now()
        self.wait(MINUTE)
        values = frames.rows(seed, rows, shift=shift)
        for part in range(4):
            self.send(self.worlds[part % len(self.worlds)], at, {n: v[part::4] for n, v in values.items()})
        self.look()

    def wait(self, time: timedelta) -> None:
        """Time passes, and every daemon's loop goes round now and then."""
        for _ in range(round(time / RENEWED_EVERY)):
            self.clock.advance(RENEWED_EVERY)
            for world in self.worlds:
                world.service.membership.renew()

    def send(self, world: World, at: Any, values: Any) -> None:
        self._sent += 1
        world.send(at, values, spread=SECONDS_59, batch_id=f"batch-{self._sent}")

    def look(self) -> None:
        """Twice each: what the first leads may wait for what the last has to fold."""
        for world in self.worlds * 2:
            world.look()

    def close(self) -> None:
        for world in self.worlds:
            world.close()


@pytest.fixture
def pair(place: Places) -> Iterator[Fleet]:
    fleet = Fleet(place(), 2)
    yield fleet
    fleet.close()


def leader(fleet: Fleet) -> World:
    (found,) = [w for w in fleet.worlds if w.service.membership.leads(MODEL)]
    return found


def follower(fleet: Fleet) -> World:
    (found,) = [w for w in fleet.worlds if not w.service.membership.leads(MODEL)]
    return found


def counted(conn: Connection) -> dict[int, Profile]:
    """Panes by start, writers added up here and nowhere else."""
    found: dict[int, list[Profile]] = {}
    for row in panes.window(conn, 1, "", 60, 0, 2**40):
        found.setdefault(row.start, []).append(decode_profile(BASELINE.layout, row.profile))
    return {start: Profile.merge(parts) for start, parts in found.items()}


def picture(world: World) -> dict[str, Any]:
    """Everything exact that was counted, decided and told."""
    with world.service.database.read() as conn:
        decided = evaluations.between(conn, 1, "", start=0, end=2**40)
        proof = cursors.get_evidence(conn, 1, "")
        told = [n for n in outbox.list_notifications(conn) if n.status == "sent"]
        opened = alerts.list_alerts(conn)
        return {
            "panes": {start: (p.rows, p.counts.tolist()) for start, p in counted(conn).items()},
            "decided": [(row.boundary, row.rows, decode_states(row.states)[0]) for row in decided],
            "evidence": None if proof is None else (proof.upto, proof.state),
            "alerts": sorted((a.key, a.state, a.severity, a.since, a.active_since) for a in opened),
            "told": sorted((n.kind, n.group_key) for n in told),
            "blocks": sum(b.rows for b in blocks.list_blocks(conn, 1, "", start=0, end=2**40)),
            "served": [(s.start, s.rows) for s in models.list_servings(conn, 1, start=0, end=2**40)],
            "unfolded": len(batches.unfolded(conn, limit=1000)),
        }


def scores(world: World) -> list[np.ndarray[Any, Any]]:
    with world.service.database.read() as conn:
        return [
            decode(r.states, r.scores).values for r in evaluations.between(conn, 1, "", start=0, end=2**40)
        ]


def through_drift(fleet: Fleet) -> None:
    """Steady traffic, then drift until it pages, then a little more."""
    for seed in range(8):
        fleet.minute(seed)
    for seed in range(100, 116):
        fleet.minute(seed, shift=25.0)


@dataclass(frozen=True, kw_only=True)
class Alone:
    """What one daemon by itself made of the same traffic."""

    picture: dict[str, Any]
    scores: list[np.ndarray[Any, Any]]
    sent: int


@pytest.fixture(scope="module")
def alone(place: Places) -> Alone:
    fleet = Fleet(place(), 1)
    through_drift(fleet)
    (world,) = fleet.worlds
    found = Alone(picture=picture(world), scores=scores(world), sent=len(world.wire.sent))
    fleet.close()
    return found


def test_two_daemons_count_decide_and_page_as_one_does(place: Places, alone: Alone) -> None:
    pair = Fleet(place(), 2)
    through_drift(pair)
    assert picture(pair.worlds[1]) == alone.picture
    assert [kind for kind, _ in alone.picture["told"]].count("firing") == 1
    assert sum(len(world.wire.sent) for world in pair.worlds) == alone.sent
    with pair.worlds[0].service.database.read() as conn:
        rows = panes.window(conn, 1, "", 60, 0, 2**40)
        assert {row.writer for row in rows} == {w.service.membership.writer for w in pair.worlds}
    for one, two in zip(alone.scores, scores(pair.worlds[0]), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-5)  # moments add up in another order
    pair.close()


def test_daemons_that_all_believe_to_lead_still_do_everything_once(
    place: Places, alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leadership saves work; the locks alone keep two that fold, decide and tell at the same moment apart."""
    monkeypatch.setattr(Membership, "leads", lambda self, subject: True)
    rivals = Fleet(place(), 2)
    one_by_one = rivals.look

    def together() -> None:
        threads = [threading.Thread(target=round_and_round, args=(world,)) for world in rivals.worlds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        one_by_one()

    def round_and_round(world: World) -> None:
        for _ in range(3):
            with contextlib.suppress(StorageError):  # the loop of a daemon logs it and looks again
                world.look()

    monkeypatch.setattr(rivals, "look", together)
    through_drift(rivals)
    assert picture(rivals.worlds[0]) == alone.picture
    rivals.close()


def test_a_plan_of_notifications_waits_for_the_plan_of_another_daemon(
    pair: Fleet, postgres_server: Server
) -> None:
    """Two plans at once of one alert would be two pages."""
    one, two = (w.service for w in pair.worlds)
    at = pair.clock.now()
    began, go_on = threading.Event(), threading.Event()

    def hold(conn: Connection) -> None:
        one.notifier.announce(conn, {"a group"}, at)
        began.set()
        assert go_on.wait(20)

    first = one.database.write(hold)
    assert began.wait(20)
    second = two.database.write(lambda conn: two.notifier.announce(conn, {"a group"}, at))
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    while postgres_server.run(waiting) == [(0,)]:
        assert not second.done()
    go_on.set()
    first.result(20)
    second.result(20)


def test_late_rows_that_another_daemon_folds_count_in_later_windows(pair: Fleet) -> None:
    for seed in range(10):
        pair.minute(seed)
    pair.send(follower(pair), START + 2 * MINUTE, frames.rows(99, 30))
    pair.look()
    pair.minute(10)
    with pair.worlds[0].service.database.read() as conn:
        last = evaluations.latest(conn, 1, "")
        kept = blocks.list_blocks(conn, 1, "", start=0, end=2**40)
    assert last is not None
    assert last.rows == 10 * 60 + 30
    assert sum(row.rows for row in kept) == 11 * 60 + 30


def test_what_another_daemon_folds_during_an_evaluation_is_not_left_out(
    pair: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(5):
        pair.minute(seed)
    first, second = leader(pair), follower(pair)
    at = pair.clock.now()
    pair.wait(2 * MINUTE)
    pair.send(first, at, frames.rows(50, 40))
    pair.send(first, at + MINUTE, frames.rows(51, 40))
    real = Evaluator._commit
    done: list[int] = []

    def slow(self: Evaluator, *arguments: Any, **named: Any) -> None:
        if not done:
            done.append(1)
            pair.send(second, at, frames.rows(52, 7))
            second.look()
        real(self, *arguments, **named)

    monkeypatch.setattr(Evaluator, "_commit", slow)
    assert first.look() == 0  # given up, for it rested on what is no longer all
    assert first.look() >= 1
    with first.service.database.read() as conn:
        (row,) = [
            r
            for r in evaluations.between(conn, 1, "", start=0, end=2**40)
            if r.boundary == int((at + MINUTE).timestamp())
        ]
        closed = [
            b.rows
            for b in blocks.list_blocks(
                conn, 1, "", start=int(at.timestamp()), end=int((at + MINUTE).timestamp())
            )
        ]
    assert row.rows == 5 * 60 + 47
    assert sorted(closed) == [7, 40]
    assert [a.kind for a in first.alerts()] == []


def test_a_boundary_waits_for_what_any_daemon_has_yet_to_fold(pair: Fleet) -> None:
    for seed in range(3):
        pair.minute(seed)
    first, second = leader(pair), follower(pair)
    at = pair.clock.now()
    pair.wait(2 * MINUTE)
    pair.send(second, at, frames.rows(60, 9))
    pair.send(first, at, frames.rows(61, 20))
    pair.send(first, at + MINUTE, frames.rows(62, 20))
    assert first.look() <= 1  # up to the beginning of what waits
    before = picture(first)["decided"]
    assert before[-1][0] <= int(at.timestamp())
    second.look()
    assert first.look() >= 1
    assert picture(first)["decided"][-1][:2] == (int((at + MINUTE).timestamp()), 3 * 60 + 29)


def test_what_a_dead_daemon_left_is_folded_by_another_once_its_lease_is_over(pair: Fleet) -> None:
    for seed in range(3):
        pair.minute(seed)
    dead, alive = pair.worlds
    at = pair.clock.now()
    pair.send(dead, at, frames.rows(70, 11))
    dead.close()
    pair.clock.advance(LEASE - timedelta(seconds=1))
    alive.look()
    assert alive.unfolded() == 1
    pair.clock.advance(timedelta(seconds=20))
    alive.look()
    alive.look()
    assert alive.unfolded() == 0
    assert alive.service.membership.leads(MODEL)
    assert alive.service.membership.leads("")
    with alive.service.database.read() as conn:
        assert [w.id for w in operations.list_writers(conn)] == [alive.service.membership.writer]
        assert sum(p.rows for p in counted(conn).values()) == 3 * 60 + 11
    pair.send(alive, pair.clock.now(), frames.rows(71, 5))
    pair.clock.advance(3 * MINUTE)
    assert alive.look() >= 1


def test_the_panes_that_a_dead_daemon_left_become_hours_and_days_too(pair: Fleet) -> None:
    for seed in range(3):
        pair.minute(seed)
    dead, alive = pair.worlds
    dead.close()
    pair.clock.advance(LEASE + timedelta(days=1, hours=1))
    pair.send(alive, pair.clock.now(), frames.rows(70, 11))
    pair.clock.advance(2 * MINUTE)
    for _ in range(4):
        alive.look()
    assert alive.service.membership.leads(MODEL)
    with alive.service.database.read() as conn:
        assert panes.orphaned(conn) == []
        for resolution in (3600, 86_400):
            (first, *_) = panes.window(conn, 1, "", resolution, 0, 2**40)
            assert (first.rows, first.writer) == (3 * 60, alive.service.membership.writer)


def test_a_daemon_whose_place_was_taken_writes_no_pane_until_it_has_one_again(pair: Fleet) -> None:
    """Else its rows could slip into a pane that another daemon is summing up."""
    paused, other = pair.worlds
    pair.send(paused, pair.clock.now(), frames.rows(70, 11))
    writer = paused.service.membership.writer
    other.service.database.write(lambda conn: operations.remove_writer(conn, writer)).result()
    with pytest.raises(locks.Occupied, match="taken for dead"):
        paused.look()
    assert paused.unfolded() == 1
    pair.clock.advance(RENEWED_EVERY)
    paused.look()
    assert paused.unfolded() == 0


def test_a_daemon_that_stops_hands_over_at_once(pair: Fleet) -> None:
    pair.minute(0)
    gone, stays = pair.worlds
    pair.send(gone, pair.clock.now(), frames.rows(70, 11))
    gone.service.membership.leave()
    gone.close()
    pair.clock.advance(timedelta(seconds=11))
    stays.look()
    assert stays.unfolded() == 0


def test_a_daemon_thought_dead_goes_on_and_counts_nothing_twice(pair: Fleet) -> None:
    for seed in range(3):
        pair.minute(seed)
    paused, other = pair.worlds
    pair.send(paused, pair.clock.now(), frames.rows(70, 11))
    pair.clock.advance(2 * LEASE)
    other.look()
    other.look()
    paused.look()
    pair.minute(3)
    found = picture(other)
    assert sum(rows for rows, _ in found["panes"].values()) == 4 * 60 + 11
    assert found["blocks"] == 4 * 60 + 11
    with other.service.database.read() as conn:
        assert len(operations.list_writers(conn)) == 2


def test_what_one_daemon_registers_the_others_know(pair: Fleet) -> None:
    one, two = pair.worlds
    one.service.database.write(lambda conn: models.ensure_model(conn, "new", now=START)).result()
    assert two.service.ingestion.model("new") is not None
    one.register(frames.baseline(n=3900), version="2")
    two.look()
    known = two.service.catalog.model(MODEL)
    assert known is not None
    assert known.versions["2"].baseline is not None


def test_old_rows_are_cleared_away_by_one_daemon_at_a_time(pair: Fleet) -> None:
    pair.minute(0)
    one, two = (w.service for w in pair.worlds)
    later = START + timedelta(days=31)

    def blocked(conn: Connection) -> int:
        assert locks.housekeeping(conn)
        return enforce_retention(two.database, two.catalog, two.config, later)

    assert one.database.write(blocked).result() == 0
    assert enforce_retention(two.database, two.catalog, two.config, later) > 0

"""Two daemons on one PostgreSQL database: labels come to either, and one of them lets predictions meet theirs."""

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from monitor.api.application import create_app
from monitor.api.inprocess import ask
from monitor.clock import ManualClock
from monitor.membership import LEASE, RENEWED_EVERY, Membership
from monitor.scoring import Scorer
from storage import labels, performances
from storage.engine import Address
from storage.errors import StorageError
from storage.performances import summed
from tests.monitor.labelled import DELAY, LATE, baseline
from tests.monitor.world import CONFIG, MODEL, START, World
from tests.postgres import Server

MATURE = timedelta(minutes=3)
LABELLED = CONFIG.replace("[models.credit]", '[models.credit]\nlabels_mature_after = "2m"', 1)
LABELLED = LABELLED.replace('pane = "1m"', 'pane = "15m"').replace('block = "1m"', 'block = "15m"')


class Pair:
    """Two daemons on one database and one clock."""

    def __init__(self, where: Address) -> None:
        self.clock = ManualClock(START)
        self.worlds = [World(where, config=LABELLED, clock=self.clock) for _ in range(2)]
        self.worlds[0].register(baseline())
        self._apps = {id(world): create_app(world.service) for world in self.worlds}
        for world in self.worlds * 2:
            world.look()

    def post(self, world: World, what: str, body: dict[str, Any]) -> None:
        reply = ask(
            self._apps[id(world)],
            "POST",
            f"/v1/models/{MODEL}/{what}",
            body=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        assert reply.status == 200, reply.body

    def predict(self, world: World, ids: Sequence[str]) -> None:
        count = len(ids)
        columns = {"temp": [40.5] * count, LATE: [1] * count, DELAY: [0.5] * count}
        body = {"model_version": "1", "ids": ids, "columns": columns, "confidence": [0.5] * count}
        self.post(world, "predictions", body)

    def label(self, world: World, ids: Sequence[str], truth: int) -> None:
        self.post(world, "labels", {"ids": ids, "columns": {LATE: [truth] * len(ids)}})

    def wait(self, span: timedelta, worlds: Sequence[World] = ()) -> None:
        """Time passes, and these daemons' loops (all, unless said) go round now and then."""
        for _ in range(round(span / RENEWED_EVERY)):
            self.clock.advance(RENEWED_EVERY)
            for world in worlds or self.worlds:
                world.service.membership.renew()

    def late(self) -> tuple[int, int, int]:
        """Rows, labelled and right of all hours."""
        with self.worlds[1].service.database.read() as conn:
            found = performances.list_rows(conn, [1], start=0, end=2**40, segment="")
        whole = [row for row in found if row.column == LATE]
        if not whole:
            return 0, 0, 0
        day = summed(whole)
        return day.rows, day.labelled, day.correct


@pytest.fixture
def pair(postgres_server: Server, postgres_database: str) -> Iterator[Pair]:
    made = Pair(Address(postgres_server.url(postgres_database)))
    yield made
    for world in made.worlds:
        world.close()


def leader(pair: Pair) -> World:
    (found,) = [w for w in pair.worlds if w.service.membership.leads(MODEL)]
    return found


def follower(pair: Pair) -> World:
    (found,) = [w for w in pair.worlds if not w.service.membership.leads(MODEL)]
    return found


def test_labels_and_predictions_may_come_to_different_daemons_and_the_leader_scores(pair: Pair) -> None:
    one, two = pair.worlds
    pair.predict(one, ["a", "b"])
    pair.predict(two, ["c", "d"])
    pair.label(two, ["a", "c"], 1)
    pair.label(one, ["d"], 0)
    pair.wait(MATURE)
    follower(pair).look()
    assert pair.late() == (0, 0, 0)
    leader(pair).look()
    assert pair.late() == (4, 3, 2)
    for world in pair.worlds * 2:
        world.look()
    assert pair.late() == (4, 3, 2)


def test_of_two_words_on_a_prediction_the_later_stays_whichever_daemon_it_came_to(pair: Pair) -> None:
    one, two = pair.worlds
    pair.predict(one, ["a"])
    pair.post(two, "labels", {"ids": ["a"], "columns": {LATE: [1]}, "ts": "2026-03-01T23:00:00Z"})
    pair.post(one, "labels", {"ids": ["a"], "columns": {LATE: [0]}, "ts": "2026-03-01T22:00:00Z"})
    with two.service.database.read() as conn:
        assert labels.of_requests(conn, 1, ["a"]) == {("a", LATE): "1"}


def test_a_takeover_neither_loses_nor_doubles_a_label(pair: Pair) -> None:
    dead, alive = leader(pair), follower(pair)
    for number in range(4):
        pair.predict(pair.worlds[number % 2], [f"r{number}"])
        pair.label(pair.worlds[number % 2], [f"r{number}"], 1)
    pair.wait(MATURE)
    dead.look()
    assert pair.late() == (4, 4, 4)
    pair.predict(dead, ["last"])
    pair.label(dead, ["last"], 1)
    dead.service.database.close()  # as a kill would
    pair.wait(LEASE + MATURE, [alive])
    for _ in range(3):
        alive.look()
    assert alive.service.membership.leads(MODEL)
    assert pair.late() == (5, 5, 5)


def test_a_leader_that_is_overtaken_in_the_middle_scores_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paused between reading and writing, for longer than its lease, while the other daemon took over and scored."""
    slow, other = leader(pair), follower(pair)
    pair.predict(slow, ["a", "b"])
    pair.label(other, ["a", "b"], 1)
    pair.wait(MATURE)
    real = Scorer._group
    paused: list[int] = []

    def group(self: Scorer, *arguments: Any) -> Any:
        found = real(self, *arguments)
        if not paused and self is slow.service.pipeline._scorer:
            paused.append(1)
            pair.wait(2 * LEASE, [other])
            for _ in range(3):
                other.look()
            assert pair.late()[0] == 2
        return found

    monkeypatch.setattr(Scorer, "_group", group)
    slow.look()
    assert paused
    assert pair.late() == (2, 2, 2)
    for world in pair.worlds * 3:
        world.look()
    assert pair.late() == (2, 2, 2)


def round_and_round(world: World) -> None:
    for _ in range(4):
        with contextlib.suppress(StorageError):  # the loop of a daemon logs it and looks again
            world.look()


def test_daemons_that_all_believe_to_lead_score_once(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Membership, "leads", lambda self, subject: True)
    for number in range(6):
        pair.predict(pair.worlds[number % 2], [f"r{number}"])
        pair.label(pair.worlds[(number + 1) % 2], [f"r{number}"], number % 2)
    pair.wait(MATURE)
    rivals = [threading.Thread(target=round_and_round, args=(world,)) for world in pair.worlds]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join(60)
    assert pair.late() == (6, 6, 3)

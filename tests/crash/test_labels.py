"""kill -9 while labels come and predictions meet them: every label is there, and every prediction is scored once."""

import contextlib
import json
import random
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update

from detectors.codec import encode_baseline
from monitor.ingest.batch import decode_payload
from storage import batches, labels, performances
from storage.engine import Address, Connection, Database
from storage.tables import batches as batch_table
from storage.tables import labels as label_table
from storage.tables import payloads
from tests.crash.driver import LABELLING, SCORING
from tests.crash.lives import RANDOM, configured, die_under_load, driven, perhaps_dead_at_start
from tests.monitor.cli.test_daemon import Daemon, daemon, launched
from tests.monitor.labelled import DELAY, LATE, baseline
from tests.postgres import Server, running

CLIENTS = 3
ROWS = 24
MODEL = "[models.m]\n"
LABELLED = f'{MODEL}labels_mature_after = "1m"\n'
HOUR = 3600
SEGMENTS = ("", "region=eu", "region=us")


def late_of(name: str) -> int:
    """What is predicted of a request: its name decides."""
    return int(name.rpartition("-")[2]) % 2


def truth_of(name: str) -> int | None:
    """What it turns out to be; of every fifth nobody ever hears."""
    number = int(name.rpartition("-")[2])
    return None if number % 5 == 0 else int(number % 3 == 0)


class Client(threading.Thread):
    """Posts predictions, and their labels once they are acknowledged, until the daemon is gone."""

    def __init__(self, served: Daemon, name: str) -> None:
        super().__init__(daemon=True)
        self._served, self._name = served, name
        self._start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
        self.labelled: dict[str, int] = {}

    def run(self) -> None:
        with contextlib.suppress(OSError, HTTPException, ValueError):
            for number in range(10_000):
                names = [f"{self._name}-{number * ROWS + row}" for row in range(ROWS)]
                if self._predict(number, names) == 200:
                    self._label(names)

    def _predict(self, number: int, names: Sequence[str]) -> int:
        body = {
            "id": f"{self._name}-{number}",
            "model_version": "1",
            "ts": (self._start + number * timedelta(minutes=7)).isoformat(),
            "ids": names,
            "columns": {
                "temp": [40.5] * ROWS,
                LATE: [late_of(name) for name in names],
                DELAY: [0.25 * late_of(name) for name in names],
            },
            "confidence": [0.75] * ROWS,
            "tags": {"region": ["eu", "us", None] * (ROWS // 3)},
        }
        return self._served.ask("POST", "/v1/models/m/predictions", json.dumps(body).encode())[0]

    def _label(self, names: Sequence[str]) -> None:
        known = {name: truth for name in names if (truth := truth_of(name)) is not None}
        columns = {LATE: list(known.values()), DELAY: [-0.5 * truth for truth in known.values()]}
        body = {"ids": list(known), "columns": columns}
        if self._served.ask("POST", "/v1/models/m/labels", json.dumps(body).encode())[0] == 200:
            self.labelled |= known


def put(served: Daemon) -> None:
    path, media = "/v1/models/m/versions/1/baseline", "application/octet-stream"
    assert served.ask("PUT", path, encode_baseline(baseline()), media)[0] in (200, 201)


def places_of(tmp_path: Path, storage: str, daemons: int = 1) -> list[Path]:
    places = [tmp_path / f"daemon-{number}" for number in range(daemons)]
    for place in places:
        place.mkdir()
        configured(place, storage, LABELLED + 'segments = ["region"]\n')
    return places


def scored_upto(where: Path | Address) -> int | None:
    with Database.open_readonly(where) as reader, reader.read() as conn:
        return performances.scored_upto(conn, 1)


def begin(place: Path, where: Path | Address) -> None:
    """Register the model, and wait until it waits for labels."""
    with daemon(place, place / "driftd.toml") as served:
        put(served)
        while scored_upto(where) is None:
            threading.Event().wait(0.1)
        assert served.stop()[0] == 0


def age(where: Path | Address) -> None:
    """Let what has come be two minutes older: long enough for its labels."""
    with Database.open(where) as database:

        def earlier(conn: Connection) -> None:
            for batch_id, at in conn.execute(select(batch_table.c.id, batch_table.c.received_at)).all():
                mine = update(batch_table).where(batch_table.c.id == batch_id)
                conn.execute(mine.values(received_at=at - timedelta(minutes=2)))

        database.write(earlier).result()


def waits(where: Path | Address) -> bool:
    """Whether anything is left to score."""
    with Database.open_readonly(where) as reader, reader.read() as conn:
        return batches.newest_id(conn) > (performances.scored_upto(conn, 1) or 0)


def loaded(places: Sequence[Path], death: str, name: str, rng: random.Random) -> dict[str, int]:
    """Daemons under load until they are dead; the labels that clients were acknowledged."""
    clients: list[Client] = []
    launcher: Sequence[str | Path] = driven() if death == RANDOM else driven(death, 1)
    with perhaps_dead_at_start(), contextlib.ExitStack() as stack:
        starting = [stack.enter_context(launched(p, p / "driftd.toml", launcher)) for p in places]
        daemons = [started() for started in starting]
        clients += [Client(daemons[n % len(daemons)], f"{name}c{n}") for n in range(CLIENTS)]
        die_under_load(daemons, clients, death, lambda: rng.uniform(0.1, 1.0))
    return {name: truth for client in clients for name, truth in client.labelled.items()}


def killed_rounds(
    places: Sequence[Path], where: Path | Address, rounds: int, seed: int, points: Sequence[str]
) -> dict[str, int]:
    """Kill at each point in turn and at random, each time with what came in the round before to be scored."""
    rng = random.Random(seed)
    begin(places[0], where)
    acknowledged: dict[str, int] = {}
    deaths = [*points, RANDOM]
    for number in range(rounds):
        if number % len(deaths) == 0:
            rng.shuffle(deaths)
        death = deaths[number % len(deaths)]
        if not waits(where):
            acknowledged |= loaded(places, RANDOM, f"w{number}", rng)
        age(where)
        acknowledged |= loaded(places, death, f"r{number}", rng)
    return acknowledged


def check(place: Path, where: Path | Address, acknowledged: dict[str, int]) -> int:
    """Every acknowledged label is there, and the hours equal a recount from rows and labels; how many rows were labelled."""
    age(where)
    with Database.open_readonly(where) as reader, reader.read() as conn:
        newest = batches.newest_id(conn)
    with daemon(place, place / "driftd.toml") as served:
        while (scored_upto(where) or 0) < newest:
            threading.Event().wait(0.1)
        assert served.stop()[0] == 0
    with Database.open(where) as database, database.read() as conn:
        if isinstance(where, Path):
            assert conn.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
        told = labels.of_requests(conn, 1, sorted(acknowledged))
        assert {name: told.get((name, LATE)) for name in acknowledged} == {
            name: str(truth) for name, truth in acknowledged.items()
        }
        assert len(told) == 2 * len(acknowledged)
        found = performances.list_rows(conn, [1], start=0, end=2**40)
        stored = dict(_stored_labels(conn))
        expected, labelled = _recount(conn, stored)
        assert (
            conn.execute(select(func.count()).select_from(batch_table)).scalar_one()
            == conn.execute(select(func.count()).select_from(payloads)).scalar_one()
        )
    # Sums of halves and quarters are exact in any order.
    assert {
        (row.segment, row.column, row.start): (
            row.rows, row.identified, row.labelled, row.correct, row.error, row.absolute_error, row.squared_error,
            row.confident, row.confidence,
        )
        for row in found
    } == expected  # fmt: skip
    return labelled


def _stored_labels(conn: Connection) -> Iterator[tuple[str, int]]:
    query = select(label_table.c.request_id, label_table.c.value).where(label_table.c.column == LATE)
    yield from ((name, int(value)) for name, value in conn.execute(query))


def _recount(
    conn: Connection, truths: dict[str, int]
) -> tuple[dict[tuple[str, str, int], tuple[float, ...]], int]:
    """The sums of every stored row by hand, and how many have a label."""
    sums: dict[tuple[str, str, int], list[float]] = defaultdict(lambda: [0.0] * 9)
    labelled = 0
    for (batch_id,) in conn.execute(select(payloads.c.batch_id)).all():
        batch = decode_payload(batches.get(conn, batch_id).payload)
        assert batch.row_ids is not None
        for row, (name, region) in enumerate(
            zip(batch.row_ids.texts(), batch.tag_values("region"), strict=True)
        ):
            assert name is not None
            truth, start = truths.get(name), int(batch.times_ns[row]) // 10**9 // HOUR * HOUR
            labelled += truth is not None
            for segment in ("", f"region={region}") if region else ("",):
                for column, scale, wrong_by in ((LATE, 1, 0.0), (DELAY, 0.25, -0.5)):
                    one = sums[segment, column, start]
                    one[0] += 1
                    one[1] += 1
                    if truth is None:
                        continue
                    predicted = scale * late_of(name)
                    error = 0.0 if column == LATE else predicted - wrong_by * truth
                    right = late_of(name) == truth if column == LATE else error == 0.0
                    for place, value in enumerate((1, right, error, abs(error), error**2, 1, 0.75), 2):
                        one[place] += value
    return {key: tuple(values) for key, values in sums.items()}, labelled


def on_sqlite(tmp_path: Path, rounds: int, seed: int) -> int:
    state = tmp_path / "state"
    (place,) = places_of(tmp_path, f'state_dir = "{state}"')
    acknowledged = killed_rounds([place], state, rounds, seed, (*SCORING, *LABELLING))
    return min(check(place, state, acknowledged), len(acknowledged))


def on_postgresql(server: Server, tmp_path: Path, rounds: int, seed: int, daemons: int) -> int:
    url = server.url(server.create())
    secret = tmp_path / "url"
    secret.write_text(url)
    places = places_of(tmp_path, f'url_file = "{secret}"', daemons)
    # Named points kill their own daemon only where the work comes to it: with two, chance alone decides.
    points = (*SCORING, *LABELLING) if daemons == 1 else ()
    acknowledged = killed_rounds(places, Address(url), rounds, seed, points)
    return min(check(places[0], Address(url), acknowledged), len(acknowledged))


@pytest.fixture(scope="module")
def durable_server() -> Iterator[Server]:
    with running(durable=True) as server:
        yield server


def test_no_label_is_lost_and_no_prediction_is_scored_twice(tmp_path: Path) -> None:
    assert on_sqlite(tmp_path, rounds=7, seed=1) > 100


def test_two_daemons_on_one_postgresql_lose_no_label_and_score_once(
    tmp_path: Path, durable_server: Server
) -> None:
    assert on_postgresql(durable_server, tmp_path, rounds=1, seed=2, daemons=2) > 100


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_two_hundred_kills(tmp_path: Path) -> None:
    on_sqlite(tmp_path, rounds=200, seed=3)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("daemons", [1, 2])
def test_two_hundred_kills_on_postgresql(tmp_path: Path, durable_server: Server, daemons: int) -> None:
    on_postgresql(durable_server, tmp_path, rounds=200, seed=4, daemons=daemons)

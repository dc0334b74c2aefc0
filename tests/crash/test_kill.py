"""kill -9 under load: what was acknowledged is there, once, whenever the daemon died."""

import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select, text

from detectors.codec import decode_profile, encode_baseline
from detectors.profile import Profile, profile_rows
from monitor.ingest.batch import decode_payload
from monitor.ingest.frame import frame
from storage import batches, panes
from storage.engine import Address, Connection, Database
from storage.tables import batches as batch_table
from storage.tables import payloads
from tests.crash.driver import INGEST, MIGRATION, RETENTION
from tests.monitor import frames
from tests.monitor.cli.test_daemon import DRIFTD, Daemon, DiedAtStart, daemon, free_port
from tests.postgres import Server, running

BASELINE = frames.baseline()
CONFIG = """
[server]
bind = "127.0.0.1:{port}"

[storage]
{storage}

[models.credit]
keep_rows = {keep_rows}
"""
CLIENTS = 4
RANDOM = "at random"


def rows_of(key: str) -> frames.Rows:
    """What a client sends under an id."""
    number = int(key.rpartition("-")[2])
    return frames.rows(number, 1 + number % 40)


class Client(threading.Thread):
    """Posts batches until the daemon is gone; every id it got a 200 for is in `acknowledged`."""

    def __init__(self, served: Daemon, name: str, start: datetime) -> None:
        super().__init__(daemon=True)
        self._served, self._name, self._start = served, name, start
        self.acknowledged: dict[str, int] = {}

    def run(self) -> None:
        with contextlib.suppress(OSError, HTTPException, ValueError):
            for number in range(10_000):
                key = f"{self._name}-{number}"
                status, answer = self._served.ask(
                    "POST", "/v1/models/credit/predictions", self._body(key, number)
                )
                if status == 200:
                    self.acknowledged[key] = answer["accepted"]

    def _body(self, key: str, number: int) -> bytes:
        values = rows_of(key)
        at = self._start + timedelta(seconds=number)
        body = {
            "id": key,
            "model_version": "1",
            "ts": at.isoformat(),
            "columns": {
                "temp": values["temp"].astype(float).round(1).tolist(),
                "carrier": values["carrier"].tolist(),
            },
            "confidence": values["confidence"].astype(float).round(2).tolist(),
        }
        return json.dumps(body).encode()


def configured(tmp_path: Path, storage: str, daemons: int = 1, *, keep_rows: bool = True) -> list[Path]:
    """A directory for each daemon, with its configuration in it."""
    places = [tmp_path / f"daemon-{number}" for number in range(daemons)]
    for place in places:
        place.mkdir()
        told = CONFIG.format(port=free_port(), storage=storage, keep_rows=str(keep_rows).lower())
        (place / "driftd.toml").write_text(told)
    return places


def killed_rounds(
    places: list[Path], rounds: int, seed: int, points: Sequence[str] = tuple(INGEST)
) -> dict[str, int]:
    """Kill the loaded daemons `rounds` times, at each point in turn and at random; what all clients were acknowledged, by batch id."""
    rng = random.Random(seed)
    acknowledged: dict[str, int] = {}
    start = datetime.now(UTC) - timedelta(hours=1)
    deaths = [*points, RANDOM, RANDOM]
    for number in range(rounds):
        if number % len(deaths) == 0:
            rng.shuffle(deaths)
        death = deaths[number % len(deaths)] if number else RANDOM  # the first has a baseline to take first
        clients: list[Client] = []
        try:
            with contextlib.ExitStack() as stack:
                daemons = [
                    stack.enter_context(daemon(place, place / "driftd.toml", launcher(death, rng)))
                    for place in places
                ]
                if number == 0:
                    path = "/v1/models/credit/versions/1/baseline"
                    media = "application/octet-stream"
                    assert daemons[0].ask("PUT", path, encode_baseline(BASELINE), media)[0] in (200, 201)
                clients += [
                    Client(daemons[client % len(daemons)], f"r{number}c{client}", start)
                    for client in range(CLIENTS)
                ]
                die_under_load(daemons, clients, death, rng)
        except DiedAtStart as died:  # what waits is folded at once, before the daemon says that it is ready
            if died.args != (-signal.SIGKILL,):
                raise
        for client in clients:
            acknowledged |= client.acknowledged
    return acknowledged


def launcher(death: str, rng: random.Random) -> Sequence[str | Path]:
    """What to start for a daemon that will die so."""
    if death == RANDOM:
        return (DRIFTD, "serve")
    return (sys.executable, "-m", "tests.crash.driver", death, str(rng.randint(1, 6)), "serve")


def die_under_load(
    daemons: Sequence[Daemon], clients: Sequence[Client], death: str, rng: random.Random
) -> None:
    """Let the clients post until the daemons are gone."""
    for client in clients:
        client.start()
    for served in daemons:
        if death == RANDOM:
            # Not a wait for something to happen: the moment of death is what chance decides.
            threading.Event().wait(rng.uniform(0.05, 1.2))
            served.process.send_signal(signal.SIGKILL)
    for served in daemons:
        assert served.process.wait(60) == -signal.SIGKILL, death
    for client in clients:
        client.join(30)


def check(
    place: Path,
    where: Path | Address,
    acknowledged: dict[str, int],
    *,
    thinned: bool = False,
    keep_rows: bool = True,
) -> None:
    """Every acknowledged batch is stored once; after one quiet start the counts equal a recount from raw rows.

    `thinned`: raw rows were deleted on purpose, so that the number of rows counted is all there is to compare. Where none
    were kept, the recount is from what the clients sent.
    """
    with daemon(place, place / "driftd.toml") as served:
        while served.ask("GET", "/v1/status")[1]["waiting_batches"]:
            threading.Event().wait(0.1)
        assert served.stop()[0] == 0
    with Database.open(where) as database, database.read() as conn:
        if isinstance(where, Path):
            assert conn.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
        query = select(batch_table.c.batch_key, batch_table.c.accepted)
        stored = {row.batch_key: row.accepted for row in conn.execute(query)}
        assert {key: stored.get(key) for key in acknowledged} == acknowledged
        assert conn.execute(select(func.count()).select_from(batch_table)).scalar_one() == len(stored)
        counted = [
            decode_profile(BASELINE.layout, row.profile) for row in panes.window(conn, 1, "", 60, 0, 2**40)
        ]
        recount = _recount(conn) if keep_rows else _sent(stored)
        if not keep_rows:
            assert conn.execute(select(func.count()).select_from(payloads)).scalar_one() == 0
    folded = Profile.merge([Profile.zeros(BASELINE.layout), *counted])
    assert folded.rows == sum(stored.values())
    if thinned:
        assert recount.rows < folded.rows
        return
    assert folded.rows == recount.rows
    assert np.array_equal(folded.counts, recount.counts)


def _recount(conn: Connection) -> Profile:
    """Counts of every stored payload, none through a pane."""
    parts = [Profile.zeros(BASELINE.layout)]
    for (batch_id,) in conn.execute(select(payloads.c.batch_id)):
        batch = decode_payload(batches.get(conn, batch_id).payload)
        parts.append(profile_rows(BASELINE, frame([batch], BASELINE)))
    return Profile.merge(parts)


def _sent(stored: Iterable[str]) -> Profile:
    """Counts of what was sent under these ids."""
    counted = [profile_rows(BASELINE, rows_of(key)) for key in stored]
    return Profile.merge([Profile.zeros(BASELINE.layout), *counted])


def on_sqlite(tmp_path: Path, rounds: int, seed: int, *, keep_rows: bool = True) -> dict[str, int]:
    state = tmp_path / "state"
    (place,) = configured(tmp_path, f'state_dir = "{state}"', keep_rows=keep_rows)
    acknowledged = killed_rounds([place], rounds, seed)
    check(place, state, acknowledged, keep_rows=keep_rows)
    return acknowledged


def on_postgresql(
    server: Server, tmp_path: Path, rounds: int, seed: int, daemons: int, *, keep_rows: bool = True
) -> dict[str, int]:
    url = server.url(server.create())
    secret = tmp_path / "url"
    secret.write_text(url)
    places = configured(tmp_path, f'url_file = "{secret}"', daemons, keep_rows=keep_rows)
    # Named points kill their own daemon only where the work comes to it: with two, chance alone decides.
    acknowledged = killed_rounds(places, rounds, seed, tuple(INGEST) if daemons == 1 else ())
    check(places[0], Address(url), acknowledged, keep_rows=keep_rows)
    return acknowledged


@pytest.fixture(scope="module")
def durable_server() -> Iterator[Server]:
    with running(durable=True) as server:
        yield server


def test_nothing_acknowledged_is_lost_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    assert len(on_sqlite(tmp_path, rounds=10, seed=1)) > 20


def test_nothing_acknowledged_is_lost_or_counted_twice_where_no_rows_are_kept(tmp_path: Path) -> None:
    assert len(on_sqlite(tmp_path, rounds=8, seed=5, keep_rows=False)) > 20


def test_retention_that_is_killed_costs_no_count(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (place,) = configured(tmp_path, f'state_dir = "{state}"\npayload_bytes = "64KiB"')
    acknowledged = killed_rounds([place], 3, 3, tuple(RETENTION))
    check(place, state, acknowledged, thinned=True)


def test_a_first_start_that_is_killed_is_started_again(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (place,) = configured(tmp_path, f'state_dir = "{state}"')
    config = place / "driftd.toml"
    for point in MIGRATION:
        command = [sys.executable, "-m", "tests.crash.driver", point, "1", "serve", "--config", str(config)]
        died = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert died.returncode == -signal.SIGKILL
        assert not (state / "driftd.db").exists()
    with daemon(place, config) as served:
        assert served.ask("GET", "/v1/status")[0] == 200
        assert served.stop()[0] == 0


def test_two_daemons_on_one_postgresql_lose_and_double_nothing(
    tmp_path: Path, durable_server: Server
) -> None:
    assert len(on_postgresql(durable_server, tmp_path, rounds=3, seed=3, daemons=2)) > 20


def test_two_daemons_that_keep_no_rows_lose_and_double_nothing(
    tmp_path: Path, durable_server: Server
) -> None:
    assert len(on_postgresql(durable_server, tmp_path, rounds=2, seed=6, daemons=2, keep_rows=False)) > 20


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("keep_rows", [True, False])
def test_a_thousand_kills(tmp_path: Path, keep_rows: bool) -> None:
    on_sqlite(tmp_path, rounds=1000, seed=2, keep_rows=keep_rows)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("keep_rows", [True, False])
@pytest.mark.parametrize("daemons", [1, 2])
def test_a_hundred_kills_on_postgresql(
    tmp_path: Path, durable_server: Server, daemons: int, keep_rows: bool
) -> None:
    on_postgresql(durable_server, tmp_path, rounds=100, seed=4, daemons=daemons, keep_rows=keep_rows)

"""kill -9 under load: what was acknowledged is there, once, whenever the daemon died."""

import contextlib
import json
import random
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select, text

from detectors.codec import decode_profile, encode_baseline
from detectors.profile import Baseline, Profile, profile_rows
from monitor.ingest.batch import decode_payload
from monitor.ingest.frame import frame
from storage import baselines, batches, panes
from storage.engine import Address, Connection, Database
from storage.tables import batches as batch_table
from storage.tables import payloads
from tests.crash.driver import INGEST, MIGRATION, REFOLD, RETENTION, ROLL_UP
from tests.crash.lives import RANDOM, configured, die_under_load, driven, perhaps_dead_at_start
from tests.monitor import frames
from tests.monitor.cli.test_daemon import DRIFTD, Daemon, daemon, launched
from tests.postgres import Server, running

BASELINE = frames.baseline()
CLIENTS = 4


def rows_of(key: str) -> frames.Rows:
    """What a client sends under an id."""
    number = int(key.rpartition("-")[2])
    return frames.rows(number, 1 + number % 40)


class Client(threading.Thread):
    """Posts batches until the daemon is gone; every id it got a 200 for is in `acknowledged`."""

    def __init__(self, served: Daemon, name: str, start: datetime, apart: timedelta) -> None:
        """Each batch is of an instant, `apart` from the next one's."""
        super().__init__(daemon=True)
        self._served, self._name, self._start, self._apart = served, name, start, apart
        self.acknowledged: dict[str, int] = {}

    def run(self) -> None:
        with contextlib.suppress(OSError, HTTPException, ValueError):
            for number in range(10_000):
                self.post(number)

    def post(self, number: int) -> int:
        """Send one batch; the status of the answer."""
        key = f"{self._name}-{number}"
        status, answer = self._served.ask("POST", "/v1/models/credit/predictions", self._body(key, number))
        if status == 200:
            self.acknowledged[key] = answer["accepted"]
        return status

    def _body(self, key: str, number: int) -> bytes:
        values = rows_of(key)
        at = self._start + number * self._apart
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


def places_of(tmp_path: Path, storage: str, daemons: int = 1, *, keep_rows: bool = True) -> list[Path]:
    """A directory for each daemon, with its configuration in it."""
    places = [tmp_path / f"daemon-{number}" for number in range(daemons)]
    for place in places:
        place.mkdir()
        configured(place, storage, f"[models.credit]\nkeep_rows = {str(keep_rows).lower()}\n")
    return places


def killed_rounds(
    places: list[Path],
    rounds: int,
    seed: int,
    points: Sequence[str] = tuple(INGEST),
    *,
    apart: timedelta = timedelta(seconds=1),
) -> dict[str, int]:
    """Kill the loaded daemons `rounds` times, at each point in turn and at random; what all clients were acknowledged, by batch id."""
    rng = random.Random(seed)
    acknowledged: dict[str, int] = {}
    start = datetime.now(UTC) - 3600 * apart
    deaths = [*points, RANDOM, RANDOM]
    for number in range(rounds):
        if number % len(deaths) == 0:
            rng.shuffle(deaths)
        death = deaths[number % len(deaths)] if number else RANDOM  # the first has a baseline to take first
        clients: list[Client] = []
        with perhaps_dead_at_start(), contextlib.ExitStack() as stack:
            starting = [
                stack.enter_context(launched(place, place / "driftd.toml", launcher(death, rng)))
                for place in places
            ]
            daemons = [started() for started in starting]
            if number == 0:
                put(daemons[0], BASELINE)
            clients += [
                Client(daemons[client % len(daemons)], f"r{number}c{client}", start, apart)
                for client in range(CLIENTS)
            ]
            die_under_load(daemons, clients, death, lambda: rng.uniform(0.05, 1.2))
        for client in clients:
            acknowledged |= client.acknowledged
    return acknowledged


def put(served: Daemon, baseline: Baseline) -> None:
    path, media = "/v1/models/credit/versions/1/baseline", "application/octet-stream"
    assert served.ask("PUT", path, encode_baseline(baseline), media)[0] in (200, 201)


def until_folded(served: Daemon) -> None:
    while served.ask("GET", "/v1/status")[1]["waiting_batches"]:
        threading.Event().wait(0.1)


def launcher(death: str, rng: random.Random) -> Sequence[str | Path]:
    """What to start for a daemon that will die so."""
    if death == RANDOM:
        return (DRIFTD, "serve")
    return driven(death, rng.randint(1, 6))


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
        until_folded(served)
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


def _recount(conn: Connection, baseline: Baseline = BASELINE) -> Profile:
    """Counts of every stored payload, none through a pane."""
    parts = [Profile.zeros(baseline.layout)]
    for (batch_id,) in conn.execute(select(payloads.c.batch_id)):
        batch = decode_payload(batches.get(conn, batch_id).payload)
        parts.append(profile_rows(baseline, frame([batch], baseline)))
    return Profile.merge(parts)


def _sent(stored: Iterable[str]) -> Profile:
    """Counts of what was sent under these ids."""
    counted = [profile_rows(BASELINE, rows_of(key)) for key in stored]
    return Profile.merge([Profile.zeros(BASELINE.layout), *counted])


def on_sqlite(tmp_path: Path, rounds: int, seed: int, *, keep_rows: bool = True) -> dict[str, int]:
    state = tmp_path / "state"
    (place,) = places_of(tmp_path, f'state_dir = "{state}"', keep_rows=keep_rows)
    acknowledged = killed_rounds([place], rounds, seed)
    check(place, state, acknowledged, keep_rows=keep_rows)
    return acknowledged


def on_postgresql(
    server: Server, tmp_path: Path, rounds: int, seed: int, daemons: int, *, keep_rows: bool = True
) -> dict[str, int]:
    url = server.url(server.create())
    secret = tmp_path / "url"
    secret.write_text(url)
    places = places_of(tmp_path, f'url_file = "{secret}"', daemons, keep_rows=keep_rows)
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
    (place,) = places_of(tmp_path, f'state_dir = "{state}"\npayload_bytes = "64KiB"')
    acknowledged = killed_rounds([place], 3, 3, tuple(RETENTION))
    check(place, state, acknowledged, thinned=True)


def test_a_roll_up_that_is_killed_sums_up_every_pane_once(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (place,) = places_of(tmp_path, f'state_dir = "{state}"')
    acknowledged = killed_rounds([place], 4, 5, tuple(ROLL_UP), apart=timedelta(minutes=2))
    check(place, state, acknowledged)
    with Database.open(state) as database, database.read() as conn:
        minutes, hours = (panes.window(conn, 1, "", length, 0, 2**40) for length in (60, 3600))
    assert hours
    for hour in hours:
        parts = [m for m in minutes if hour.start <= m.start < hour.start + 3600]
        assert all(part.rolled for part in parts)
        whole = Profile.merge([decode_profile(BASELINE.layout, part.profile) for part in parts])
        assert np.array_equal(decode_profile(BASELINE.layout, hour.profile).counts, whole.counts)


def test_a_re_fold_that_is_killed_counts_every_row_once_on_the_newest_baseline(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (place,) = places_of(tmp_path, f'state_dir = "{state}"')
    later = [frames.baseline(n=4100 + number) for number in range(len(REFOLD))]
    with daemon(place, place / "driftd.toml") as served:
        put(served, BASELINE)
        client = Client(served, "only", datetime.now(UTC) - timedelta(hours=1), timedelta(seconds=9))
        assert [client.post(number) for number in range(60)] == [200] * 60
        until_folded(served)
        assert served.stop()[0] == 0
    for point, baseline in zip(REFOLD, later, strict=True):
        with launched(place, place / "driftd.toml", driven(point, 1)) as starting:
            dying = starting()
            put(dying, baseline)
            assert dying.process.wait(60) == -signal.SIGKILL
    with daemon(place, place / "driftd.toml") as served:
        while not served.ask("GET", "/v1/models/credit")[1]["versions"][0]["refold"]["finished"]:
            threading.Event().wait(0.1)
        assert served.stop()[0] == 0
    with Database.open(state) as database, database.read() as conn:
        (newest,) = [b for b in baselines.list_baselines(conn, 1) if b.fingerprint == later[-1].fingerprint]
        counted = [
            decode_profile(later[-1].layout, row.profile)
            for row in panes.window(conn, newest.id, "", 60, 0, 2**40)
        ]
        recount = _recount(conn, later[-1])
    whole = Profile.merge(counted)
    assert np.array_equal(whole.counts, recount.counts)


def test_a_first_start_that_is_killed_is_started_again(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (place,) = places_of(tmp_path, f'state_dir = "{state}"')
    config = place / "driftd.toml"
    for point in MIGRATION:
        command = [*driven(point, 1), "--config", config]
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
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("keep_rows", [True, False])
@pytest.mark.parametrize("daemons", [1, 2])
def test_a_thousand_kills_on_postgresql(
    tmp_path: Path, durable_server: Server, daemons: int, keep_rows: bool
) -> None:
    on_postgresql(durable_server, tmp_path, rounds=1000, seed=4, daemons=daemons, keep_rows=keep_rows)

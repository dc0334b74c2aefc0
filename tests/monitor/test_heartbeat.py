"""The heartbeat: pinged after a full loop only, and silent, once said, while anything is wrong."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from alerts.lifecycle import Condition
from alerts.ports import Failure, Reply, Request
from monitor.config import SecretError, check, parse
from monitor.heartbeat import Heartbeat
from storage import receivers
from storage.engine import Connection
from storage.receivers import ReceiverState
from tests.monitor.test_routes import drift, say
from tests.monitor.world import CONFIG, World

MINUTE = timedelta(minutes=1)
PING = "https://hc.example/ping/s3cret-path"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, config=CONFIG + f'[heartbeat]\nurl = "{PING}"\n')
    yield world
    world.close()


def heart(world: World) -> Heartbeat:
    found = world.service.heartbeat
    assert found is not None
    return found


def pings(world: World) -> list[Request]:
    return [request for request in world.wire.sent if request.url == PING]


def beat(world: World, *, look: bool = True) -> bool:
    """A minute passes, the loop looks, and the heartbeat is due."""
    world.clock.advance(MINUTE)
    if look:
        world.service.pipeline.run_once()
    return heart(world).beat()


def test_it_is_pinged_after_every_full_loop_with_nothing_in_it(world: World) -> None:
    assert [beat(world) for _ in range(3)] == [True] * 3
    assert [request.body for request in pings(world)] == [b""] * 3
    assert heart(world).interval == MINUTE


def test_it_is_not_pinged_before_the_first_loop_nor_when_the_loop_stands(world: World) -> None:
    assert not heart(world).beat()
    assert beat(world)
    assert not beat(world, look=False)
    assert beat(world)
    assert len(pings(world)) == 2


def test_it_is_not_pinged_while_a_message_is_late_unless_its_receiver_is_known_to_be_broken(
    world: World,
) -> None:
    say(world, drift("m"), Condition.TRUE)
    assert [beat(world) for _ in range(7)] == [True] * 5 + [False] * 2  # nobody delivers
    broken = ReceiverState(receiver="hook", broken_since=world.clock.now(), reason="HTTP 410")
    world.service.database.write(lambda conn: receivers.put(conn, broken)).result()
    assert beat(world)


def test_it_is_not_pinged_while_nothing_can_be_stored(world: World) -> None:
    assert beat(world)
    world.clock.advance(MINUTE)
    world.service.pipeline.run_once()

    def fill(conn: Connection) -> None:
        conn.execute(text("DROP TABLE job_runs"))

    world.service.database.write(fill).result()
    assert not heart(world).beat()


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=500),
        Reply(status=404),
        Reply(failure=Failure.CONNECT, detail="https://hc.example: cannot connect"),
    ],
)
def test_a_ping_that_fails_is_logged_once_without_the_secret(
    world: World, reply: Reply, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "driftd.heartbeat")
    with monkeypatch.context() as patched:
        patched.setattr(world.wire, "send", lambda _: reply)
        assert [beat(world) for _ in range(5)] == [False] * 5
    assert [beat(world) for _ in range(3)] == [True] * 3
    said = [record.getMessage() for record in caplog.records if record.name == "driftd.heartbeat"]
    assert len(said) == 2
    assert "https://hc.example" in said[0]
    assert said[1] == "heartbeat: it is pinged again"
    assert "s3cret" not in caplog.text


def test_a_heartbeat_whose_secret_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    text_ = CONFIG + f'[heartbeat]\nurl_file = "{tmp_path}/none"\n'
    assert any(line.startswith("heartbeat.url_file: ") for line in check(parse(text_)))
    with pytest.raises(SecretError, match=r"heartbeat\.url_file"):
        World(tmp_path, config=text_)

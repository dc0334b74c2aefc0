"""A changed configuration: all of it in force, or none, and nobody is told anything for it."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from alerts.lifecycle import Condition
from alerts.ports import Reply, Request
from monitor.api.application import create_app
from monitor.api.inprocess import ask
from monitor.config import Config, load
from monitor.reloading import Reloaded, ReloadRefused, reload
from storage import receivers
from storage.operations import list_audit
from storage.receivers import ReceiverState
from tests.monitor.test_routes import drift, say, told
from tests.monitor.world import World

MINUTE = timedelta(minutes=1)
BASE = """
[alerts]
group_wait = "30s"
group_interval = "5m"
[receivers.hook]
type = "webhook"
url = "https://hook.example/x"
"""
SECOND = '[receivers.second]\ntype = "webhook"\nurl = "https://second.example/x"\n'


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "driftd.toml").write_text(BASE)
    world = World(tmp_path / "state", config=BASE)
    yield world
    world.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "driftd.toml"


def again(world: World, file: Path, text: str) -> Reloaded:
    file.write_text(text)
    return reload(world.service, lambda: load(file), actor="test")


def look(world: World, span: timedelta = MINUTE) -> None:
    world.clock.advance(span)
    world.look()
    world.look()


def test_a_reload_tells_nobody_anything_early_twice_or_in_part(world: World, file: Path) -> None:
    say(world, drift("m"), Condition.TRUE)
    (waiting,) = world.notifications()
    again(world, file, BASE.replace("30s", "10m") + SECOND)
    assert world.notifications()[0] == waiting  # what waits, waits as long as it would have
    look(world)
    assert told(world) == [("hook", "firing")]
    for _ in range(5):
        again(world, file, BASE.replace("30s", "1s"))
        look(world)
    assert told(world) == []
    say(world, drift("m"), Condition.FALSE)
    look(world, 6 * MINUTE)
    assert told(world) == [("hook", "resolved")]


def test_what_is_changed_is_in_force_and_in_the_audit_trail(world: World, file: Path) -> None:
    done = again(
        world,
        file,
        BASE + SECOND + '[defaults]\nno_traffic_after = "30m"\n[[routes]]\nreceivers = ["second"]\n',
    )
    assert done == Reloaded(changed=("defaults", "receivers", "routes"), needs_restart=())
    say(world, drift("m"), Condition.TRUE)
    look(world)
    assert told(world) == [("second", "firing")]
    assert world.service.config.settings("m").no_traffic_after == timedelta(minutes=30)
    with world.service.database.read() as conn:
        (entry,) = list_audit(conn)
    assert (entry.actor, entry.action) == ("test", "config.reload")
    assert entry.detail == {"changed": ["defaults", "receivers", "routes"]}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BASE + "[nonsense]\n", "nonsense: no such key"),
        (BASE + "[[routes]]\nreceivers = ['nobody']\n", "no such receiver: nobody"),
        (
            BASE.replace('url = "https://hook.example/x"', 'url_file = "/nowhere"') + SECOND,
            "/nowhere: No such file",
        ),
        (BASE.replace('type = "webhook"', 'type = "slack"'), "receivers.hook.type: cannot become slack"),
        (BASE + '[heartbeat]\nurl_file = "/nowhere"\n', "heartbeat.url_file"),
        (BASE + '[[auth.tokens]]\nname = "a"\nscopes = ["read"]\ntoken_file = "/nowhere"\n', "token_file"),
    ],
)
def test_a_bad_file_changes_nothing_and_says_why(world: World, file: Path, text: str, why: str) -> None:
    before = world.service.config
    with pytest.raises(ReloadRefused, match=why):
        again(world, file, text)
    assert world.service.config is before
    assert list(world.service.receivers) == ["hook"]
    say(world, drift("m"), Condition.TRUE)
    look(world)
    assert told(world) == [("hook", "firing")]


def test_what_is_read_at_the_start_alone_is_named_and_kept(world: World, file: Path) -> None:
    text = (
        BASE
        + f'[server]\nbind = "127.0.0.1:9999"\n[storage]\nstate_dir = "{file.parent}/other"\n[log]\nlevel = "debug"\n'
    )
    done = again(world, file, text + '[defaults]\nlateness = "5s"\n')
    assert {"server.bind", "storage.state_dir", "log.level"} <= set(done.needs_restart)
    assert done.changed == ("defaults",)
    assert world.service.config.server == Config().server


def test_a_send_under_way_is_finished_with_what_it_began_with(
    world: World, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(world, drift("m"), Condition.TRUE)
    seen: list[str] = []

    def send(request: Request) -> Reply:
        if not seen:  # the file changes while the first is on its way
            again(world, file, BASE.replace("hook.example/x", "hook.example/new"))
        seen.append(request.url)
        return Reply(status=200)

    monkeypatch.setattr(world.wire, "send", send)
    look(world)
    assert [n.status for n in world.notifications()] == ["sent"]
    say(world, drift("m", "age"), Condition.TRUE)
    look(world, 6 * MINUTE)
    assert seen == ["https://hook.example/x", "https://hook.example/new"]


def test_a_receiver_that_is_renamed_leaves_nothing_behind_and_is_told_once(world: World, file: Path) -> None:
    world.wire.status = 503
    say(world, drift("m"), Condition.TRUE)
    look(world)
    world.wire.sent.clear()
    world.wire.status = 200
    again(world, file, BASE.replace("receivers.hook", "receivers.renamed"))
    for _ in range(10):
        look(world)
    assert told(world) == [("hook", "firing")]
    assert {(n.receiver, n.status) for n in world.notifications()} == {
        ("hook", "dropped"),
        ("renamed", "sent"),
    }


def test_new_settings_mend_a_broken_receiver(world: World, file: Path) -> None:
    broken = ReceiverState(receiver="hook", broken_since=world.clock.now(), reason="HTTP 410")
    world.service.database.write(lambda conn: receivers.put(conn, broken)).result()
    say(world, drift("m"), Condition.TRUE)
    again(world, file, BASE + "# nothing of it changed\n")
    look(world)
    assert ("hook", "firing") not in told(world)
    again(world, file, BASE.replace("hook.example/x", "hook.example/new"))
    look(world)
    assert ("hook", "firing") in told(world)


def test_the_api_reloads_for_an_operator(world: World, file: Path) -> None:
    app = create_app(world.service)

    def post() -> tuple[int, dict[str, object]]:
        reply = ask(app, "POST", "/v1/reload")
        return reply.status, json.loads(reply.body)

    assert post()[0] == 409  # no daemon runs
    read: Callable[[], Config] = lambda: load(file)  # noqa: E731  # as the server does
    world.service.reload_from = read
    file.write_text(BASE + SECOND)
    assert post() == (200, {"changed": ["receivers"], "needs_restart": []})
    file.write_text("[nonsense]\n")
    status, problem = post()
    assert status == 422
    assert "nonsense: no such key" in json.dumps(problem)
    assert sorted(world.service.receivers) == ["hook", "second"]
    digest = "0" * 64
    file.write_text(BASE + f'[[auth.tokens]]\nname = "a"\nscopes = ["operate"]\nsha256 = "{digest}"\n')
    assert post()[0] == 200
    assert post()[0] == 401  # from now on a token is asked for

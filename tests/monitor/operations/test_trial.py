"""The test notification: the real path, once."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from monitor.operations import NotKnown, try_receiver
from storage import outbox, receivers
from tests.monitor.harness import Harness, drift_labels, harness, listener


def statuses(daemon: Harness) -> list[tuple[str, str]]:
    with daemon.service.database.read() as conn:
        return [(n.kind, n.status) for n in outbox.list_notifications(conn)]


def test_the_bytes_that_arrive_are_the_bytes_it_shows(tmp_path: Path) -> None:
    with listener() as heard, harness(tmp_path, url=heard.url) as daemon:
        done = try_receiver(daemon.service, "ops", actor="ann")
        ((headers, body),) = heard.posts
        assert (done.delivered, done.http_status, done.body) == (True, 200, body)
        assert headers["webhook-id"] == done.message_id
        assert json.loads(body)["driftd"]["title"] == "Test notification to ops: nothing is wrong"
        assert done.destination == heard.url.partition("/hook")[0]
        assert "s3cret" not in repr(done)
        assert statuses(daemon) == [("test", "sent")]


def test_the_exchange_is_shown_without_secrets(tmp_path: Path) -> None:
    key = "0123456789abcdef0123456789abcdef"
    with listener() as heard:
        heard.status, heard.reply = 202, f'{{"status":"success","echo":"{heard.url} {key}"}}'.encode()
        pager = f"""
            [receivers.pager]
            type = "pagerduty"
            endpoint = "{heard.url}"
            routing_key = "{key}"
            allow_private = true
        """
        with harness(tmp_path, pager) as daemon:
            done = try_receiver(daemon.service, "pager", actor="ann")
        assert json.loads(heard.posts[0][1])["routing_key"] == key
        assert json.loads(done.body)["routing_key"] == "***"
        assert done.request_line == f"POST {heard.url.partition('/hook')[0]}/***"
        assert done.detail == 'HTTP 202: {"status":"success","echo":"*** ***"}'
        assert key not in repr(done)
        assert "s3cret" not in repr(done)


def test_a_header_that_says_who_we_are_is_not_shown(tmp_path: Path) -> None:
    with listener() as heard:
        am = f"""
            [receivers.am]
            type = "alertmanager"
            url = "{heard.url}"
            authorization = "Bearer s3cret-token"
            allow_private = true
        """
        with harness(tmp_path, am) as daemon:
            done = try_receiver(daemon.service, "am", actor="ann")
        assert heard.posts[0][0]["Authorization"] == "Bearer s3cret-token"
        assert done.headers == (("Content-Type", "application/json"), ("Authorization", "***"))
        assert "s3cret" not in repr(done)


def test_a_refusal_is_told_and_not_tried_again(tmp_path: Path) -> None:
    with listener() as heard, harness(tmp_path, url=heard.url) as daemon:
        heard.status = 500
        done = try_receiver(daemon.service, "ops", actor="ann")
        assert (done.delivered, done.attempted, done.http_status) == (False, True, 500)
        assert statuses(daemon) == [("test", "dropped")]
        heard.status = 200
        assert try_receiver(daemon.service, "ops", actor="ann").delivered


def test_a_repaired_receiver_is_no_longer_broken(tmp_path: Path) -> None:
    with listener() as heard, harness(tmp_path, url=heard.url) as daemon:
        broken = receivers.ReceiverState(receiver="ops", broken_since=daemon.clock.now(), reason="HTTP 410")
        daemon.service.database.write(lambda conn: receivers.put(conn, broken)).result()
        assert try_receiver(daemon.service, "ops", actor="ann").delivered
        with daemon.service.database.read() as conn:
            assert receivers.list_states(conn) == []


def test_a_receiver_on_hold_is_left_alone(tmp_path: Path) -> None:
    with listener() as heard, harness(tmp_path, url=heard.url) as daemon:
        heard.status = 429
        first = try_receiver(daemon.service, "ops", actor="ann")
        assert (first.http_status, first.delivered) == (429, False)
        second = try_receiver(daemon.service, "ops", actor="ann")
        assert (second.attempted, len(heard.posts)) == (False, 1)
        assert "on hold until" in second.detail


def test_what_was_due_before_goes_first(tmp_path: Path) -> None:
    with listener() as heard, harness(tmp_path, url=heard.url) as daemon:
        daemon.open_alert(drift_labels())
        with daemon.service.database.read() as conn:
            due = outbox.list_notifications(conn)[0].next_attempt_at
        daemon.clock.advance_to(due)
        assert try_receiver(daemon.service, "ops", actor="ann").delivered
        assert [body["alerts"] != [] for body in heard.bodies()] == [True, False]


def test_an_unknown_receiver_is_named_with_those_there_are(tmp_path: Path) -> None:
    with (
        listener() as heard,
        harness(tmp_path, url=heard.url) as daemon,
        pytest.raises(NotKnown, match="there is no receiver 'opps'; there are: ops"),
    ):
        try_receiver(daemon.service, "opps", actor="ann")


def test_a_running_daemon_sends_it_from_its_own_thread(tmp_path: Path) -> None:
    with listener() as heard, harness(tmp_path, url=heard.url) as daemon:
        daemon.clock.advance_to(
            datetime.now(UTC)
        )  # else the scheduler counts every tick missed since the tests' beginning
        daemon.service.start()
        done = daemon.json("POST", "/v1/receivers/ops/test")
        assert (done["delivered"], done["body"]) == (True, heard.posts[0][1].decode())

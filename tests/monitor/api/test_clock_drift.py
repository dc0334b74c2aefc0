"""A sender whose clock is off: its event times are corrected from 55 minutes on, and it is told."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

import numpy as np
import pytest

from monitor.ingest.times import CLOCK_DRIFT_NS, DAY, HOUR, MINUTE, SECOND, clock_drift
from tests.monitor.api.asgi import Daemon
from tests.monitor.ingest.bodies import GOOD, NOW, columns_body, oip_binary_body, rows_body


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    made = Daemon()
    yield made
    made.intake.close()


def text(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat()


def stored(daemon: Daemon) -> list[int]:
    (batch,) = daemon.port.stored.values()
    return [int(at) for at in batch.times_ns]


def send(daemon: Daemon, *, off: int, rows: Any = None, date: int | None = None, **parameters: Any) -> Any:
    """One batch by a clock that is `off` nanoseconds ahead; its rows happened a minute before it was sent."""
    body = rows_body(
        [dict(GOOD) | {"ts": NOW + off - MINUTE}] if rows is None else rows,
        parameters={"sent_at": text(NOW + off), **parameters},
    )
    headers = {} if date is None else {"date": formatdate(date / 1e9, usegmt=True)}
    return daemon.post(body, **headers)


@pytest.mark.parametrize("off", [-3 * HOUR, 3 * HOUR, 400 * DAY, -30 * 365 * DAY])
def test_the_rows_happened_when_they_did(daemon: Daemon, off: int) -> None:
    answer = send(daemon, off=off)
    assert answer.status_code == 200, answer.text
    assert stored(daemon) == [NOW - MINUTE]
    (warning,) = answer.json()["warnings"]
    assert warning["pointer"] == "/parameters/sent_at"
    assert f"{abs(off) / HOUR:.1f} h {'ahead' if off > 0 else 'behind'}" in warning["detail"]


@pytest.mark.parametrize("off", [0, -54 * MINUTE, -(CLOCK_DRIFT_NS - SECOND)])
def test_less_than_55_minutes_is_left_alone(daemon: Daemon, off: int) -> None:
    answer = send(daemon, off=off)
    assert answer.json()["warnings"] == []
    assert stored(daemon) == [NOW + off - MINUTE]


def test_rows_without_a_time_got_that_of_the_daemon_and_keep_it(daemon: Daemon) -> None:
    answer = send(daemon, off=2 * HOUR, rows=[GOOD, dict(GOOD) | {"ts": NOW + 2 * HOUR - SECOND}])
    assert stored(daemon) == [NOW, NOW - SECOND]
    assert len(answer.json()["warnings"]) == 1


def test_a_batch_without_times_has_nothing_to_correct(daemon: Daemon) -> None:
    answer = send(daemon, off=2 * HOUR, rows=[GOOD])
    assert stored(daemon) == [NOW]
    assert answer.json()["warnings"] == []


def test_the_time_of_the_whole_batch_is_corrected(daemon: Daemon) -> None:
    send(daemon, off=2 * HOUR, rows=[GOOD, GOOD], ts=text(NOW + 2 * HOUR - MINUTE))
    assert stored(daemon) == [NOW - MINUTE] * 2


def test_a_batch_that_was_kept_through_an_outage_is_late_not_wrong(daemon: Daemon) -> None:
    """Three hours after it was made it is sent again, byte for byte: the request's Date knows that the clock is right."""
    answer = send(daemon, off=-3 * HOUR, date=NOW)
    assert stored(daemon) == [NOW - 3 * HOUR - MINUTE]
    assert answer.json()["warnings"] == []


def test_the_clock_of_the_attempt_counts(daemon: Daemon) -> None:
    """Kept for three hours by a sender whose clock is two hours ahead."""
    send(daemon, off=-HOUR, date=NOW + 2 * HOUR)
    assert stored(daemon) == [NOW - 3 * HOUR - MINUTE]


def test_columns_and_tensors_are_corrected_too(daemon: Daemon) -> None:
    given = {"sent_at": text(NOW + 2 * HOUR), "ts": NOW + 2 * HOUR}
    body, length = oip_binary_body([GOOD])
    header = json.dumps(json.loads(body[:length]) | {"parameters": given}).encode()
    answers = [
        daemon.post(columns_body([GOOD], ts=[NOW + 2 * HOUR], parameters={"sent_at": given["sent_at"]})),
        daemon.post(
            header + body[length:],
            content_type="application/octet-stream",
            inference_header_content_length=str(len(header)),
        ),
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [batch.times_ns.tolist() for batch in daemon.port.stored.values()] == [[NOW], [NOW]]


@pytest.mark.parametrize("wrong", ["yesterday", "2026-03-01T12:00:00", 12.5, True, "2026-02-30T00:00:00Z"])
def test_a_sent_at_that_is_no_time_is_refused_by_name(daemon: Daemon, wrong: object) -> None:
    answer = daemon.post(rows_body([GOOD], parameters={"sent_at": wrong}))
    assert answer.status_code == 422
    assert [e["pointer"] for e in answer.json()["errors"]] == ["/parameters/sent_at"]


@pytest.mark.parametrize("wrong", ["yesterday", "Thu, 99 Foo 2026 00:00:00 GMT", ""])
def test_a_date_that_cannot_be_read_says_nothing(daemon: Daemon, wrong: str) -> None:
    answer = daemon.post(rows_body([dict(GOOD) | {"ts": NOW}]), date=wrong)
    assert answer.status_code == 200
    assert stored(daemon) == [NOW]


def test_times_at_the_end_of_their_range_do_not_wrap(daemon: Daemon) -> None:
    """What cannot be moved any further is refused as too far away, and never lands in another century."""
    ends = np.iinfo(np.int64)
    for off, at in ((-3 * HOUR, int(ends.max)), (3 * HOUR, int(ends.min))):
        answer = send(daemon, off=off, rows=[dict(GOOD) | {"ts": at}])
        assert answer.status_code == 422
    assert daemon.port.stored == {}


def test_the_threshold_is_included() -> None:
    assert clock_drift(NOW - CLOCK_DRIFT_NS, NOW) == CLOCK_DRIFT_NS
    assert clock_drift(NOW + CLOCK_DRIFT_NS, NOW) == -CLOCK_DRIFT_NS
    assert clock_drift(NOW - CLOCK_DRIFT_NS + 1, NOW) == 0
    assert clock_drift(None, NOW) == 0

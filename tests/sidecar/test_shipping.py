"""The shipper, one step at a time, on a clock turned by hand: batches, retries, and what each header reports."""

import logging
import random
from email.utils import parsedate_to_datetime
from typing import Any

import numpy as np
import pytest

from driftd_sidecar import Response
from driftd_sidecar._calls import CallRecipe, capture
from driftd_sidecar._lane import Lane
from driftd_sidecar._notices import Notices
from driftd_sidecar._plan import PlanRecipe, array_field
from driftd_sidecar._request import Target
from driftd_sidecar._ship import Limits, Shipper, _Flush
from driftd_sidecar._spool import Spool
from tests.sidecar.fakes import Clock, FakeTransport, Sent, ok

MEBIBYTE = 1 << 20


class Bench:
    """A shipper without a thread, its clock and its transport."""

    def __init__(
        self,
        *answers: Response | Exception,
        buffer_bytes: int = 16 * MEBIBYTE,
        batch_bytes: int = MEBIBYTE,
        spool: Spool | None = None,
    ):
        self.clock = Clock()
        self.transport = FakeTransport(*answers)
        self.notices = Notices()
        self.shipper = Shipper(
            buffer_bytes=buffer_bytes,
            transport=self.transport,
            target=Target(
                base="http://daemon/v1/models/m", model_version="v7", headers={"Authorization": "Bearer t"}
            ),
            limits=Limits(batch_rows=1000, batch_bytes=batch_bytes, flush_seconds=1.0, timeout_seconds=4.0),
            notices=self.notices,
            rng=random.Random(3),
            monotonic=self.clock.monotonic,
            wall_ns=self.clock.wall_ns,
            threaded=False,
            spool=spool,
        )
        self.buffer = self.shipper.buffer
        self.recipe = CallRecipe(notices=self.notices, tags={})
        self.lane = self.buffer.lane(self.recipe)

    @staticmethod
    def yes() -> Response:
        return ok()

    def log(self, rows: int = 1, *, value: float = 0.0, **options: Any) -> None:
        (call,) = capture(
            {"x": np.full((rows, 3), value, np.float32)}, {"y": np.arange(rows)}, time_ns=1, **options
        )
        self.buffer.offer(self.lane, (call,))

    def run(self, seconds: float) -> None:
        """Steps as the thread would, until the clock has moved on by `seconds`."""
        self.clock.pass_time(seconds, self.shipper.step)

    def check_books(self) -> None:
        stats = self.buffer.stats()
        assert stats.seen == stats.kept + stats.dropped
        assert stats.kept == stats.sent + stats.pending


def test_calls_travel_together_within_a_second() -> None:
    bench = Bench()
    for value in range(5):
        bench.log(2, value=value)
    bench.run(1.0)
    (sent,) = bench.transport.sent
    assert sent.inputs["x"][:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert sent.outputs["y"].tolist() == [0, 1] * 5
    assert sent.header["model_version"] == "v7"
    assert list(sent.header) == ["id", "model_version", "parameters", "inputs", "outputs"]
    assert sent.parameters == {
        "driftd": 1, "sent_at": sent.parameters["sent_at"], "seen": 10, "kept": 10, "dropped": 0, "sample_rate": 1.0,
    }  # fmt: skip
    assert sent.headers == {
        "Authorization": "Bearer t",
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": sent.headers["Inference-Header-Content-Length"],
        "Idempotency-Key": sent.header["id"],
        "Date": sent.headers["Date"],
    }
    assert sent.timeout == 4.0
    bench.check_books()


def test_a_thousand_rows_do_not_wait_for_the_second() -> None:
    bench = Bench()
    bench.log(999)
    bench.shipper.step()
    assert bench.transport.sent == []
    bench.log(1)
    bench.shipper.step()
    assert bench.transport.rows == 1000


def test_every_batch_has_its_own_id_and_rising() -> None:
    bench = Bench()
    for _ in range(5):
        bench.log(1000)
        bench.run(1.0)
    ids = [sent.header["id"] for sent in bench.transport.sent]
    assert ids == sorted(set(ids))
    assert len(ids) == 5


def test_a_call_larger_than_a_batch_is_split() -> None:
    bench = Bench(batch_bytes=4096)
    bench.log(1000)
    bench.run(1.0)
    assert bench.transport.rows == 1000
    assert len(bench.transport.sent) == 7  # 28 bytes a row: 146 rows each
    assert np.concatenate([sent.outputs["y"] for sent in bench.transport.sent]).tolist() == list(range(1000))
    bench.check_books()


@pytest.mark.parametrize(
    "failure",
    [OSError("no route"), TimeoutError(), *(Response(status=code) for code in (408, 429, 500, 503))],
    ids=str,
)
def test_a_transient_failure_sends_the_same_bytes_again(failure: Response | Exception) -> None:
    bench = Bench(failure, failure)
    bench.log(3)
    bench.run(5.0)
    first, second, third = bench.transport.sent
    assert first.body == second.body == third.body
    same = [{k: v for k, v in sent.headers.items() if k != "Date"} for sent in (first, third)]
    assert same[0] == same[1]
    stats = bench.buffer.stats()
    assert (stats.sent, stats.retries, stats.batches, stats.dropped) == (3, 2, 1, 0)


def test_every_attempt_says_what_the_clock_shows_now() -> None:
    bench = Bench(Response(status=503, headers={"Retry-After": "300"}), ok())
    bench.log()
    bench.run(2.0)
    bench.run(400.0)
    first, second = bench.transport.sent
    assert first.body == second.body
    dates = [parsedate_to_datetime(sent.headers["Date"]) for sent in (first, second)]
    assert (dates[1] - dates[0]).total_seconds() == pytest.approx(300, abs=1)
    assert dates[0].timestamp() == pytest.approx(bench.clock.wall_ns() / 1e9 - 401, abs=2)


def test_delays_grow_and_a_success_forgets_them() -> None:
    bench = Bench()
    times: list[float] = []

    def down(_: Sent) -> Response | Exception:
        times.append(bench.clock.seconds)
        return OSError("down")

    bench.transport.always = down
    bench.log()
    bench.run(200.0)
    gaps = np.diff(times)
    assert all(0.25 <= gap <= 31 for gap in gaps)
    assert gaps[0] < 1.1
    assert gaps[-1] > 14.9
    bench.transport.always = lambda _: ok()
    bench.run(31.0)
    bench.transport.always = down
    times.clear()
    bench.log()
    bench.run(3.0)
    assert times[1] - times[0] < 1.1


def test_retry_after_is_waited_for_even_by_a_flush() -> None:
    bench = Bench(Response(status=429, headers={"Retry-After": "20"}))
    bench.log()
    bench.run(1.0)
    assert len(bench.transport.sent) == 1
    bench.run(18.0)
    assert len(bench.transport.sent) == 1
    bench.run(3.0)
    assert len(bench.transport.sent) == 2


def test_what_the_daemon_refuses_is_given_up_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.transport.always = lambda sent: Response(status=422) if sent.inputs["x"][0, 0] < 3 else ok()
    with caplog.at_level(logging.WARNING, "driftd_sidecar"):
        for value in range(5):
            bench.log(10, value=value)
            bench.run(1.0)
    stats = bench.buffer.stats()
    assert (stats.sent, stats.gave_up, stats.retries) == (20, 30, 0)
    assert len([each for each in caplog.records if "given up" in each.getMessage()]) == 1
    bench.check_books()


def test_the_headers_add_up_to_what_was_seen() -> None:
    # 10 rows refused by the daemon, 7 not encodable, 5 not captured: all of it is in the next header.
    bench = Bench(Response(status=404))
    bench.log(10)
    bench.run(1.0)
    bench.log(7, request_id=["too", "few"])
    bench.buffer.count_error(5, admitted=False)
    bench.log(20)
    bench.run(1.0)
    bench.log(4)
    bench.run(1.0)
    delivered = bench.transport.sent[1:]
    told = [
        (sent.parameters["seen"], sent.parameters["kept"], sent.parameters["dropped"]) for sent in delivered
    ]
    assert told == [(42, 20, 22), (4, 4, 0)]
    stats = bench.buffer.stats()
    assert sum(seen for seen, _, _ in told) == stats.seen == 46
    bench.check_books()


def test_a_call_that_cannot_be_encoded_does_not_harm_its_neighbours() -> None:
    bench = Bench()
    bench.log(2, value=1)
    bench.log(3, tags={"region": ["one", "two"]})
    bench.log(2, value=2)
    bench.run(1.0)
    (sent,) = bench.transport.sent
    assert sent.inputs["x"][:, 0].tolist() == [1, 1, 2, 2]
    assert bench.buffer.stats().errors == 3
    bench.check_books()


def test_a_clock_that_returns_seconds_costs_rows_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    field = array_field("x", "tensor(float)", ["N", 1])
    assert field is not None
    lane = bench.buffer.lane(PlanRecipe(inputs=[field], outputs=[field], notices=bench.notices, tags={}))
    with caplog.at_level(logging.WARNING, "driftd_sidecar"):
        bench.buffer.offer(lane, (1767225600.5, bytes(4), bytes(4)))
        bench.buffer.offer(lane, (1767225600000000000, bytes(4), bytes(4)))
        bench.run(1.0)
    assert bench.transport.rows == 1
    assert bench.buffer.stats().errors == 1
    assert "integer nanoseconds" in caplog.text


def test_each_rate_and_each_signature_travels_in_batches_of_its_own() -> None:
    bench = Bench(buffer_bytes=MEBIBYTE)
    bench.transport.always = lambda _: OSError("down")
    lane: Lane = bench.lane
    for value in range(3000):
        bench.log(1, value=value)
    assert lane.rate == 1.0
    bench.transport.always = lambda _: ok()
    bench.run(40.0)
    rates = {sent.parameters["sample_rate"] for sent in bench.transport.sent}
    assert {1.0, 0.5, 0.25} <= rates
    stats = bench.buffer.stats()
    assert stats.seen == 3000
    assert stats.sent == bench.transport.rows == stats.kept
    assert sum(sent.parameters["kept"] for sent in bench.transport.sent) == stats.kept
    assert sum(sent.parameters["seen"] for sent in bench.transport.sent) == 3000
    bench.check_books()


def test_an_outage_keeps_the_buffer_bounded_and_lets_the_oldest_go_for_the_newest() -> None:
    bench = Bench(buffer_bytes=MEBIBYTE, batch_bytes=65_536)
    bench.transport.always = lambda _: OSError("down")
    for value in range(300):
        for _ in range(100):
            bench.log(10, value=value)
        bench.run(0.5)
        stats = bench.buffer.stats()
        assert stats.pending_bytes <= MEBIBYTE
    assert stats.gave_up > 0
    assert stats.sampled_out > 0
    bench.check_books()
    bench.transport.always = lambda _: ok()
    bench.transport.sent.clear()
    bench.run(40.0)
    values = np.concatenate([sent.inputs["x"][:, 0] for sent in bench.transport.sent[1:]])
    assert values.max() == 299
    assert values.min() > 0
    stats = bench.buffer.stats()
    assert stats.pending == 0
    assert stats.seen == 300_000
    bench.check_books()


def test_rows_the_daemon_calls_invalid_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(ok(accepted=7, rejected=3))
    bench.log(10)
    with caplog.at_level(logging.WARNING, "driftd_sidecar"):
        bench.run(1.0)
    stats = bench.buffer.stats()
    assert (stats.sent, stats.rejected) == (10, 3)
    assert "rejected 3 rows" in caplog.text


@pytest.mark.parametrize("rejected", [b'"x"', b"null", b"", b"[]"])
def test_an_acknowledgement_with_a_strange_count_is_one(rejected: bytes) -> None:
    bench = Bench(Response(status=200, body=b'{"accepted": 10, "rejected": ' + rejected + b"}"))
    bench.log(10)
    bench.run(1.0)
    stats = bench.buffer.stats()
    assert (stats.sent, stats.rejected, stats.retries) == (10, 0, 0)


def test_a_page_that_says_200_stores_nothing() -> None:
    bench = Bench(Response(status=200, body=b"<html>Log in</html>"))
    bench.log(10)
    bench.run(0.9)
    assert bench.buffer.stats().sent == 0
    bench.run(2.0)
    assert (bench.buffer.stats().sent, bench.buffer.stats().retries) == (10, 1)


def test_failed_inferences_are_told_once_with_the_next_batch() -> None:
    bench = Bench(Response(status=404))
    for _ in range(3):
        bench.buffer.count_failed_inference()
    for _ in range(3):
        bench.log(1)
        bench.run(1.0)
    told = [sent.parameters.get("failed_inferences") for sent in bench.transport.sent]
    assert told == [3, 3, None]  # the first was given up


def test_an_empty_buffer_sends_nothing_and_rests() -> None:
    bench = Bench()
    assert bench.shipper.step() == 1.0
    bench.run(60.0)
    assert bench.transport.sent == []


def test_a_broken_log_handler_does_not_stop_the_shipping(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("broken handler")

    monkeypatch.setattr("driftd_sidecar._notices.LOGGER.warning", broken)
    bench = Bench(OSError("down"))
    bench.log(2)
    bench.run(3.0)
    assert bench.transport.rows == 4
    assert bench.buffer.stats().sent == 2


def test_a_batch_that_cannot_be_written_does_not_stop_those_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    def refuse(*_: object) -> None:
        raise ValueError("not this one")

    bench.log(3)
    with monkeypatch.context() as patch:
        patch.setattr("driftd_sidecar._outbox.encode", refuse)
        bench.run(1.0)
    bench.log(2)
    bench.run(1.0)
    stats = bench.buffer.stats()
    assert (stats.sent, stats.gave_up) == (2, 3)
    assert bench.transport.sent[0].parameters["dropped"] == 3
    bench.check_books()


def test_a_flush_hurries_a_backoff_but_not_what_the_daemon_asked_for() -> None:
    bench = Bench(Response(status=429, headers={"Retry-After": "20"}), OSError("down"))
    bench.log()
    bench.run(1.0)
    waiter = _Flush()
    bench.shipper._flushes.append(waiter)
    bench.run(18.0)
    assert len(bench.transport.sent) == 1
    bench.run(2.1)
    assert len(bench.transport.sent) == 2  # and now it backs off
    hurried = _Flush()
    bench.shipper._flushes.append(hurried)
    bench.shipper.step()
    assert len(bench.transport.sent) == 3
    assert all(each.done.is_set() and not each.lost for each in (waiter, hurried))


def test_a_flush_is_told_of_its_own_losses_only() -> None:
    bench = Bench(buffer_bytes=1 << 18, batch_bytes=32_768)
    bench.transport.always = lambda _: OSError("down")
    bench.log()
    bench.run(1.0)
    early = _Flush()
    bench.shipper._flushes.append(early)
    bench.shipper.step()  # it waits for the first batch, which is in doubt and is never let go
    late = _Flush()
    for _ in range(40):
        for _ in range(50):
            bench.log(10)
        bench.run(0.5)
        if late not in bench.shipper._flushes:
            bench.shipper._flushes.append(late)
    assert bench.buffer.stats().gave_up > 0
    bench.transport.always = lambda _: ok()
    bench.run(60.0)
    assert (early.done.is_set(), early.lost) == (True, False)
    assert (late.done.is_set(), late.lost) == (True, True)

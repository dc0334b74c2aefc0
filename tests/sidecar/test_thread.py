"""The shipping thread and the life of the process around it: bugs, forks, the end."""

import atexit
import os
import random
import threading
import weakref

import numpy as np
import pytest

from driftd_sidecar._calls import CallRecipe, capture
from driftd_sidecar._notices import Notices
from driftd_sidecar._request import Target
from driftd_sidecar._ship import Limits, Shipper
from driftd_sidecar._transport import Response
from tests.sidecar.fakes import FakeTransport, Sent, ok

MEBIBYTE = 1 << 20


class Breaking(FakeTransport):
    """Cannot even be closed or forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = self.resets = 0

    def close(self) -> None:
        self.closed += 1
        raise RuntimeError("it does not close")

    def reset_after_fork(self) -> None:
        self.resets += 1


def threaded(transport: FakeTransport) -> Shipper:
    return Shipper(
        buffer_bytes=MEBIBYTE,
        transport=transport,
        target=Target(base="http://daemon/v1/models/m", model_version="v7", headers={}),
        limits=Limits(batch_rows=1000, batch_bytes=MEBIBYTE, flush_seconds=0.02, timeout_seconds=4.0),
        notices=Notices(),
        rng=random.Random(3),
    )


def put(shipper: Shipper, rows: int) -> None:
    lane = shipper.buffer.lane(CallRecipe(notices=Notices(), tags={}))
    for call in capture({"x": np.zeros((rows, 1))}, {}, time_ns=1):
        shipper.buffer.offer(lane, (call,))


def test_the_thread_outlives_a_bug_of_its_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    transport = Breaking()
    shipper = threaded(transport)
    real, failures = shipper.step, [ZeroDivisionError("a bug")]

    def step() -> float:
        if failures:
            raise failures.pop()
        return real()

    monkeypatch.setattr(shipper, "step", step)
    put(shipper, 3)
    assert shipper.close(10)
    assert (transport.rows, transport.closed) == (3, 1)
    assert "ZeroDivisionError('a bug')" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_child_forgets_what_is_the_parents() -> None:
    def end(_: Sent) -> Response:
        raise SystemExit  # of this thread alone

    transport = Breaking()
    transport.always = end
    shipper = threaded(transport)
    put(shipper, 3)
    parents = shipper._thread
    assert parents is not None
    parents.join(10)  # a child has no thread but the one that forked
    shipper.reset_after_fork()  # as os.register_at_fork has it called
    assert transport.resets == 1
    assert shipper.buffer.stats().seen == 0
    transport.always = lambda _: ok()
    put(shipper, 2)
    assert shipper._thread is not parents
    assert shipper.close(10)
    assert shipper.buffer.stats().sent == 2


def test_a_shipper_that_never_had_rows_closes_at_once() -> None:
    assert threaded(FakeTransport()).close(10)


def test_the_end_and_a_fork_reach_everyone_enrolled(monkeypatch: pytest.MonkeyPatch) -> None:
    from driftd_sidecar import _process

    heard: list[tuple[str, float]] = []

    class Survivor:
        def reset_after_fork(self) -> None:
            heard.append(("fork", 0.0))

        def close(self, timeout: float) -> bool:
            heard.append(("end", timeout))
            return True

    monkeypatch.setattr(_process, "_living", weakref.WeakSet())
    monkeypatch.setattr(_process, "_hooked", threading.Event())
    monkeypatch.setattr(atexit, "register", lambda hook: heard.append((hook.__name__, 0.0)))
    monkeypatch.setattr(os, "register_at_fork", lambda **hooks: heard.append((*hooks, 0.0)))
    survivors = [Survivor(), Survivor()]
    for survivor in survivors:
        _process.enrol(survivor)
    _process._in_child()
    _process._at_exit()
    assert [what for what, _ in heard] == ["_at_exit", "after_in_child", "fork", "fork", "end", "end"]
    assert all(0 < seconds <= 2 for what, seconds in heard if what == "end")
    monkeypatch.delattr(os, "register_at_fork")  # as on Windows
    monkeypatch.setattr(_process, "_hooked", threading.Event())
    _process.enrol(survivors[0])
    assert heard[-1] == ("_at_exit", 0.0)


def test_a_notice_survives_a_fork() -> None:
    notices = Notices()
    notices.reset_after_fork()
    notices.once("key", "said")

"""The spool: bounded, checked, taken over from the dead, and never in the way."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftd_sidecar import PredictionLogger, Response
from driftd_sidecar._notices import Notices
from driftd_sidecar._ship import _Flush
from driftd_sidecar._spool import Frame, Spool
from driftd_sidecar._wire import encode
from tests.sidecar.fakes import FakeTransport, close
from tests.sidecar.test_shipping import Bench

LIMIT = 1 << 20


def frame(number: int = 1, *, body: bytes = b"body") -> Frame:
    return Frame(id=f"id-{number}", rows=3, header_bytes=2, body=body)


def make(folder: Path, limit: int = LIMIT) -> Spool:
    return Spool(folder, limit, Notices())


def write(spool: Spool, found: Frame) -> Path:
    path = spool.write(found)
    assert path is not None
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != "lock")


def test_nothing_is_touched_before_the_first_batch(tmp_path: Path) -> None:
    folder = tmp_path / "not yet"
    spool = make(folder)
    assert spool.adopt() == []
    spool.close()
    assert not folder.exists()


def test_what_was_written_reads_back_until_it_is_removed(tmp_path: Path) -> None:
    spool = make(tmp_path)
    path = write(spool, frame())
    assert spool.read(path) == frame()
    assert path.parent.stat().st_mode & 0o077 == 0
    spool.remove(path)
    spool.remove(path)  # gone already: no complaint
    assert files(tmp_path) == []
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_the_bound_is_kept_and_room_comes_back(tmp_path: Path) -> None:
    spool = make(tmp_path, limit=2500)
    path = write(spool, frame(1, body=bytes(1000)))
    write(spool, frame(2, body=bytes(1000)))
    assert spool.write(frame(3, body=bytes(1000))) is None
    assert sum(file.stat().st_size for file in tmp_path.rglob("*.batch")) <= 2500
    spool.remove(path)
    write(spool, frame(3, body=bytes(1000)))


@pytest.mark.parametrize("place", [0, 9, 20, 25, 60, -1], ids=str)
def test_a_changed_byte_sets_the_file_aside(
    tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(tmp_path)
    path = write(spool, frame())
    raw = bytearray(path.read_bytes())
    raw[place] ^= 0x55
    path.write_bytes(raw)
    assert spool.read(path) is None
    assert files(tmp_path) == ["id-1.corrupt"]
    assert "is set aside" in caplog.text


@pytest.mark.parametrize("length", [0, 10, 23, 30])
def test_a_file_cut_short_is_set_aside(tmp_path: Path, length: int) -> None:
    spool = make(tmp_path)
    path = write(spool, frame())
    path.write_bytes(path.read_bytes()[:length])
    assert spool.read(path) is None
    path.unlink(missing_ok=True)
    assert spool.read(path) is None  # gone: nothing to set aside, nothing raised


def test_the_living_keep_their_files_and_the_dead_leave_theirs(tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path)
    write(first, frame(2))
    write(first, frame(1))
    write(second, frame(3))
    assert second.adopt() == []
    first.close()  # as its death does, this lets go of the lock
    assert [(each.path.name, each.rows) for each in second.adopt()] == [("id-1.batch", 3), ("id-2.batch", 3)]
    assert len(list(tmp_path.iterdir())) == 1
    assert second.adopt() == []


def test_what_is_adopted_counts_against_the_bound(tmp_path: Path) -> None:
    first = make(tmp_path)
    write(first, frame(1, body=bytes(1500)))
    first.close()
    second = make(tmp_path, limit=2000)
    ((path, _, _),) = second.adopt()
    assert second.write(frame(2, body=bytes(1000))) is None
    second.remove(path)
    write(second, frame(2, body=bytes(1000)))


def test_adoption_passes_by_what_is_no_batch(tmp_path: Path) -> None:
    first = make(tmp_path)
    home = write(first, frame(1)).parent
    (home / "id-2.batch").write_bytes(b"not a batch")
    (home / "id-3.part").write_bytes(b"half")
    first.close()
    (tmp_path / ".just-made").mkdir()
    (tmp_path / "a file").write_text("")
    second = make(tmp_path)
    assert [each.path.name for each in second.adopt()] == ["id-1.batch"]
    assert files(tmp_path) == ["a file", "id-1.batch", "id-2.corrupt"]


def test_a_folder_that_cannot_be_read_is_said_and_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(tmp_path)

    def refuse(_: Path) -> Any:
        raise PermissionError(errno.EACCES, "not for you")

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert spool.adopt() == []
    assert "cannot adopt from the spool" in caplog.text


@pytest.mark.parametrize("call", ["fsync", "open"])
def test_a_full_disk_refuses_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    spool = make(tmp_path)
    write(spool, frame(1))

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "open": (Path, "open")}[call], full)
    assert spool.write(frame(2)) is None
    assert files(tmp_path) == ["id-1.batch"]
    assert "no space left" in caplog.text


def test_a_file_that_cannot_be_removed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(tmp_path)
    path = write(spool, frame(1))

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "not for you")

    monkeypatch.setattr(Path, "unlink", refuse)
    spool.remove(path)
    assert "cannot remove from the spool" in caplog.text


def test_without_file_locks_there_is_no_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftd_sidecar._spool.fcntl", None)
    with pytest.raises(ValueError, match="POSIX"):
        PredictionLogger(model="m", version="1", endpoint="http://127.0.0.1:1", spool_dir=tmp_path)


# With the shipper.


class SpoolBench(Bench):
    """A shipper without a thread, with a spool."""

    def __init__(self, folder: Path, *answers: Any, limit: int = 1 << 24, **options: Any) -> None:
        self.spool = Spool(folder, limit, Notices())
        super().__init__(*answers, spool=self.spool, **options)


def down(_: Any) -> Exception:
    return OSError("down")


def test_an_outage_goes_to_disk_and_is_sent_in_order_afterwards(tmp_path: Path) -> None:
    bench = SpoolBench(tmp_path, buffer_bytes=1 << 20, batch_bytes=65_536)
    bench.transport.always = down
    for value in range(300):
        for _ in range(100):
            bench.log(10, value=value)
        bench.run(0.5)
        assert bench.buffer.stats().pending_bytes <= 1 << 20
    stats = bench.buffer.stats()
    assert (stats.dropped, stats.gave_up) == (0, 0)
    assert stats.spooled > 290_000
    assert stats.pending == stats.seen == 300_000
    assert files(tmp_path)
    bench.check_books()
    tried = bench.transport.sent[0].body
    bench.transport.sent.clear()
    bench.transport.always = lambda _: Bench.yes()
    bench.run(60.0)
    assert bench.transport.sent[0].body == tried
    values = np.concatenate([sent.inputs["x"][:, 0] for sent in bench.transport.sent])
    assert len(values) == 300_000
    assert (np.diff(values) >= 0).all()
    stats = bench.buffer.stats()
    assert (stats.sent, stats.spooled, stats.pending_bytes) == (300_000, 0, 0)
    assert files(tmp_path) == []


def test_a_full_spool_lets_the_oldest_go_and_the_headers_tell(tmp_path: Path) -> None:
    bench = SpoolBench(tmp_path, limit=300_000, buffer_bytes=1 << 18, batch_bytes=32_768)
    bench.transport.always = down
    for value in range(200):
        for _ in range(20):
            bench.log(10, value=value)
        bench.run(0.2)
        assert sum(path.stat().st_size for path in tmp_path.rglob("*.batch")) <= 300_000
        assert bench.buffer.stats().pending_bytes <= 1 << 18
    stats = bench.buffer.stats()
    assert stats.gave_up > 0
    bench.check_books()
    bench.transport.sent.clear()
    bench.transport.always = lambda _: Bench.yes()
    bench.run(60.0)
    bench.log(1)
    bench.run(2.0)
    stats = bench.buffer.stats()
    assert stats.pending == 0
    assert sum(sent.parameters["kept"] for sent in bench.transport.sent) == stats.sent
    assert sum(sent.parameters["seen"] for sent in bench.transport.sent) == stats.seen
    assert sum(sent.parameters["dropped"] for sent in bench.transport.sent) == stats.dropped


def test_a_corrupt_file_costs_its_own_rows_only(tmp_path: Path) -> None:
    bench = SpoolBench(tmp_path, batch_bytes=4096)
    bench.transport.always = down
    bench.log(1000)
    bench.run(2.0)
    paths = sorted(tmp_path.rglob("*.batch"))
    paths[1].write_bytes(b"rot")
    bench.transport.sent.clear()
    bench.transport.always = lambda _: Bench.yes()
    bench.run(60.0)
    stats = bench.buffer.stats()
    assert stats.gave_up == 1000 - bench.transport.rows > 0
    assert (stats.pending, stats.spooled) == (0, 0)
    assert files(tmp_path) == [paths[1].with_suffix(".corrupt").name]
    bench.check_books()


def test_a_full_disk_leaves_rows_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = SpoolBench(tmp_path)
    bench.transport.always = down

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        bench.log(10)
        bench.run(5.0)
    stats = bench.buffer.stats()
    assert (stats.pending, stats.spooled, stats.dropped) == (10, 0, 0)
    bench.transport.always = lambda _: Bench.yes()
    bench.run(31.0)
    assert bench.buffer.stats().sent == 10


def test_what_a_dead_process_left_is_sent_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, sys, numpy\n"
        "from driftd_sidecar import PredictionLogger\n"
        "logger = PredictionLogger(model='a/b', version='1', endpoint='http://127.0.0.1:9', spool_dir=sys.argv[1],\n"
        "                          flush_seconds=0.02)\n"
        "logger.log({'x': numpy.ones(7)}, {})\n"
        "while not logger.stats().spooled:\n"
        "    logger.flush(0.05)\n"
        "os._exit(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60, check=False)
    assert done.returncode == 3
    assert [path.name for path in tmp_path.iterdir()] == ["a%2Fb"]
    transport = FakeTransport()
    with PredictionLogger(
        model="a/b", version="1", endpoint="http://127.0.0.1:1", transport=transport, spool_dir=tmp_path
    ) as logger:
        logger.log({"x": np.zeros(2)}, {})
        assert logger.flush(10)
        stats = logger.stats()
    assert [sent.rows for sent in transport.sent] == [7, 2]
    assert (stats.seen, stats.sent, stats.recovered, stats.pending_bytes) == (2, 2, 7, 0)
    assert list((tmp_path / "a%2Fb").iterdir()) == []


def test_a_flush_does_not_answer_for_the_rows_of_the_dead(tmp_path: Path) -> None:
    dead = SpoolBench(tmp_path)
    dead.transport.always = down
    dead.log(4)
    dead.run(2.0)
    dead.spool.close()
    bench = SpoolBench(tmp_path, Response(status=422))
    bench.log(1)
    waiter = _Flush()
    bench.shipper._flushes.append(waiter)
    bench.run(2.0)
    assert bench.transport.rows == 5
    stats = bench.buffer.stats()
    assert (stats.sent, stats.gave_up, stats.recovered, stats.pending_bytes) == (1, 0, 0, 0)
    assert (waiter.done.is_set(), waiter.lost) == (True, False)
    assert files(tmp_path) == []


def test_what_was_inherited_is_passed_on(tmp_path: Path) -> None:
    for _ in range(3):
        bench = SpoolBench(tmp_path)
        bench.transport.always = down
        bench.log(1)
        bench.run(2.0)
        bench.shipper._abandon()
        assert bench.buffer.stats().spooled == 1
    assert len(files(tmp_path)) == 3
    last = SpoolBench(tmp_path)
    last.run(5.0)
    assert last.transport.rows == 3
    assert (last.buffer.stats().recovered, files(tmp_path)) == (3, [])


def test_closing_leaves_the_rest_to_the_next_process(tmp_path: Path) -> None:
    transport = FakeTransport()
    transport.always = down
    options: dict[str, Any] = {"model": "m", "version": "1", "endpoint": "http://127.0.0.1:1"}
    logger = PredictionLogger(transport=transport, spool_dir=tmp_path, **options)
    logger.log({"x": np.ones(7)}, {})
    assert not logger.flush(0.05)
    close(logger, 0.05)
    stats = logger.stats()
    assert (stats.dropped, stats.pending, stats.spooled) == (0, 7, 7)
    transport = FakeTransport()
    with PredictionLogger(transport=transport, spool_dir=tmp_path, **options) as logger:
        logger.log({"x": np.ones(1)}, {})
        assert logger.flush(10)
    assert transport.rows == 8
    assert logger.stats().recovered == 7


def test_a_batch_that_cannot_be_encoded_does_not_stop_the_spilling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = SpoolBench(tmp_path)
    bench.transport.always = down
    bench.log(1)
    bench.run(1.0)  # the first attempt fails
    real, calls = encode, iter(range(10))

    def once(*arguments: Any) -> Any:
        if next(calls) == 0:
            raise ValueError("not this one")
        return real(*arguments)

    monkeypatch.setattr("driftd_sidecar._outbox.encode", once)
    bench.log(2)
    bench.log(3, request_id="another signature")
    bench.run(2.0)
    stats = bench.buffer.stats()
    assert (stats.gave_up, stats.spooled) == (2, 4)
    bench.check_books()


def test_a_forked_shipper_leaves_the_spool_to_its_parent(tmp_path: Path) -> None:
    bench = SpoolBench(tmp_path)
    bench.transport.always = down
    bench.log(4)
    bench.run(2.0)
    assert bench.buffer.stats().spooled == 4
    bench.shipper.reset_after_fork()
    assert bench.buffer.stats().spooled == 0
    assert len(files(tmp_path)) == 1


def test_a_folder_that_vanished_is_no_reason_to_fail_at_the_end(tmp_path: Path) -> None:
    spool = make(tmp_path)
    shutil.rmtree(write(spool, frame()).parent)
    spool.close()


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12 and newer
def test_a_forked_child_has_a_folder_of_its_own(tmp_path: Path) -> None:
    spool = make(tmp_path)
    write(spool, frame(1))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            spool.reset_after_fork()
            adopted = spool.adopt()
            status = 0 if not adopted and spool.write(frame(2)) is not None else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [each.path.name for each in spool.adopt()] == ["id-2.batch"]

"""Cells: read as they are served, refused when they are not, asked for when it is time, and kept on disk."""

import gzip
import json
import random
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.coarse import coarsen
from detectors.profile import CategoricalColumn, ConfidenceRule, NumericColumn
from driftd_sidecar import Response
from driftd_sidecar._cells import CategoryCells, Cells, CellsError, NumericCells, parse
from driftd_sidecar._cellstore import CellStore
from driftd_sidecar._fetch import CellsSource
from driftd_sidecar._notices import Notices
from monitor.ingest.cell_document import encode_cells
from tests.sidecar import counting
from tests.sidecar.fakes import Clock, FakeTransport

BASELINE = counting.baseline(ConfidenceRule(kind="softmax", tensor="p"), rows=6000)
DOCUMENT = encode_cells(BASELINE, ("region",))


def test_a_document_says_all_there_is_to_count_on() -> None:
    cells = parse(DOCUMENT)
    assert (cells.fingerprint, cells.pane_seconds) == (BASELINE.fingerprint, 60)
    assert (cells.confidence, cells.segment_keys) == (("softmax", "p"), ("region",))
    assert cells.feeds == {"x": ("x0", "", "x1", "x2", "x3")}
    assert cells.length == BASELINE.layout.length
    coarse = coarsen(BASELINE)
    for mine, its, part, thin in zip(
        cells.columns, BASELINE.columns, BASELINE.layout.slices, coarse.columns, strict=True
    ):
        assert (mine.name, mine.role, mine.start, mine.slots) == (
            its.name, its.role.value, part.start, part.stop - part.start,
        )  # fmt: skip
        if isinstance(its, CategoricalColumn):
            assert isinstance(mine, CategoryCells)
            assert list(mine.offsets)[: mine.known] == list(its.categories)
            assert set(mine.offsets) == {*its.categories, *its.others}
        else:
            assert isinstance(mine, NumericCells)
            assert isinstance(thin, NumericColumn)
            np.testing.assert_array_equal(mine.cuts, its.cuts)
            np.testing.assert_array_equal(
                mine.cuts if mine.coarse is None else mine.cuts[mine.coarse], thin.cuts
            )


def test_a_document_is_smaller_than_the_baseline_it_was_made_of() -> None:
    from detectors.codec import encode_baseline

    assert len(DOCUMENT) < len(encode_baseline(BASELINE)) * 0.8


def test_a_baseline_that_forgot_names_counts_no_value_as_unseen() -> None:
    cells = parse(altered(lambda head: head["columns"][16].update(others_truncated=True)))
    city = cells.columns[16]
    assert isinstance(city, CategoryCells)
    assert city.unknown == city.known


def altered(change: Callable[[dict[str, Any]], object], *, document: bytes = DOCUMENT) -> bytes:
    (length,) = struct.unpack_from("<I", document)
    head = json.loads(document[4 : 4 + length])
    change(head)
    raw = json.dumps(head).encode()
    return struct.pack("<I", len(raw)) + raw + document[4 + length :]


def column(number: int, **changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda head: head["columns"][number].update(changes)


BROKEN: Mapping[str, bytes] = {
    "nothing": b"",
    "no JSON": b"\x03\x00\x00\x00{{{",
    "no object": b"\x02\x00\x00\x00[]",
    "cut short": DOCUMENT[:-8],
    "too long": DOCUMENT + b"\0",
    "another format": altered(lambda head: head.update(driftd=2)),
    "no columns": altered(lambda head: head.update(columns=[]))[:60],
    "no column": struct.pack("<I", 200) + json.dumps({"driftd": 1, "columns": []}).encode().ljust(200),
    "no pane": altered(lambda head: head.update(pane_seconds=0)),
    "an endless pane": altered(lambda head: head.update(pane_seconds=10**12)),
    "no fingerprint": altered(lambda head: head.pop("fingerprint")),
    "an unknown role": altered(column(0, role="target")),
    "an unknown type": altered(column(0, type="image")),
    "an unknown dtype": altered(column(0, dtype="float80x")),
    "an unknown width": altered(column(0, width=2)),
    "no cuts": altered(column(0, cuts=0)),
    "cuts that do not rise": DOCUMENT[:-4] + DOCUMENT[-8:-4],
    "a cut that is none": DOCUMENT[:-4] + np.float32(np.nan).tobytes(),
    "coarse cuts that are none": altered(column(1, coarse=[0, 10**6])),
    "coarse cuts that fall": altered(column(1, coarse=[5, 3])),
    "an unknown rule": altered(lambda head: head.update(confidence={"kind": "entropy", "tensor": "p"})),
}


@pytest.mark.parametrize("document", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_document_of_cells_is_refused(document: bytes) -> None:
    with pytest.raises(CellsError):
        parse(document)


def test_no_confidence_rule_is_none() -> None:
    assert parse(encode_cells(counting.baseline(), ())).confidence is None


class Asking:
    """A source of cells on a clock turned by hand, whose requests are kept."""

    def __init__(self, *answers: Response | Exception, store: CellStore | None = None) -> None:
        self.clock = Clock()
        self.answers = list(answers)
        self.asked: list[tuple[float, Mapping[str, str]]] = []
        self.source = CellsSource(
            transport=self,
            url="http://daemon/cells",
            headers={"Authorization": "Bearer t"},
            timeout=4.0,
            notices=Notices(),
            rng=random.Random(3),
            wall_ns=self.clock.wall_ns,
            store=store,
        )

    send = FakeTransport.send

    def fetch(self, url: str, headers: Mapping[str, str], timeout: float, most_bytes: int) -> Response:
        assert (url, timeout, most_bytes) == ("http://daemon/cells", 4.0, 64 << 20)
        self.asked.append((self.clock.seconds, headers))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cells(self, *, urgent: bool = False) -> Cells | None:
        return self.source.cells(self.clock.monotonic(), urgent=urgent)

    def step(self, seconds: float) -> Cells | None:
        self.clock.forward(seconds)
        return self.cells()


def served(tag: str = '"t1"', *, packed: bool = True) -> Response:
    body = gzip.compress(DOCUMENT) if packed else DOCUMENT
    return Response(
        status=200, headers={"ETag": tag, "Content-Encoding": "gzip" if packed else ""}, body=body
    )


@pytest.mark.parametrize("packed", [True, False])
def test_cells_are_asked_for_once_an_hour_and_not_sent_again(packed: bool) -> None:
    asking = Asking(served(packed=packed), Response(status=304), OSError(), Response(status=304))
    first = asking.cells()
    assert first is not None
    assert asking.step(3599.0) is first
    assert len(asking.asked) == 1
    assert asking.step(1.0) is first
    assert asking.asked[1][1]["If-None-Match"] == '"t1"'
    assert asking.step(3600.0) is first  # no answer takes nothing away
    assert asking.step(1.0) is first
    assert asking.source._failures == 0


def test_answers_that_are_none_are_asked_again_ever_more_slowly() -> None:
    bad: list[Response | Exception] = [
        OSError(), Response(status=500), Response(status=404), Response(status=401), Response(status=304),
        Response(status=200, body=b"<html>"),
        Response(status=200, headers={"content-encoding": "gzip"}, body=b"no gzip"),
        Response(status=200, headers={"content-encoding": "gzip"}, body=gzip.compress(DOCUMENT)[:-9]),
    ]  # fmt: skip
    asking = Asking(*bad, served())
    while asking.step(0.25) is None:
        pass
    times = [at for at, _ in asking.asked]
    assert len(times) == len(bad) + 1
    waits = np.diff(times)
    assert 0.25 <= waits[0] <= 0.75
    assert 15.0 <= waits[-1] <= 30.25


def test_a_daemon_that_says_when_is_asked_then() -> None:
    asking = Asking(Response(status=503, headers={"Retry-After": "120"}), served())
    assert asking.cells() is None
    assert asking.step(119.0) is None
    assert asking.step(1.0) is not None


def test_whoever_waits_for_cells_may_ask_sooner_though_not_all_the_time() -> None:
    asking = Asking(*[OSError()] * 5, served())
    for _ in range(5):
        assert asking.cells(urgent=True) is None
        assert asking.cells(urgent=True) is None
        asking.clock.forward(1.0)
    assert len(asking.asked) == 5
    assert asking.cells(urgent=True) is not None
    asking.clock.forward(10.0)
    assert asking.cells(urgent=True) is not None
    assert len(asking.asked) == 6


def test_cells_that_are_forgotten_are_asked_for_at_once_and_without_their_tag() -> None:
    asking = Asking(served(), served('"t2"'))
    asking.cells()
    asking.source.forget()
    assert asking.cells() is not None
    assert "If-None-Match" not in asking.asked[1][1]


def test_a_baseline_that_is_gone_takes_its_cells_along() -> None:
    asking = Asking(served(), Response(status=404), served())
    assert asking.cells() is not None
    assert asking.step(3600.0) is None
    assert asking.step(31.0) is not None


def test_cells_outlive_the_process_and_are_checked_when_there_is_a_daemon(tmp_path: Path) -> None:
    store = CellStore(tmp_path / "spool", "v7")
    assert Asking(served(), store=store).cells() is not None
    later = Asking(OSError(), served('"t2"'), store=store)
    assert later.cells() is not None
    assert len(later.asked) == 1
    assert "If-None-Match" not in later.asked[0][1]
    later.source.forget()
    assert CellStore(tmp_path / "spool", "v7").read() is None
    assert later.step(31.0) is not None
    assert CellStore(tmp_path / "spool", "v7").read() == DOCUMENT


def test_a_file_of_another_sidecar_is_as_good_as_none(tmp_path: Path) -> None:
    store = CellStore(tmp_path, "v7")
    store.write(altered(lambda head: head.update(driftd=2)))
    assert Asking(OSError(), store=store).cells() is None


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-1], lambda raw: b"x" + raw[1:], lambda raw: raw[:5], lambda _: b""]
)
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    store = CellStore(tmp_path, "v7")
    store.write(DOCUMENT)
    assert store.read() == DOCUMENT
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert store.read() is None


def test_every_version_has_a_file_of_its_own_and_a_disk_that_refuses_is_borne(tmp_path: Path) -> None:
    one, other = CellStore(tmp_path, "a/b"), CellStore(tmp_path, "a/c" + "ü" * 300)
    one.write(b"1")
    other.write(b"2")
    assert (one.read(), other.read()) == (b"1", b"2")
    blocked = CellStore(tmp_path / "file", "v")
    (tmp_path / "file").write_bytes(b"")
    blocked.write(b"3")
    blocked.clear()
    assert blocked.read() is None

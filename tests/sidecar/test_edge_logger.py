"""Edge mode as an application uses it: a logger or a session with its thread, over a transport or real sockets."""

import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from detectors.coarse import coarsen
from detectors.profile import ColumnData, ConfidenceRule, TensorMap, build_baseline, profile_rows
from detectors.types import ColumnRole, ColumnType
from driftd_sidecar import MonitoredSession, PredictionLogger, Response
from driftd_sidecar._transport import HttpTransport
from tests.sidecar import counting, onnx_bytes
from tests.sidecar.edge_fakes import EdgeDaemon, numbers
from tests.sidecar.fakes import close
from tests.sidecar.test_count import by_daemon, table_of
from tests.sidecar.test_edge import BASELINE, OTHER

OPTIONS: dict[str, Any] = {"endpoint": "http://127.0.0.1:1/base/", "mode": "edge", "flush_seconds": 0.02}


def test_flush_ships_open_panes_too() -> None:
    daemon = EdgeDaemon(BASELINE)
    with PredictionLogger(model="a/b", version="sha256:1/2", transport=daemon, **OPTIONS) as logger:
        for seed in range(3):
            logger.log(numbers(4, seed), {})
            assert logger.flush(10)
        assert logger.stats().sent == daemon.rows == 12
    assert daemon.urls == ["http://127.0.0.1:1/base/v1/models/a%2Fb/versions/sha256%3A1%2F2/cells"]
    assert daemon.posted[0].url == "http://127.0.0.1:1/base/v1/models/a%2Fb/predictions"


def test_flush_waits_for_cells_and_says_when_they_did_not_come() -> None:
    daemon = EdgeDaemon(None)
    with PredictionLogger(model="m", version="1", transport=daemon, **OPTIONS) as logger:
        logger.log(numbers(4), {})
        assert not logger.flush(0.2)
        daemon.baseline = BASELINE
        assert logger.flush(30)
        assert logger.stats().sent == 4


@pytest.mark.parametrize("wrong", [{"y": np.ones(3)}, {"x": np.ones((3, 2), np.float32)}])
def test_flush_tells_of_rows_that_will_never_be_sent(wrong: Mapping[str, Any]) -> None:
    with PredictionLogger(model="m", version="1", transport=EdgeDaemon(BASELINE), **OPTIONS) as logger:
        logger.log(wrong, {})
        assert not logger.flush(10)
        logger.log(numbers(2), {})
        assert logger.flush(10)
        assert (logger.stats().sent, logger.stats().gave_up) == (2, 3)


def test_closing_says_goodbye_to_what_could_not_be_counted() -> None:
    logger = PredictionLogger(model="m", version="1", transport=EdgeDaemon(None), **OPTIONS)
    logger.log(numbers(4), {})
    close(logger, 0.1)
    stats = logger.stats()
    assert (stats.seen, stats.dropped, stats.pending) == (4, 4, 0)


def test_a_baseline_that_changes_between_two_flushes(tmp_path: Path) -> None:
    daemon = EdgeDaemon(BASELINE)
    with PredictionLogger(model="m", version="1", transport=daemon, spool_dir=tmp_path, **OPTIONS) as logger:
        logger.log(numbers(4), {})
        assert logger.flush(10)
        daemon.baseline = OTHER
        logger.log(numbers(5), {})
        assert not logger.flush(10)
        logger.log(numbers(6), {})
        assert logger.flush(10)
        assert (logger.stats().sent, logger.stats().gave_up) == (10, 5)


def test_a_session_counts_what_it_saw_and_said() -> None:
    rng = np.random.default_rng(1)
    model = onnx_bytes.classifier()
    session = onnxruntime.InferenceSession(model)
    x = rng.normal(size=(2000, 30)).astype(np.float32)
    names = [output.name for output in session.get_outputs()]
    label, share = session.run(names, {"features": x})
    columns = [
        ColumnData(
            name=f"f{position}",
            role=ColumnRole.FEATURE,
            type=ColumnType.NUMERIC,
            dtype="float32",
            values=x[:, position],
        )
        for position in range(30)
    ]
    columns += [
        ColumnData(
            name=names[0],
            role=ColumnRole.PREDICTION,
            type=ColumnType.CATEGORICAL,
            dtype="int64",
            values=label,
        ),
        ColumnData(
            name="sure",
            role=ColumnRole.CONFIDENCE,
            type=ColumnType.NUMERIC,
            dtype="float32",
            values=share.max(axis=1),
        ),
    ]
    tensor = TensorMap(
        name="features",
        datatype="FP32",
        kind="input",
        columns=tuple(f"f{position}" for position in range(30)),
    )
    rule = ConfidenceRule(kind="probabilities", tensor=names[1])
    baseline = build_baseline(columns, 60, [tensor], rule, "test")
    daemon = EdgeDaemon(baseline)
    when = 1_767_225_600_000_000_000
    with MonitoredSession(
        session, model="m", version="1", transport=daemon, clock=lambda: when, **OPTIONS
    ) as watched:
        for first in range(0, 700, 7):
            watched.run(None, {"features": x[first : first + 7]})
        assert watched.flush(30)
    values = {f"f{position}": x[:700, position] for position in range(30)}
    expected = profile_rows(baseline, values | {names[0]: label[:700], "sure": share[:700].max(axis=1)})
    found = sum(posted.profile(baseline).counts for posted in daemon.taken)
    np.testing.assert_array_equal(found, expected.counts)


def test_segments_leave_on_their_coarse_cuts() -> None:
    baseline, rng = counting.baseline(), np.random.default_rng(4)
    given, said = counting.inputs(rng, 200), counting.outputs(rng, 200, None)
    regions = ["eu", "us"] * 100
    daemon = EdgeDaemon(baseline, ("region",))
    with PredictionLogger(model="m", version="1", transport=daemon, **OPTIONS) as logger:
        logger.log(given, said, time_ns=1_767_225_600_000_000_000, tags={"region": regions})
        assert logger.flush(30)
    (posted,) = daemon.taken
    values, _ = by_daemon(table_of(given, said), baseline)
    for number, (onto, rows) in enumerate(
        [
            (baseline, slice(None)),
            (coarsen(baseline), slice(0, None, 2)),
            (coarsen(baseline), slice(1, None, 2)),
        ]
    ):
        expected = profile_rows(onto, {name: array[rows] for name, array in values.items()})
        found = posted.profile(onto, number)
        np.testing.assert_array_equal(found.counts, expected.counts)
        np.testing.assert_allclose(found.moments, expected.moments, rtol=1e-9, atol=1e-12)


@pytest.fixture
def server() -> Iterator[tuple[str, list[Mapping[str, str]]]]:
    asked: list[Mapping[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append({"path": self.path, **self.headers})
            body = b"x" * 100_000
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"t"')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{found.server_port}", asked
    found.shutdown()
    found.server_close()
    thread.join()


def test_the_transport_gets_as_much_as_it_was_told(server: tuple[str, list[Mapping[str, str]]]) -> None:
    url, asked = server
    transport = HttpTransport()
    whole: Response = transport.fetch(f"{url}/a?b=c", {"Accept": "x"}, 5.0, 1 << 20)
    part: Response = transport.fetch(f"{url}/d", {}, 5.0, 70_000)
    transport.close()
    assert (whole.status, len(whole.body), whole.headers["ETag"], len(part.body)) == (
        200,
        100_000,
        '"t"',
        70_000,
    )
    assert [each["path"] for each in asked] == ["/a?b=c", "/d"]
    assert asked[0]["Accept"] == "x"

"""PredictionLogger: what it refuses, what it ships, and what flush and close promise."""

import threading
from typing import Any

import numpy as np
import pytest

from driftd_sidecar import PredictionLogger, Response
from tests.sidecar.fakes import FakeTransport, close


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
def options(transport: FakeTransport) -> dict[str, Any]:
    return {"model": "m", "endpoint": "http://127.0.0.1:1", "transport": transport, "flush_seconds": 0.05}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"endpoint": "daemon:8600"}, "endpoint"),
        ({"endpoint": "ftp://daemon"}, "endpoint"),
        ({"model": ""}, "model"),
        ({"version": ""}, "version"),
        ({"token": "a\nb"}, "token"),
        ({"token": ""}, "token"),
        ({"buffer_bytes": 10}, "buffer_bytes must be at least 65536"),
        ({"batch_rows": 0}, "batch_rows"),
        ({"flush_seconds": float("nan")}, "flush_seconds"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"mode": "counts"}, "mode must be 'rows' or 'edge'"),
        ({"mode": "edge", "transport": FakeTransport()}, "mode 'edge' needs a transport with a method fetch"),
    ],
)
def test_misuse_is_named_at_construction(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PredictionLogger(**{"model": "m", "version": "1", "endpoint": "http://127.0.0.1:1", **wrong})


def test_the_model_name_is_quoted_in_the_url(options: dict[str, Any], transport: FakeTransport) -> None:
    with PredictionLogger(
        **{**options, "model": "a/b c", "endpoint": "http://127.0.0.1:1/base/"}, version="1"
    ) as log:
        log.log({"x": np.ones(1)}, {})
    assert transport.sent[0].url == "http://127.0.0.1:1/base/v1/models/a%2Fb%20c/predictions"


def test_log_ships_times_ids_and_tags_per_row(options: dict[str, Any], transport: FakeTransport) -> None:
    with PredictionLogger(version="1", tags={"app": "web"}, **options) as logger:
        logger.log(
            {"age": np.array([31, 64]), "city": ["Bern", "Genf"]},
            {"score": [0.25, 0.75]},
            time_ns=np.array([5, 6]),
            request_id=["a", "b"],
            tags={"region": "eu"},
        )
    (sent,) = transport.sent
    assert [each["name"] for each in sent.header["inputs"]] == [
        "driftd.ts", "driftd.id", "driftd.tag.app", "driftd.tag.region", "age", "city",
    ]  # fmt: skip
    assert sent.inputs["driftd.ts"].tolist() == [5, 6]
    assert sent.inputs["driftd.id"] == ["a", "b"]
    assert sent.inputs["driftd.tag.region"] == ["eu", "eu"]
    assert sent.inputs["city"] == ["Bern", "Genf"]
    assert sent.outputs["score"].tolist() == [0.25, 0.75]


def test_flush_is_false_when_rows_were_refused_or_time_is_up(options: dict[str, Any]) -> None:
    refused = FakeTransport()
    refused.always = lambda _: Response(status=422)
    silent = FakeTransport()
    silent.always = lambda _: OSError("down")
    for transport, timeout in ((refused, 10.0), (silent, 0.05)):
        logger = PredictionLogger(**{**options, "transport": transport, "flush_seconds": 60}, version="1")
        assert logger.flush(1)  # nothing to ship
        logger.log({"x": np.ones(2)}, {})
        assert not logger.flush(timeout)
        close(logger, 0.05)
        stats = logger.stats()
        assert (stats.seen, stats.kept, stats.gave_up, stats.pending) == (2, 0, 2, 0)


def test_close_can_be_said_twice_and_ends_the_thread(
    options: dict[str, Any], transport: FakeTransport
) -> None:
    logger = PredictionLogger(version="1", **options)
    logger.close()  # nothing was ever started
    with PredictionLogger(version="1", **options) as logger:
        logger.log({"x": np.ones(2)}, {})
        logger.close()
        logger.log({"x": np.ones(3)}, {})
    assert not [thread for thread in threading.enumerate() if thread.name == "driftd-sidecar"]
    stats = logger.stats()
    assert (stats.seen, stats.sent, stats.overflowed) == (5, 2, 3)


def test_many_threads_log_at_once_and_no_row_is_lost(
    options: dict[str, Any], transport: FakeTransport
) -> None:
    with PredictionLogger(version="1", **options) as logger:

        def log(first: int) -> None:
            for value in range(first, first + 500):
                logger.log({"x": np.array([value])}, {})

        threads = [threading.Thread(target=log, args=(500 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert logger.flush(10)
    values = sorted(value for sent in transport.sent for value in sent.inputs["x"].tolist())
    assert values == list(range(2000))

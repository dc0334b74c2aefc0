"""The sidecar's labels and the daemon's: what one sends, the other joins to the rows that it sent before."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import numpy as np

from driftd_sidecar import PredictionLogger, Response
from monitor.performance import last_day
from tests.monitor.harness import Harness, harness
from tests.monitor.labelled import DELAY, LATE, baseline


class Wire:
    """The sidecar's transport, straight into the daemon of this process."""

    def __init__(self, found: Harness) -> None:
        self._found = found

    def send(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Response:
        reply = self._found.ask("POST", url.removeprefix("http://daemon"), body, headers=headers)
        return Response(status=reply.status, body=reply.body)


def test_labels_of_the_sidecar_meet_its_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    late = rng.integers(0, 2, 5000)
    truth = np.where(rng.random(5000) < 0.9, late, 1 - late)
    delay = rng.normal(0, 5, 5000).astype(np.float32)
    ids = [f"flight-{number}" for number in range(5000)]
    with harness(tmp_path, 'labels_mature_after = "2h"') as found:
        found.put_baseline(baseline())
        found.service.pipeline.run_once()
        with PredictionLogger(
            model="m", version="1", endpoint="http://daemon", transport=Wire(found), clock=found.clock.now_ns
        ) as log:
            features = {"temp": rng.normal(40, 10, 5000).astype(np.float32)}
            log.log(features, {LATE: late, DELAY: delay}, request_id=ids)
            assert log.flush(60.0)
            log.log_labels(ids[:4000], {LATE: truth[:4000] == 1, DELAY: delay[:4000] + 2})
            log.log_labels("flight-4000", {LATE: int(truth[4000])})
            assert log.flush(60.0)
            stats = log.stats()
        assert (stats.sent, stats.labels_sent, stats.labels_rejected) == (5000, 4001, 0)
        found.clock.advance(timedelta(hours=3))
        for _ in range(5):
            found.service.pipeline.run_once()
        model = found.service.catalog.model("m")
        assert model is not None
        with found.service.database.read() as conn:
            by_column = {one.column: one for one in last_day(conn, model.versions["1"])}
    assert (by_column[LATE].rows, by_column[LATE].labelled) == (5000, 4001)
    assert by_column[LATE].accuracy == float(np.mean(late[:4001] == truth[:4001]))
    assert by_column[DELAY].labelled == 4000
    error = by_column[DELAY].mean_error
    assert error is not None
    assert abs(error + 2) < 1e-5

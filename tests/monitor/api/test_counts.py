"""Cells over HTTP, and counts on them: who may, what is stored, and that rows and counts make equal panes."""

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from detectors.codec import decode_profile
from detectors.profile import Baseline
from driftd_sidecar._cells import parse
from monitor.api.inprocess import InProcessReply
from monitor.instants import to_ns
from storage import blocks, panes
from tests.monitor import frames
from tests.monitor.api.asgi import Daemon
from tests.monitor.api.test_auth import TOKENS
from tests.monitor.harness import START, Harness, harness
from tests.monitor.ingest.bodies import BASELINE as CREDIT
from tests.monitor.ingest.counts_bodies import body, pane

BASELINE, OTHER = frames.baseline(pane_seconds=900), frames.baseline(pane_seconds=900, n=3000)
CELLS = "/v1/models/m/versions/1/cells"
PREDICTIONS = "/v1/models/m/predictions"
COUNTS = {"Content-Type": "application/vnd.driftd.counts+json"}
AT = int(START.timestamp())


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Harness]:
    with harness(tmp_path, '[models.m]\nsegments = ["region"]\n') as made:
        made.put_baseline(BASELINE)
        yield made


def post(daemon: Harness, message: Any, **headers: str) -> InProcessReply:
    raw = message if isinstance(message, bytes) else json.dumps(message).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return daemon.ask("POST", PREDICTIONS, raw, headers=COUNTS | named)


def told(reply: InProcessReply, status: int) -> dict[str, Any]:
    assert reply.status == status, reply.body
    answer: dict[str, Any] = json.loads(reply.body)
    return answer


def rows_in(daemon: Harness, baseline_id: int = 1) -> int:
    daemon.service.pipeline.run_once()
    with daemon.service.database.read() as conn:
        return sum(row.rows for row in panes.window(conn, baseline_id, "", 900, 0, 2**40))


def message(rows: int = 20, seed: int = 1, **more: Any) -> dict[str, Any]:
    return body(BASELINE, [pane(BASELINE, frames.rows(seed, rows), AT)], **more)


def test_cells_are_served_once_and_known_by_their_tag(daemon: Harness) -> None:
    plain = daemon.ask("GET", CELLS)
    packed = daemon.ask("GET", CELLS, headers={"Accept-Encoding": "br, gzip"})
    assert (plain.status, plain.headers["content-type"]) == (200, "application/vnd.driftd.cells")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    cells = parse(plain.body)
    assert (cells.fingerprint, cells.segment_keys) == (BASELINE.fingerprint, ("region",))
    tag = plain.headers["etag"]
    for given in (tag, f"W/{tag}", f'"other", {tag}'):
        again = daemon.ask("GET", CELLS, headers={"If-None-Match": given})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert daemon.ask("GET", CELLS, headers={"If-None-Match": '"other"'}).status == 200
    daemon.put_baseline(OTHER)
    renewed = daemon.ask("GET", CELLS, headers={"If-None-Match": tag})
    assert (renewed.status, parse(renewed.body).fingerprint) == (200, OTHER.fingerprint)


def test_the_tag_changes_with_the_tags_that_make_segments(tmp_path: Path) -> None:
    seen = set()
    for number, text in enumerate(("", '[models.m]\nsegments = ["shop"]\n')):
        with harness(tmp_path / str(number), text) as daemon:
            daemon.put_baseline(BASELINE)
            seen.add(daemon.ask("GET", CELLS).headers["etag"])
    assert len(seen) == 2


def test_documents_of_many_baselines_are_not_kept_for_ever(daemon: Harness) -> None:
    for number in range(40):
        version = f"v{number}"
        daemon.put_baseline(frames.baseline(pane_seconds=900, n=200 + number), version=version)
        path = CELLS.replace("/1/", f"/{version}/")
        packed = daemon.ask("GET", path, headers={"Accept-Encoding": "gzip"})
        assert parse(gzip.decompress(packed.body)).columns


@pytest.mark.parametrize("path", ["/v1/models/x/versions/1/cells", "/v1/models/m/versions/9/cells"])
def test_cells_of_what_is_not_there(daemon: Harness, path: str) -> None:
    assert told(daemon.ask("GET", path), 404)["status"] == 404


@pytest.mark.parametrize(("secret", "status"), [("one", 200), ("other", 403), ("eyes", 403), ("no", 401)])
def test_whoever_may_send_rows_may_ask_for_cells_and_send_counts(secret: str, status: int) -> None:
    daemon = Daemon(tokens=TOKENS)
    bearer = {"authorization": f"Bearer {secret}"}
    cells = daemon.request("GET", "/v1/models/credit/versions/3/cells", headers=bearer)
    assert cells.status_code == status
    counts = daemon.post(b"{}", content_type=COUNTS["Content-Type"], **bearer)
    assert counts.status_code == (422 if status == 200 else status)


def test_counts_are_on_disk_before_the_answer_and_counted_once(daemon: Harness) -> None:
    sent = message(id="b1", parameters={"driftd": 1, "seen": 25, "kept": 20, "dropped": 5})
    first = told(post(daemon, sent), 200)
    assert (first["id"], first["accepted"], first["duplicate"], first["idempotent"]) == (
        "b1",
        20,
        False,
        True,
    )
    again = told(post(daemon, sent), 200)
    assert (again["accepted"], again["duplicate"]) == (20, True)
    assert told(post(daemon, message(seed=2, id="b1")), 422)["detail"].startswith("the id 'b1' is taken")
    assert rows_in(daemon) == 20
    assert told(post(daemon, sent), 200)["duplicate"]
    assert rows_in(daemon) == 20


def test_what_a_sender_tells_of_its_losses_is_in_the_metrics_once(daemon: Harness) -> None:
    told_of = {"driftd": 1, "seen": 25, "kept": 20, "dropped": 5, "failed_inferences": 3}
    sent = message(id="b1", parameters=told_of)
    rows = {
        "id": "b2", "model_version": "1", "parameters": told_of | {"failed_inferences": 4},
        "columns": {"temp": [1.0], "carrier": ["UA"]},
    }  # fmt: skip
    for _ in range(2):
        told(post(daemon, sent), 200)
        daemon.json("POST", PREDICTIONS, rows)
    text = daemon.ask("GET", "/metrics").body.decode()
    assert 'driftd_sender_failed_inferences_total{model="m"} 7.0' in text
    assert 'driftd_sender_rows_dropped_total{model="m"} 10.0' in text
    wrong = message(parameters={"failed_inferences": -1})
    assert told(post(daemon, wrong), 422)["errors"][0]["pointer"] == "/parameters/failed_inferences"


def test_a_key_in_the_header_is_the_id(daemon: Harness) -> None:
    assert told(post(daemon, message(), idempotency_key="k1"), 200)["id"] == "k1"
    assert told(post(daemon, message(id="b1"), idempotency_key="k1"), 400)["status"] == 400
    assert told(post(daemon, message(), idempotency_key="anon-1"), 422)["status"] == 422
    without = told(post(daemon, message()), 200)
    assert not without["idempotent"]
    assert rows_in(daemon) == 40


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_bodies_may_be_compressed(daemon: Harness, encoding: str) -> None:
    raw = json.dumps(message()).encode()
    packed = gzip.compress(raw) if encoding == "gzip" else zstandard.compress(raw)
    assert told(post(daemon, packed, content_encoding=encoding), 200)["accepted"] == 20


def test_counts_of_another_baseline_are_refused_with_the_one_in_force(daemon: Harness) -> None:
    early = message(id="early")
    assert told(post(daemon, early), 200)["accepted"] == 20
    daemon.put_baseline(OTHER)
    refused = told(post(daemon, message(id="late")), 409)
    assert refused["fingerprint"] == OTHER.fingerprint
    assert BASELINE.fingerprint in refused["detail"]
    assert told(post(daemon, early), 200)["duplicate"]  # an answer that was lost, asked for again
    assert told(post(daemon, message(seed=3, id="early")), 422)["status"] == 422
    assert told(post(daemon, message()), 409)["fingerprint"] == OTHER.fingerprint
    assert rows_in(daemon) == 20


@pytest.mark.parametrize("version", ["2", "new"])
def test_a_version_without_a_baseline_is_not_made_by_counts(daemon: Harness, version: str) -> None:
    daemon.service.ingestion.ensure_version(_model(daemon), "2")
    refused = told(post(daemon, message() | {"model_version": version}), 409)
    assert refused["fingerprint"] is None
    assert "new" not in _model(daemon).versions


def _model(daemon: Harness) -> Any:
    return daemon.service.catalog.model("m")


def test_a_retry_that_comes_too_late_is_still_one(daemon: Harness) -> None:
    sent = message(id="b1")
    assert told(post(daemon, sent), 200)["accepted"] == 20
    daemon.service.pipeline.run_once()
    daemon.clock.advance(timedelta(days=3))
    later = body(BASELINE, [pane(BASELINE, frames.rows(1, 9), AT + 3 * 86_400)])
    assert told(post(daemon, later), 200)["accepted"] == 9
    daemon.service.pipeline.run_once()
    assert told(post(daemon, sent), 200)["duplicate"]
    late = told(post(daemon, message(id="b2")), 422)
    assert (late["accepted"], late["rejected"], late["errors"][0]["pointer"]) == (0, 20, "/panes/0/start")


def test_a_clock_that_is_off_is_corrected_by_the_date_of_the_request(daemon: Harness) -> None:
    behind = body(BASELINE, [pane(BASELINE, frames.rows(1, 9), AT - 5 * 3600)])
    reply = told(post(daemon, behind, date="Sat, 28 Feb 2026 19:00:00 GMT"), 200)
    assert "behind" in reply["warnings"][0]["detail"]
    daemon.service.pipeline.run_once()
    with daemon.service.database.read() as conn:
        assert [row.start for row in panes.window(conn, 1, "", 900, 0, 2**40)] == [AT]


def test_what_the_daemon_cannot_take_is_told_as_of_rows(daemon: Harness) -> None:
    assert told(post(daemon, b"{"), 400)["status"] == 400
    fault = message()
    fault["panes"][0]["columns"][0]["counts"][0] += 1
    assert told(post(daemon, fault), 422)["errors"][0]["pointer"] == "/panes/0/columns/0/counts"


def parts(values: Mapping[str, Any], times: Any, baseline: Baseline) -> list[dict[str, Any]]:
    """The rows as panes, by the daemon's own counting."""
    made = []
    regions = np.array(["eu", "us"])[np.arange(len(times)) % 2]
    length = baseline.pane_seconds
    for start in np.unique(times // 10**9 // length * length).tolist():
        inside = times // 10**9 // length * length == start
        for segment, rows in (
            ("", inside),
            *((f"region={each}", inside & (regions == each)) for each in ("eu", "us")),
        ):
            picked = {name: column[rows] for name, column in values.items()}
            first, last = int(times[rows].min()), int(times[rows].max())
            made.append(pane(baseline, picked, start, segment=segment, first=first, last=last))
    return made


def state(daemon: Harness) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with daemon.service.database.read() as conn:
        for segment in ("", "region=eu", "region=us"):
            base = daemon.service.pipeline.bases.of(1, BASELINE)
            layout = base.of(segment).baseline.layout
            found[segment] = (
                [
                    (p.start, p.rows, p.rows_seen, decode_profile(layout, p.profile).counts.tolist())
                    for p in panes.window(conn, 1, segment, 900, 0, 2**40)
                ],
                [
                    (b.start, b.rows, b.events)
                    for b in blocks.list_blocks(conn, 1, segment, start=0, end=2**40)
                ],
            )
    return found


def test_counts_and_rows_of_the_same_traffic_leave_equal_panes_and_blocks(tmp_path: Path) -> None:
    text = '[models.m]\nsegments = ["region"]\n'
    with harness(tmp_path / "rows", text) as by_rows, harness(tmp_path / "counts", text) as by_counts:
        for daemon in (by_rows, by_counts):
            daemon.put_baseline(BASELINE)
        for hour in range(3):
            values, n = frames.rows(hour, 240), 240
            at = to_ns(START + timedelta(hours=hour))
            times = at + np.arange(n) * 15 * 10**9
            for daemon in (by_rows, by_counts):
                daemon.clock.advance_to(START + timedelta(hours=hour + 1))
            columns = {
                "temp": np.asarray(values["temp"], float).tolist(),
                "carrier": values["carrier"].tolist(),
            }
            rows = {
                "model_version": "1",
                "ts": times.tolist(),
                "columns": columns,
                "confidence": np.asarray(values["confidence"], float).tolist(),
                "tags": {"region": ["eu", "us"] * (n // 2)},
            }
            assert by_rows.json("POST", PREDICTIONS, rows)["accepted"] == n
            counted = told(post(by_counts, body(BASELINE, parts(values, times, BASELINE))), 200)
            assert counted["accepted"] == n
            for daemon in (by_rows, by_counts):
                daemon.service.pipeline.run_once()
        expected = state(by_rows)
        assert sum(rows for _, rows, *_ in expected[""][0]) == 720
        assert state(by_counts) == expected


def test_a_baseline_of_every_type_can_be_counted_on() -> None:
    document = Daemon().request("GET", "/v1/models/credit/versions/3/cells").content
    assert parse(document).fingerprint == CREDIT.fingerprint
    assert (
        hashlib.sha256(document).digest()
        == hashlib.sha256(Daemon().request("GET", "/v1/models/credit/versions/3/cells").content).digest()
    )

"""`/v1` beyond predictions: scopes, strict bodies, problems, and what the machines ask."""

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from alerts.identity import AlertKind, alert_labels
from detectors.codec import decode_baseline, encode_baseline
from monitor.api.inprocess import InProcessReply
from tests.monitor import frames
from tests.monitor.harness import START, Harness, drift_labels, harness

BASELINE = frames.baseline(pane_seconds=900)
AT_BASELINE = "/v1/models/m/versions/1/baseline"
OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Harness]:
    with harness(tmp_path) as made:
        yield made


def problem(reply: InProcessReply, status: int) -> dict[str, Any]:
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json"), reply.body
    body: dict[str, Any] = json.loads(reply.body)
    assert body["status"] == status
    return body


ROUTES = [
    ("GET", "/v1/status", "read"),
    ("GET", "/v1/models", "read"),
    ("GET", "/v1/models/m", "read"),
    ("GET", "/v1/models/m/performance", "read"),
    ("GET", "/v1/baselines", "read"),
    ("GET", AT_BASELINE, "read"),
    ("PUT", AT_BASELINE, "operate"),
    ("GET", "/v1/alerts", "read"),
    ("GET", "/v1/alerts/1", "read"),
    ("POST", "/v1/alerts/1/ack", "operate"),
    ("POST", "/v1/alerts/1/accept", "operate"),
    ("GET", "/v1/silences", "read"),
    ("POST", "/v1/silences", "operate"),
    ("DELETE", "/v1/silences/1", "operate"),
    ("POST", "/v1/receivers/ops/test", "operate"),
    ("GET", "/metrics", "read"),
]


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_every_route_asks_for_its_scope(tmp_path: Path, method: str, path: str, scope: str) -> None:
    tokens = "[auth]\n"
    for name in ("read", "operate"):
        digest = hashlib.sha256(f"token-{name}".encode()).hexdigest()
        tokens += f'[[auth.tokens]]\nname = "{name}"\nsha256 = "{digest}"\nscopes = ["{name}"]\n'
    with harness(tmp_path, tokens) as daemon:
        assert problem(daemon.ask(method, path), 401)["title"] == "Unauthorized"
        other = "operate" if scope == "read" else "read"
        bearer = {"Authorization": f"Bearer token-{other}"}
        assert scope in problem(daemon.ask(method, path, headers=bearer), 403)["detail"]
        bearer = {"Authorization": f"Bearer token-{scope}"}
        assert daemon.ask(method, path, headers=bearer).status not in (401, 403, 500)


def test_a_foreign_page_is_refused_without_a_token(daemon: Harness) -> None:
    headers = {"Origin": "https://evil.example"}
    problem(daemon.ask("POST", "/v1/silences", {}, headers=headers), 403)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"matchers": ['model="m"'], "duration": "4h", "coment": "x"}, "/coment"),
        ({"duration": "4h"}, "/matchers"),
        ({"matchers": 'model="m"', "duration": "4h"}, "/matchers"),
        ({"matchers": ['model="m"', 3], "duration": "4h"}, "/matchers/1"),
        ({"matchers": ["model"], "duration": "4h"}, "/matchers/0"),
        ({"matchers": ['model="m"'], "duration": "4 hours"}, "/duration"),
        ({"matchers": ['model="m"'], "duration": "4h", "ends_at": "2026-03-02T00:00:00Z"}, "/ends_at"),
        ({"matchers": ['model="m"']}, "/ends_at"),
        ({"matchers": ['model="m"'], "ends_at": "2026-03-02T00:00:00"}, "/ends_at"),
        ({"matchers": ['model="m"'], "ends_at": "2026-02-01T00:00:00Z"}, "/ends_at"),
        ({"matchers": ['model="m"'], "duration": "4h", "comment": None}, "/comment"),
        ({"matchers": ['model="m"'], "duration": "4h", "author": ""}, "/author"),
    ],
)
def test_a_bad_silence_names_the_place(daemon: Harness, body: dict[str, Any], pointer: str) -> None:
    told = problem(daemon.ask("POST", "/v1/silences", body), 422)
    assert [error["pointer"] for error in told["errors"]] == [pointer]
    assert daemon.json("GET", "/v1/silences")["silences"] == []


@pytest.mark.parametrize(
    ("raw", "media", "status"),
    [
        (b'{"comment": "a", "comment": "b"}', "application/json", 400),
        (b"{", "application/json", 400),
        (b'\xff{"comment": ""}', "application/json", 400),
        (b'{"comment": NaN}', "application/json", 400),
        (b"[" * 5000, "application/json", 400),
        (b"comment=x", "application/x-www-form-urlencoded", 415),
        (b'{"comment": "\\ud800"}', "application/json", 422),
        (b'{"comment": "\\u0000"}', "application/json", 422),
        (b"[]", "application/json", 422),
        (b'{"comment": "' + b"x" * 70_000 + b'"}', "application/json", 413),
    ],
)
def test_bodies_are_read_strictly(daemon: Harness, raw: bytes, media: str, status: int) -> None:
    alert_id = daemon.open_alert(drift_labels())
    problem(daemon.ask("POST", f"/v1/alerts/{alert_id}/ack", raw, headers={"Content-Type": media}), status)
    assert daemon.json("GET", f"/v1/alerts/{alert_id}")["acks"] == []


def test_an_ack_needs_no_body(daemon: Harness) -> None:
    alert_id = daemon.open_alert(drift_labels())
    ack = daemon.json("POST", f"/v1/alerts/{alert_id}/ack", status=201)
    assert (ack["author"], ack["comment"], ack["at"]) == ("loopback", "", "2026-03-01T00:00:00Z")


@pytest.mark.parametrize("alert_id", ["999", "0", "-1", "x", "1" * 40, "١"])
def test_alerts_that_do_not_exist(daemon: Harness, alert_id: str) -> None:
    from urllib.parse import quote

    assert "no alert with id" in problem(daemon.ask("GET", f"/v1/alerts/{quote(alert_id)}"), 404)["detail"]


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("stat=open", "unknown query parameter 'stat'; it takes state, model, limit, before"),
        ("state=closed", "state is one of open, pending, firing, resolved, not 'closed'"),
        ("limit=0", "limit is a whole number from 1 to 1000"),
        ("limit=1e3", "limit is a whole number"),
        ("state=open&state=open", "is given twice"),
    ],
)
def test_queries_are_read_strictly(daemon: Harness, query: str, complaint: str) -> None:
    assert complaint in problem(daemon.ask("GET", f"/v1/alerts?{query}"), 400)["detail"]


def test_alerts_are_chosen_and_paged(daemon: Harness) -> None:
    first, second = daemon.open_alert(drift_labels("temp")), daemon.open_alert(drift_labels("carrier"))
    other = daemon.open_alert(alert_labels(AlertKind.NO_TRAFFIC, "other"))

    def ids(query: str) -> list[int]:
        return [a["id"] for a in daemon.json("GET", f"/v1/alerts?{query}")["alerts"]]

    assert ids("") == ids("state=open") == ids("state=firing") == [other, second, first]
    assert ids("state=open&model=m") == ids("model=m") == [second, first]
    assert ids("limit=2") == ids("state=open&limit=2") == [other, second]
    assert ids(f"before={second}") == ids(f"state=open&before={second}") == [first]
    assert ids("state=resolved") == ids("model=none") == []


def test_a_baseline_comes_back_byte_for_byte(daemon: Harness) -> None:
    stored = daemon.put_baseline(BASELINE)
    assert (stored["fingerprint"], stored["current"]) == (BASELINE.fingerprint, True)
    reply = daemon.ask("GET", AT_BASELINE)
    assert (reply.body, reply.headers["etag"]) == (encode_baseline(BASELINE), f'"{BASELINE.fingerprint}"')
    assert decode_baseline(reply.body).fingerprint == BASELINE.fingerprint
    unchanged = daemon.ask("GET", AT_BASELINE, headers={"If-None-Match": reply.headers["etag"]})
    assert (unchanged.status, unchanged.body) == (304, b"")
    problem(daemon.ask("GET", "/v1/models/m/versions/2/baseline"), 404)


def test_what_is_no_baseline_is_refused(daemon: Harness) -> None:
    problem(daemon.ask("PUT", AT_BASELINE, b"{}", headers=OCTETS), 422)
    problem(daemon.ask("PUT", AT_BASELINE, {}), 415)
    told = problem(
        daemon.ask("PUT", f"{AT_BASELINE}?stages=shadow", encode_baseline(BASELINE), headers=OCTETS), 400
    )
    assert "it takes artefact_sha256, run, dataset, commit, stage" in told["detail"]
    assert daemon.json("GET", "/v1/models")["models"] == []


def test_the_facts_of_an_artefact_are_kept(daemon: Harness) -> None:
    blob = encode_baseline(BASELINE)
    put = daemon.ask("PUT", f"{AT_BASELINE}?stage=shadow&run=r7", blob, headers=OCTETS)
    assert put.status == 200
    (version,) = daemon.json("GET", "/v1/models/m")["versions"]
    assert (version["stage"], version["run"], version["commit"]) == ("shadow", "r7", None)
    assert problem(daemon.ask("PUT", f"{AT_BASELINE}?run=r8", blob, headers=OCTETS), 409)


def test_a_model_before_and_after_its_first_evaluation(daemon: Harness) -> None:
    daemon.put_baseline(BASELINE)
    (model,) = daemon.json("GET", "/v1/models")["models"]
    assert (model["name"], model["state"], model["watermark"]) == ("m", "insufficient_data", None)
    daemon.traffic(START, 2)
    shown = daemon.json("GET", "/v1/models/m")
    # The newest row came a few seconds before 02:00; its watermark is a minute behind.
    assert shown["model"]["watermark"].startswith("2026-03-01T01:58:5")
    assert shown["model"]["evaluated_upto"] == "2026-03-01T01:45:00Z"
    (version,) = shown["versions"]
    assert version["baseline"]["rows"] == 4000
    assert {c["name"] for c in version["columns"]} == {"temp", "carrier", "confidence"}
    windows = version["columns"][0]["windows"]
    assert [(w["seconds"], w["rows"]) for w in windows] == [(3600, 720), (21600, 1260)]
    problem(daemon.ask("GET", "/v1/models/n"), 404)


def test_a_model_says_how_its_columns_are_judged_and_how_its_traffic_stands(daemon: Harness) -> None:
    daemon.put_baseline(BASELINE)
    empty = daemon.json("GET", "/v1/models/m")
    assert (empty["model"]["current"], empty["segment"], empty["traffic"]) == ("1", "", None)
    assert [rule["learning"] for rule in empty["versions"][0]["rules"]] == ["learning"] * 3
    daemon.traffic(START, 2)
    shown = daemon.json("GET", "/v1/models/m")
    (version,) = shown["versions"]
    assert [rule["name"] for rule in version["rules"]] == ["temp", "carrier", "confidence"]
    temp = version["rules"][0]
    assert (temp["learning"], temp["learning_since"]) == ("learning", "2026-03-01T00:00:00Z")
    assert (temp["detectable"], temp["delay_seconds"], temp["learned_from"]) == (None, None, None)
    assert [t["seconds"] for t in temp["thresholds"]] == [3600, 21600]
    assert sum(rule["budget"] for rule in version["rules"]) == pytest.approx(0.1)
    assert version["segments"] == []
    traffic = shown["traffic"]
    assert (traffic["status"], traffic["usual"], traffic["weeks"]) == ("insufficient_data", None, 0)
    assert traffic["rate"] == pytest.approx(12.0, rel=0.01)


def test_a_segment_is_asked_for_by_its_tag_and_value(tmp_path: Path) -> None:
    with harness(tmp_path, '[models.m]\nsegments = ["region"]\n') as daemon:
        daemon.put_baseline(BASELINE)
        at = int(START.timestamp())
        for hour in range(2):
            daemon.clock.advance_to(START + timedelta(hours=hour + 1))
            values = frames.rows(hour, 600)
            times = [(at + 3600 * hour + 6 * row) * 10**9 for row in range(600)]
            body = {
                "model_version": "1",
                "ts": times,
                "columns": {"temp": values["temp"].tolist(), "carrier": values["carrier"].tolist()},
                "confidence": values["confidence"].tolist(),
                "tags": {"region": ["eu" if row % 3 else "us" for row in range(600)]},
            }
            assert daemon.ask("POST", "/v1/models/m/predictions", body).status == 200
            daemon.service.pipeline.run_once()
        whole = daemon.json("GET", "/v1/models/m")["versions"][0]
        assert [(s["segment"], s["state"]) for s in whole["segments"]] == [
            ("region=eu", "stable"),
            ("region=us", "stable"),
        ]
        shown = daemon.json("GET", "/v1/models/m?segment=region%3Deu")
        (part,) = shown["versions"]
        assert shown["segment"] == "region=eu"
        assert part["segments"] == []
        rows, all_rows = (v["columns"][0]["windows"][0]["rows"] for v in (part, whole))
        assert rows == pytest.approx(all_rows * 2 / 3, abs=1)
        assert part["rules"][0]["budget"] == pytest.approx(whole["rules"][0]["budget"] / 2)
        told = problem(daemon.ask("GET", "/v1/models/m?segment=region%3Dasia"), 404)
        assert "model 'm' has no segment 'region=asia'" in told["detail"]
        problem(daemon.ask("GET", "/v1/models/m?part=x"), 400)


def test_rows_that_wait_for_a_baseline_are_counted(daemon: Harness) -> None:
    daemon.put_baseline(BASELINE)
    body = {"model_version": "2", "columns": {"temp": [1.0, 2.0], "carrier": ["UA", "DL"]}}
    assert daemon.ask("POST", "/v1/models/m/predictions", body).status == 200
    newest, _ = daemon.json("GET", "/v1/models/m")["versions"]
    assert (newest["version"], newest["waiting_batches"], newest["waiting_rows"]) == ("2", 1, 2)
    assert "driftd_fold_backlog_batches 1.0" in daemon.ask("GET", "/metrics").body.decode()


def test_event_times_follow_the_models_own_limits(tmp_path: Path) -> None:
    with harness(tmp_path, '[models.m]\nfirst_batch_max_past = "25h"\n') as daemon:
        for model in ("m", "n"):
            daemon.put_baseline(BASELINE, model=model)
        body = {
            "model_version": "1",
            "columns": {"temp": [1.0], "carrier": ["UA"]},
            "ts": "2026-02-20T00:00:00Z",
        }
        told = problem(daemon.ask("POST", "/v1/models/m/predictions", body), 422)
        assert "before the oldest this model still accepts" in told["errors"][0]["detail"]
        assert daemon.ask("POST", "/v1/models/n/predictions", body).status == 200


def test_a_wrong_method_is_told_what_there_is(daemon: Harness) -> None:
    reply = daemon.ask("DELETE", AT_BASELINE)
    problem(reply, 405)
    assert set(reply.headers["allow"].split(", ")) == {"GET", "HEAD", "PUT"}
    problem(daemon.ask("GET", "/v1/nothing"), 404)


def test_health_follows_the_heartbeat_of_the_loop(daemon: Harness) -> None:
    assert daemon.json("GET", "/healthz") == {"ok": True, "reasons": []}
    reasons = daemon.json("GET", "/readyz", status=503)["reasons"]
    assert reasons == ["the loops have not started"]
    daemon.service.started, daemon.service.started_at = True, daemon.clock.now()
    try:
        daemon.clock.advance(timedelta(seconds=59))
        assert daemon.ask("GET", "/healthz").status == daemon.ask("GET", "/readyz").status == 200
        daemon.clock.advance(timedelta(seconds=1))
        told = daemon.json("GET", "/healthz", status=503)["reasons"]
        assert told == ["the evaluation loop has completed no round for 60 s"]
        daemon.service.pipeline.run_once()
        assert daemon.ask("GET", "/healthz").status == 200
    finally:
        daemon.service.started = False


def test_gauges_forget_what_is_over(daemon: Harness) -> None:
    daemon.put_baseline(BASELINE)
    daemon.traffic(START, 3)
    alert_id = daemon.open_alert(drift_labels())
    line = 'driftd_alerts{kind="feature_drift",state="firing"} 1.0'
    assert line in daemon.ask("GET", "/metrics").body.decode()
    assert daemon.ask("POST", f"/v1/alerts/{alert_id}/accept").status == 200
    assert line not in daemon.ask("GET", "/metrics").body.decode()


def test_status_names_receivers_without_their_secrets(tmp_path: Path) -> None:
    with harness(tmp_path, url="https://hooks.example/services/T0/s3cret") as daemon:
        found = daemon.json("GET", "/v1/status")
        (receiver,) = found["receivers"]
        assert (receiver["destination"], receiver["kind"]) == ("https://hooks.example", "webhook")
        assert "s3cret" not in json.dumps(found)
        assert (found["running"], found["database"], found["firing"]) == (False, "ok", 0)


def test_a_defect_is_a_500_without_its_text(daemon: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("s3cret")

    monkeypatch.setattr("monitor.overview.status", broken)
    reply = daemon.ask("GET", "/v1/status")
    assert "s3cret" not in json.dumps(problem(reply, 500))

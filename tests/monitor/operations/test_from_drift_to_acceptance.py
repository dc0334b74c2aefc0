"""From training rows to a page, and what people do about it: one story through the real parts."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from storage import operations
from tests.monitor import frames
from tests.monitor.harness import START, Harness, Heard, harness, listener


def deliver(daemon: Harness) -> None:
    """Let the waiting time of a group pass, and send what is due."""
    daemon.clock.advance(timedelta(minutes=1))
    daemon.service.couriers["ops"].run_once()


def drifted(daemon: Harness) -> int:
    """Two calm days and a drifted one; the id of the alert on the column that moved."""
    daemon.put_baseline(frames.baseline(pane_seconds=900))
    daemon.traffic(START, 48)
    assert daemon.json("GET", "/v1/alerts")["alerts"] == []
    daemon.traffic(START + timedelta(days=2), 24, shift=20.0)
    found = daemon.json("GET", "/v1/alerts?state=firing")["alerts"]
    assert [(a["column"], a["kind"]) for a in found] == [("temp", "feature_drift")]
    return int(found[0]["id"])


def test_three_days_of_predictions(tmp_path: Path) -> None:
    with listener() as heard, harness(tmp_path, url=heard.url) as daemon:
        alert = drifted(daemon)
        deliver(daemon)
        check_page(heard, alert)
        check_model(daemon)
        check_ack_and_silence(daemon, heard, alert)
        check_accept(daemon, heard, alert)


def check_page(heard: Heard, alert: int) -> None:
    (body,) = heard.bodies()
    assert (body["status"], body["groupLabels"]["model"]) == ("firing", "m")
    assert body["alerts"][0]["labels"]["column"] == "temp"
    assert body["alerts"][0]["generatorURL"] == f"https://drift.example/alerts/{alert}"
    # Normal laws of mean 40 before and 60 after; the first window that pages still holds some of before.
    found = re.fullmatch(r"median ([\d.]+) → ([\d.]+)", body["driftd"]["alerts"][0]["summary"])
    assert found is not None
    assert [float(median) for median in found.groups()] == pytest.approx([40, 58], abs=3)


def check_model(daemon: Harness) -> None:
    shown = daemon.json("GET", "/v1/models/m")
    assert (shown["model"]["state"], shown["model"]["firing"]) == ("drift", 1)
    (version,) = shown["versions"]
    columns = version["columns"]
    assert columns[0]["name"] == "temp"
    assert [c["effect"] for c in columns] == sorted((c["effect"] for c in columns), reverse=True)
    longest = columns[0]["windows"][-1]
    # Normal laws two standard deviations apart: D = 2Φ(1) - 1 = 0.6827.
    assert abs(longest["ks"] - 0.6827) < 0.03
    assert abs(longest["mean_shift"] - 2.0) < 0.1
    metrics = daemon.ask("GET", "/metrics").body.decode()
    assert 'driftd_alerts{kind="feature_drift",state="firing"} 1.0' in metrics
    assert 'driftd_columns{model="m",state="drift"} 1.0' in metrics


def check_ack_and_silence(daemon: Harness, heard: Heard, alert: int) -> None:
    ack = daemon.json("POST", f"/v1/alerts/{alert}/ack", {"comment": "mine", "author": "ann"}, status=201)
    assert (ack["author"], ack["comment"]) == ("ann", "mine")
    silence = daemon.json(
        "POST",
        "/v1/silences",
        {"matchers": ['model="m"', 'column=~"te.*"'], "duration": "6h", "author": "ann", "comment": "on it"},
        status=201,
    )
    assert silence["state"] == "active"
    shown = daemon.json("GET", f"/v1/alerts/{alert}")
    assert (shown["alert"]["acknowledged"], shown["alert"]["silenced_by"]) == (True, [silence["id"]])
    assert [n["status"] for n in shown["notifications"]] == ["sent"]
    assert [a["outcome"] for a in shown["notifications"][0]["attempts"]] == ["done"]
    # Acknowledged and silenced: the repeat that is due after four hours does not come.
    daemon.traffic(START + timedelta(days=3), 5, shift=20.0)
    deliver(daemon)
    assert len(heard.posts) == 1
    assert daemon.json("DELETE", f"/v1/silences/{silence['id']}")["state"] == "expired"
    assert daemon.ask("DELETE", f"/v1/silences/{silence['id']}").status == 409


def check_accept(daemon: Harness, heard: Heard, alert: int) -> None:
    before = daemon.json("GET", "/v1/baselines")["baselines"]
    done = daemon.json("POST", f"/v1/alerts/{alert}/accept", {"author": "ann", "comment": "new sensor"})
    shown = daemon.json("GET", f"/v1/alerts/{alert}")["alert"]
    assert (shown["state"], shown["resolution"]) == ("resolved", "accepted")
    assert done["resolved"] == [alert]
    after = daemon.json("GET", "/v1/baselines")["baselines"]
    assert [b["current"] for b in after] == [True, False]
    assert after[1]["fingerprint"] == before[0]["fingerprint"]
    assert (after[0]["fingerprint"], after[0]["rows"]) == (done["fingerprint"], done["rows"])
    # 720 rows an hour.
    window = shown["detail"]["evidence"]["window_seconds"]
    assert done["rows"] == window // 3600 * 720
    daemon.clock.advance(timedelta(minutes=10))
    deliver(daemon)
    assert [body["status"] for body in heard.bodies()] == ["firing", "resolved"]
    # The same traffic is now what is expected.
    daemon.traffic(START + timedelta(days=3, hours=5), 12, shift=20.0)
    assert daemon.json("GET", "/v1/alerts?state=open")["alerts"] == []
    assert daemon.json("GET", "/v1/models/m")["model"]["state"] == "stable"
    with daemon.service.database.read() as conn:
        trail = [(e.actor, e.action, e.target) for e in operations.list_audit(conn)]
    assert trail == [
        ("loopback", "baseline.accept", f"alert/{alert}"),
        ("loopback", "silence.expire", "silence/1"),
        ("loopback", "silence.add", "silence/1"),
        ("loopback", "alert.ack", f"alert/{alert}"),
        ("loopback", "baseline.register", "model/m/version/1"),
    ]

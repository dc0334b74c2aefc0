"""What operators cannot do, and that nothing is changed by trying."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from alerts.identity import AlertKind, alert_labels
from detectors.codec import encode_baseline
from monitor.operations import (
    Conflicting,
    Invalid,
    NotKnown,
    OperationError,
    VersionFacts,
    accept,
    acknowledge,
    add_silence,
    expire_silence,
    load_baseline,
    register_baseline,
)
from storage import operations, retention
from tests.monitor import frames
from tests.monitor.harness import START, Harness, drift_labels, harness

BASELINE = frames.baseline(pane_seconds=900)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Harness]:
    with harness(tmp_path) as made:
        yield made


def audited(daemon: Harness) -> list[str]:
    with daemon.service.database.read() as conn:
        return [entry.action for entry in operations.list_audit(conn)]


def refused(daemon: Harness, alert_id: int) -> str:
    """The words with which an acceptance is refused; the baseline stays, and so does the alert."""
    before = load_baseline(daemon.service, model="m")[0]
    with pytest.raises(Conflicting) as caught:
        accept(daemon.service, alert_id, actor="ann")
    assert load_baseline(daemon.service, model="m")[0] == before
    assert "baseline.accept" not in audited(daemon)
    return str(caught.value)


def test_acceptance_needs_an_evaluated_model(daemon: Harness) -> None:
    daemon.put_baseline(BASELINE)
    alert_id = daemon.open_alert(drift_labels())
    assert "nothing of model 'm' has been evaluated" in refused(daemon, alert_id)


def test_acceptance_needs_a_hundred_rows(daemon: Harness) -> None:
    daemon.put_baseline(BASELINE)
    daemon.traffic(START, 3, rows=60)
    alert_id = daemon.open_alert(drift_labels())
    words = refused(daemon, alert_id)
    # The watermark is the newest row, a minute back: the window's four quarters end a quarter of an hour earlier.
    assert words.startswith("60 rows of 2026-03-01 01:45 UTC to 2026-03-01 02:45 UTC are still kept")
    assert "payload_retention" in words


def test_acceptance_needs_payloads_that_are_kept(daemon: Harness) -> None:
    daemon.put_baseline(BASELINE)
    daemon.traffic(START, 3)
    alert_id = daemon.open_alert(drift_labels())
    later = daemon.clock.now() + timedelta(days=8)
    daemon.service.database.write(
        lambda conn: retention.drop_payloads_before(conn, later, limit=1000)
    ).result()
    assert refused(daemon, alert_id).startswith("0 rows of")


def test_acceptance_is_of_columns_only(daemon: Harness) -> None:
    daemon.put_baseline(BASELINE)
    alert_id = daemon.open_alert(alert_labels(AlertKind.NO_TRAFFIC, "m"))
    assert "is about no column" in refused(daemon, alert_id)


def test_acceptance_ends_every_column_of_the_version_and_no_other_alert(daemon: Harness) -> None:
    daemon.put_baseline(BASELINE)
    daemon.traffic(START, 3)
    first, second = daemon.open_alert(drift_labels("temp")), daemon.open_alert(drift_labels("carrier"))
    quiet = daemon.open_alert(alert_labels(AlertKind.NO_TRAFFIC, "m"))
    done = accept(daemon.service, first, actor="ann")
    assert sorted(done.resolved) == [first, second]
    assert [a["id"] for a in daemon.json("GET", "/v1/alerts?state=open")["alerts"]] == [quiet]
    with pytest.raises(Conflicting, match="is resolved"):
        accept(daemon.service, first, actor="ann")
    facts, blob = load_baseline(daemon.service, model="m", version="1")
    assert (facts.fingerprint, facts.rows) == (done.fingerprint, 720)
    assert len(blob) > 0
    columns = daemon.service.catalog.model("m")
    assert columns is not None
    new = columns.versions["1"].baseline
    assert new is not None
    # The declaration is the old one, whatever the window's values look like.
    assert [(c.name, c.role, c.type, c.dtype) for c in new.columns] == [
        (c.name, c.role, c.type, c.dtype) for c in BASELINE.columns
    ]
    assert new.pane_seconds == 900


def test_unknown_things_are_not_known(daemon: Harness) -> None:
    service = daemon.service
    with pytest.raises(NotKnown, match="no alert with id 7"):
        acknowledge(service, 7, author="ann", actor="ann")
    with pytest.raises(NotKnown, match="no alert with id 7"):
        accept(service, 7, actor="ann")
    with pytest.raises(NotKnown, match="no silence with id 7"):
        expire_silence(service, 7, actor="ann")
    with pytest.raises(NotKnown, match="no model 'm'"):
        load_baseline(service, model="m")
    assert audited(daemon) == []


@pytest.mark.parametrize(
    ("matchers", "pointer"),
    [
        ([], "/matchers"),
        (["model"], "/matchers/0"),
        (['model="m"', "colum=x"], "/matchers/1"),
        (['column=~"("'], "/matchers/0"),
        (['column=~".*"'], "/matchers"),
        (['model!="m"'], "/matchers"),
    ],
)
def test_silences_that_would_mute_nothing_or_all(daemon: Harness, matchers: list[str], pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        add_silence(daemon.service, matchers, ends_at=START + timedelta(hours=1), author="ann", actor="ann")
    assert caught.value.pointer == pointer
    assert audited(daemon) == []


@pytest.mark.parametrize(
    ("starts", "ends", "author", "pointer"),
    [
        (0, -1, "ann", "/ends_at"),
        (5, 5, "ann", "/ends_at"),
        (0, 24 * 400, "ann", "/ends_at"),
        (0, 1, "  ", "/author"),
        (0, 1, "a\x00b", "/author"),
    ],
)
def test_silences_have_a_span_and_an_author(
    daemon: Harness, starts: int, ends: int, author: str, pointer: str
) -> None:
    with pytest.raises(Invalid) as caught:
        add_silence(
            daemon.service,
            ['model="m"'],
            starts_at=START + timedelta(hours=starts),
            ends_at=START + timedelta(hours=ends),
            author=author,
            actor="ann",
        )
    assert caught.value.pointer == pointer


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\nb", "x" * 201])
def test_names_that_no_address_can_carry(daemon: Harness, name: str) -> None:
    blob = encode_baseline(BASELINE)
    with pytest.raises(Invalid, match="a name has"):
        register_baseline(daemon.service, model=name, version="1", blob=blob, actor="ann")
    with pytest.raises(Invalid, match="a name has"):
        register_baseline(daemon.service, model="m", version=name, blob=blob, actor="ann")


def test_baselines_that_cannot_be_watched(daemon: Harness) -> None:
    service, blob = daemon.service, encode_baseline(BASELINE)
    with pytest.raises(Invalid, match="damaged"):
        register_baseline(service, model="m", version="1", blob=blob[:-1], actor="ann")
    for seconds, complaint in (
        (420, "divides neither an hour nor a day"),
        (7200, "divide the window of 3600 s"),
    ):
        odd = encode_baseline(frames.baseline(pane_seconds=seconds))
        with pytest.raises(Invalid, match=complaint):
            register_baseline(service, model="m", version="1", blob=odd, actor="ann")
    with pytest.raises(Invalid, match="stage: 'live' is none of production"):
        register_baseline(
            service, model="m", version="1", blob=blob, facts=VersionFacts(stage="live"), actor="ann"
        )
    assert service.catalog.models() == ()


def test_a_version_is_one_artefact(daemon: Harness) -> None:
    service, blob = daemon.service, encode_baseline(BASELINE)
    for digest in ("a" * 64, "a" * 64):
        register_baseline(
            service,
            model="m",
            version="1",
            blob=blob,
            facts=VersionFacts(artefact_sha256=digest),
            actor="ann",
        )
    other = VersionFacts(artefact_sha256="b" * 64)
    with pytest.raises(Conflicting, match="register a changed artefact as a new version"):
        register_baseline(service, model="m", version="1", blob=blob, facts=other, actor="ann")
    assert audited(daemon) == ["baseline.register"] * 2


def test_no_look_is_under_way_inside_an_exclusive_act(daemon: Harness) -> None:
    looked = threading.Event()

    def look() -> None:
        daemon.service.pipeline.run_once()
        looked.set()

    with daemon.service.pipeline.exclusive():
        thread = threading.Thread(target=look)
        thread.start()
        assert not looked.wait(0.05)
    assert looked.wait(10)
    thread.join()


def test_every_refusal_is_an_operation_error() -> None:
    assert all(issubclass(kind, OperationError) for kind in (NotKnown, Invalid, Conflicting))

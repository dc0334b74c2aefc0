"""Identity: outside vectors, and what may not change a key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.errors import AlertError
from alerts.identity import (
    AlertKind,
    KindClass,
    Severity,
    alert_key,
    alert_labels,
    dedup_key,
    fingerprint,
    group_key,
    kind_class,
    subject_key,
)

label_sets = st.dictionaries(st.text(min_size=1, max_size=5), st.text(min_size=1, max_size=5), max_size=5)


def test_the_fingerprint_is_alertmanagers() -> None:
    # A real Alertmanager 0.21 payload, prometheus/alertmanager#2447.
    labels = {"alertname": "DemoAlert", "server": "ni3", "severity": "critical"}
    assert fingerprint(labels) == "8a07086b74f3ba78"
    assert fingerprint({}) == "cbf29ce484222325"


def test_the_hash_of_single_bytes_is_the_published_fnv_1a() -> None:
    # FNV-1a 64 of b"a\xffb\xff", computed step by step by the definition of the algorithm.
    expected = 0xCBF29CE484222325
    for byte in (0x61, 0xFF, 0x62, 0xFF):
        expected = (expected ^ byte) * 0x100000001B3 % 2**64
    assert fingerprint({"a": "b"}) == f"{expected:016x}"


@given(label_sets, st.randoms(use_true_random=False))
def test_the_order_of_labels_changes_no_key(labels: dict[str, str], shuffle: st.DataObject) -> None:
    items = list(labels.items())
    shuffle.shuffle(items)  # type: ignore[attr-defined]  # hypothesis' random.Random
    assert alert_key(dict(items)) == alert_key(labels)
    assert fingerprint(dict(items)) == fingerprint(labels)


@given(label_sets, label_sets)
def test_different_labels_have_different_keys(one: dict[str, str], other: dict[str, str]) -> None:
    assert (alert_key(one) == alert_key(other)) == (one == other)


def test_empty_labels_are_absent() -> None:
    labels = alert_labels(AlertKind.NO_TRAFFIC, "credit-risk")
    assert labels == {"alertname": "DriftdNoTraffic", "kind": "no_traffic", "model": "credit-risk"}
    assert alert_key({**labels, "segment": ""}) == alert_key(labels)


def test_two_broken_receivers_are_two_alerts() -> None:
    slack = alert_labels(AlertKind.RECEIVER_BROKEN, receiver="slack")
    pager = alert_labels(AlertKind.RECEIVER_BROKEN, receiver="pager")
    assert alert_key(slack) != alert_key(pager)
    with pytest.raises(AlertError, match="needs receiver name"):
        alert_labels(AlertKind.RECEIVER_BROKEN)
    with pytest.raises(AlertError, match="takes no receiver name"):
        alert_labels(AlertKind.TEST, receiver="slack")


def test_a_new_version_is_the_same_subject_but_another_alert() -> None:
    six = alert_labels(AlertKind.FEATURE_DRIFT, "m", "6", "", "temp")
    seven = alert_labels(AlertKind.FEATURE_DRIFT, "m", "7", "", "temp")
    assert subject_key(six) == subject_key(seven)
    assert alert_key(six) != alert_key(seven)


def test_group_keys_are_readable_and_cannot_be_confused() -> None:
    assert group_key(KindClass.DRIFT, "m", "") == '{}:{class="drift",model="m"}'
    sly = group_key(KindClass.DRIFT, 'm",segment="eu', "")
    assert sly != group_key(KindClass.DRIFT, "m", "eu")
    assert len(dedup_key(sly)) == 64


def test_every_kind_has_a_class_and_drift_is_three_kinds() -> None:
    drift = {kind for kind in AlertKind if kind_class(kind) is KindClass.DRIFT}
    assert drift == {AlertKind.FEATURE_DRIFT, AlertKind.PREDICTION_DRIFT, AlertKind.CONFIDENCE_DRIFT}


def test_severities_are_ordered_by_weight_not_by_letter() -> None:
    assert Severity.INFO < Severity.WARNING < Severity.ERROR < Severity.CRITICAL
    assert max(Severity) is Severity.CRITICAL
    assert Severity.CRITICAL >= Severity.CRITICAL > Severity.INFO <= Severity.INFO

"""Who an alert is: its labels, never its values, so that the same trouble keeps the same key."""

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum

from alerts.errors import AlertError

Labels = Mapping[str, str]

LABELS = ("alertname", "kind", "model", "version", "segment", "column", "receiver")
"""Every label an alert can have: a matcher on another name is a typing mistake."""


class AlertKind(StrEnum):
    """What went wrong."""

    FEATURE_DRIFT = "feature_drift"
    PREDICTION_DRIFT = "prediction_drift"
    CONFIDENCE_DRIFT = "confidence_drift"
    DATA_QUALITY = "data_quality"
    PERFORMANCE = "performance"
    NO_TRAFFIC = "no_traffic"
    MONITORING_LOSS = "monitoring_loss"
    LABELS_MISSING = "labels_missing"
    EVALUATION_FAILING = "evaluation_failing"
    RECEIVER_BROKEN = "receiver_broken"
    STORAGE_FAILING = "storage_failing"
    PENDING_BASELINE = "pending_baseline"
    LIMIT_REACHED = "limit_reached"
    WATCH = "watch"
    TEST = "test"


class KindClass(StrEnum):
    """The family of a kind: alerts of one family, model and segment are one incident."""

    DRIFT = "drift"
    QUALITY = "quality"
    PERFORMANCE = "performance"
    TRAFFIC = "traffic"
    OPERATIONS = "operations"
    WATCH = "watch"
    TEST = "test"


class Severity(StrEnum):
    """How loudly to say it, in PagerDuty's four words; ordered `INFO < WARNING < ERROR < CRITICAL`."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Position in the order, 0 for INFO."""
        return _SEVERITY_ORDER.index(self.value)

    # A StrEnum would compare as text, where "critical" < "info"; all four are replaced.
    def __lt__(self, other: str) -> bool:
        return self.rank < Severity(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Severity(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Severity(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Severity(other).rank


_SEVERITY_ORDER = ("info", "warning", "error", "critical")

_CLASSES = {
    AlertKind.FEATURE_DRIFT: KindClass.DRIFT,
    AlertKind.PREDICTION_DRIFT: KindClass.DRIFT,
    AlertKind.CONFIDENCE_DRIFT: KindClass.DRIFT,
    AlertKind.DATA_QUALITY: KindClass.QUALITY,
    AlertKind.PERFORMANCE: KindClass.PERFORMANCE,
    AlertKind.NO_TRAFFIC: KindClass.TRAFFIC,
    AlertKind.MONITORING_LOSS: KindClass.OPERATIONS,
    AlertKind.LABELS_MISSING: KindClass.OPERATIONS,
    AlertKind.EVALUATION_FAILING: KindClass.OPERATIONS,
    AlertKind.RECEIVER_BROKEN: KindClass.OPERATIONS,
    AlertKind.STORAGE_FAILING: KindClass.OPERATIONS,
    AlertKind.PENDING_BASELINE: KindClass.OPERATIONS,
    AlertKind.LIMIT_REACHED: KindClass.OPERATIONS,
    AlertKind.WATCH: KindClass.WATCH,
    AlertKind.TEST: KindClass.TEST,
}

# The 64-bit FNV-1a constants (Fowler, Noll, Vo) and the separator byte of Prometheus' common/model.
_FNV_OFFSET = 0xCBF29CE484222325
_FNV_PRIME = 0x100000001B3
_SEPARATOR = b"\xff"


def kind_class(kind: AlertKind) -> KindClass:
    """The family `kind` is grouped under."""
    return _CLASSES[kind]


def about_values(kind: AlertKind) -> bool:
    """Whether such an alert says that a column's values left the baseline, which a new baseline would end."""
    return _CLASSES[kind] in (KindClass.DRIFT, KindClass.QUALITY)


def alert_labels(
    kind: AlertKind,
    model: str = "",
    version: str = "",
    segment: str = "",
    column: str = "",
    *,
    receiver: str = "",
) -> dict[str, str]:
    """Build the identity of an alert; empty labels are left out, as Alertmanager reads them as absent.

    `receiver` is for RECEIVER_BROKEN alone, which has no model: without it two broken receivers would be one
    alert. Raises AlertError when that label is missing there, or given elsewhere.
    """
    if (kind is AlertKind.RECEIVER_BROKEN) != bool(receiver):
        raise AlertError(f"receiver: {kind.value} {'needs' if not receiver else 'takes no'} receiver name")
    labels = {
        "alertname": "Driftd" + "".join(word.capitalize() for word in kind.value.split("_")),
        "kind": kind.value,
        "model": model,
        "version": version,
        "segment": segment,
        "column": column,
        "receiver": receiver,
    }
    return {name: value for name, value in labels.items() if value}


def alert_key(labels: Labels) -> str:
    """SHA-256 (hex) of the labels' canonical form: JSON, names sorted, empty labels left out, ASCII only."""
    present = {name: value for name, value in labels.items() if value}
    canonical = json.dumps(present, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def subject_key(labels: Labels) -> str:
    """The key without the version: drift of a column that moved on to the next version is the same subject."""
    return alert_key({name: value for name, value in labels.items() if name != "version"})


def fingerprint(labels: Labels) -> str:
    """Alertmanager's fingerprint: 64-bit FNV-1a over `name FF value FF`, names sorted; 16 hex digits.

    Source: prometheus/common `model.LabelSet.Fingerprint`.
    """
    digest = _FNV_OFFSET
    for name in sorted(labels):
        encoded = (part.encode("utf-8", "replace") + _SEPARATOR for part in (name, labels[name]))
        for byte in b"".join(encoded):
            digest = ((digest ^ byte) * _FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
    return f"{digest:016x}"


def group_key(kind_class: KindClass, model: str, segment: str) -> str:
    """The incident an alert belongs to, in the shape of Alertmanager's groupKey; readable and unambiguous."""
    parts = {"class": kind_class.value, "model": model, "segment": segment}
    return "{}:{" + ",".join(f"{name}={json.dumps(value)}" for name, value in parts.items() if value) + "}"


def dedup_key(group: str) -> str:
    """PagerDuty's dedup_key: SHA-256 (hex) of the group key, 64 characters of the 255 it allows."""
    return hashlib.sha256(group.encode("utf-8")).hexdigest()

"""What a person is told of an incident, before any receiver gives it a form."""

import json
import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from alerts.errors import AlertError
from alerts.identity import KindClass, Severity
from alerts.text import clean, cut, number, whole
from alerts.times import aware, for_readers, rfc3339, span

T = TypeVar("T")

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]

# Titles of links that receivers have a field of their own for.
PAGE = "Page"
RUNBOOK = "Runbook"
SILENCE = "Silence"

_SCREEN_ALERTS = 5
_SCREEN_COLUMNS = 110


class MessageStatus(StrEnum):
    """What the notification says of its incident."""

    FIRING = "firing"
    RESOLVED = "resolved"
    ACKNOWLEDGED = "acknowledged"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Why an alert is believed.

    detector: registry name. window_seconds: the window whose effect is named. statistic, threshold: in the
    detector's own unit; both finite. rows, baseline_rows: rows compared. evidence: mean of the sums of bets
    (a page needs 1), None where the kind has none. since: estimated onset, event time.
    """

    detector: str
    window_seconds: int
    statistic: float
    threshold: float
    rows: int
    baseline_rows: int
    evidence: float | None = None
    since: datetime | None = None

    def __post_init__(self) -> None:
        for field in ("statistic", "threshold", "evidence"):
            value = getattr(self, field)
            if value is not None and not math.isfinite(value):
                raise AlertError(f"{field}: {value} is not finite; a score without a value cites no evidence")
        if self.since is not None:
            aware("since", self.since)

    def sentence(self) -> str:
        """One line: detector, effect against its threshold, window, rows on both sides, and how sure."""
        effect = f"{self.detector} {number(self.statistic)} over {span(self.window_seconds)}"
        parts = [
            f"{effect} (limit {number(self.threshold)})",
            f"{whole(self.rows)} rows against {whole(self.baseline_rows)}",
        ]
        if self.evidence is not None:
            parts.append(f"evidence {number(self.evidence)} (a page needs 1)")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertDetail:
    """One alert of the incident. `effect` ranks it (statistic / threshold, or any larger-is-worse number)."""

    labels: Mapping[str, str]
    status: MessageStatus
    severity: Severity
    starts_at: datetime
    summary: str
    ends_at: datetime | None = None
    effect: float = 0.0
    evidence: Evidence | None = None
    page: str = ""

    def __post_init__(self) -> None:
        aware("starts_at", self.starts_at)
        if self.ends_at is not None:
            aware("ends_at", self.ends_at)
        if not math.isfinite(self.effect):
            raise AlertError(f"effect: {self.effect} is not finite; use 0 where no effect was measured")

    @property
    def name(self) -> str:
        """What the alert is about: its column, else the receiver, version or model, else its kind."""
        for label in ("column", "receiver", "version", "model", "kind"):
            if self.labels.get(label):
                return self.labels[label]
        return "alert"

    @property
    def told_evidence(self) -> Evidence | None:
        """The evidence, where a person still has to judge it: not of what is over."""
        return None if self.status is MessageStatus.RESOLVED else self.evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much of the whole is affected: `3 of 21 columns drifted`."""

    affected: int
    total: int
    noun: str = "columns"
    verb: str = "drifted"

    def sentence(self) -> str:
        """The counts in words."""
        return f"{whole(self.affected)} of {whole(self.total)} {self.noun} {self.verb}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where to look: a title and an absolute http(s) URL."""

    title: str
    url: str

    def __post_init__(self) -> None:
        if not self.url.startswith(("https://", "http://")):
            raise AlertError(f"url: the link {self.title!r} must start with https:// or http://")


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentMessage:
    """Everything a person is told of one incident, whatever the receiver.

    Alerts are kept ranked: firing before resolved, larger effects first, then by name. `created_at` is when
    it was written, `started_at` when the incident opened. `reason` is dedup's NotifyReason in words.
    `baseline` names what was compared against; `changed_nearby` what else happened near the onset; `notes`
    are reservations, such as columns that are still learning. `commands` answer it: acknowledge, silence, accept.
    """

    status: MessageStatus
    group_key: str
    kind_class: KindClass
    severity: Severity
    title: str
    created_at: datetime
    started_at: datetime
    alerts: tuple[AlertDetail, ...] = ()
    model: str = ""
    version: str = ""
    segment: str = ""
    reason: str = ""
    counts: Counts | None = None
    baseline: str = ""
    changed_nearby: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    what_to_do: str = ""
    commands: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()

    def __post_init__(self) -> None:
        aware("created_at", self.created_at)
        aware("started_at", self.started_at)
        if not self.group_key or not self.title.strip():
            raise AlertError("group_key and title: a message needs both")
        object.__setattr__(self, "alerts", tuple(sorted(self.alerts, key=_rank)))

    @property
    def onset(self) -> datetime | None:
        """When the first of its columns began to move, as far as that can be told."""
        begun = [
            d.evidence.since for d in self.alerts if d.evidence is not None and d.evidence.since is not None
        ]
        return min(begun, default=None)

    def link(self, title: str) -> str:
        """The URL of the link with this title, or the empty string."""
        return next((link.url for link in self.links if link.title == title), "")


def trial_message(receiver: str, now: datetime, links: tuple[Link, ...] = ()) -> IncidentMessage:
    """The message of `driftd test-alert`: real in form, and says that nothing is wrong."""
    return IncidentMessage(
        status=MessageStatus.TEST,
        group_key='{}:{class="test",receiver="' + clean(receiver) + '"}',
        kind_class=KindClass.TEST,
        severity=Severity.INFO,
        title=f"Test notification to {clean(receiver)}: nothing is wrong",
        created_at=now,
        started_at=now,
        reason="test",
        what_to_do="Nothing. If you can read this, the receiver works.",
        links=links,
    )


def place(message: IncidentMessage) -> str:
    """Model, version and segment in words; empty where an incident has none."""
    parts = [clean(message.model)]
    if message.version:
        parts.append(f"version {clean(message.version)}")
    if message.segment:
        parts.append(f"segment {clean(message.segment)}")
    return ", ".join(part for part in parts if part)


def when(message: IncidentMessage) -> str:
    """Since when: it moves, fires, or is over."""
    started = for_readers(message.started_at)
    if message.status is MessageStatus.TEST:
        return f"sent {started}"
    if message.status is MessageStatus.RESOLVED:
        ends = [detail.ends_at for detail in message.alerts if detail.ends_at is not None]
        return f"fired {started}, over {for_readers(max(ends, default=message.created_at))}"
    moving = "" if message.onset is None else f"moving since about {for_readers(message.onset)}, "
    return f"{moving}firing since {started}"


def largest(message: IncidentMessage, most: int, make: Callable[[int], T], fits: Callable[[T], bool]) -> T:
    """What `make` gives for as many alerts of the message as fit, `most` at the most; for none of them, whether it fits or not."""
    for shown in range(min(len(message.alerts), most), 0, -1):
        made = make(shown)
        if fits(made):
            return made
    return make(0)


def plain_text(message: IncidentMessage, alerts: int = _SCREEN_ALERTS) -> str:
    """The incident on one terminal screen: at most about 24 lines of at most 110 code points."""
    lines = [f"[{_tag(message)}] {clean(message.title)}"]
    where = [place(message), "" if message.counts is None else message.counts.sentence()]
    lines += [line for line in (" · ".join(part for part in where if part), when(message)) if line]
    for detail in message.alerts[:alerts]:
        mark = "resolved " if detail.status is MessageStatus.RESOLVED else ""
        lines.append(f"  {mark}{clean(detail.name)}: {clean(detail.summary)}")
        if detail.told_evidence is not None:
            lines += textwrap.wrap(
                cut(clean(detail.told_evidence.sentence()), 2 * _SCREEN_COLUMNS - 20),
                _SCREEN_COLUMNS,
                initial_indent="      ",
                subsequent_indent="      ",
            )
    if len(message.alerts) > alerts:
        lines.append(f"  +{len(message.alerts) - alerts} more")
    if message.baseline:
        lines.append(f"Baseline: {clean(message.baseline)}")
    lines += [f"Changed nearby: {clean(change)}" for change in message.changed_nearby]
    lines += [f"Note: {clean(note)}" for note in message.notes]
    lines = [cut(line, _SCREEN_COLUMNS) for line in lines]
    if message.what_to_do:
        lines += textwrap.wrap(cut(f"What to do: {clean(message.what_to_do)}", 330), _SCREEN_COLUMNS)
    # Commands and links are never cut: half of one does something else.
    lines += [f"  {clean(command)}" for command in message.commands]
    return "\n".join([*lines, *(f"{clean(link.title)}: {clean(link.url)}" for link in message.links)])


def as_json(message: IncidentMessage, max_alerts: int | None = None) -> dict[str, Json]:
    """The message as plain JSON values: times in RFC 3339, absent things null, alerts in rank order."""
    counts = message.counts
    return {
        "status": message.status.value,
        "reason": message.reason,
        "group_key": message.group_key,
        "kind_class": message.kind_class.value,
        "model": message.model,
        "version": message.version,
        "segment": message.segment,
        "severity": message.severity.value,
        "title": message.title,
        "created_at": rfc3339(message.created_at),
        "started_at": rfc3339(message.started_at),
        "counts": None
        if counts is None
        else {
            "affected": counts.affected,
            "total": counts.total,
            "noun": counts.noun,
            "verb": counts.verb,
        },
        "baseline": message.baseline,
        "changed_nearby": list(message.changed_nearby),
        "notes": list(message.notes),
        "what_to_do": message.what_to_do,
        "commands": list(message.commands),
        "links": [{"title": link.title, "url": link.url} for link in message.links],
        "alerts": [_detail_json(detail) for detail in message.alerts[:max_alerts]],
    }


def json_bytes(value: Json) -> bytes:
    """Serialise once, compactly, to UTF-8; NaN is refused, a lone surrogate becomes `?`."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _detail_json(detail: AlertDetail) -> dict[str, Json]:
    evidence = detail.evidence
    return {
        "labels": dict(detail.labels),
        "status": detail.status.value,
        "severity": detail.severity.value,
        "starts_at": rfc3339(detail.starts_at),
        "ends_at": None if detail.ends_at is None else rfc3339(detail.ends_at),
        "summary": detail.summary,
        "effect": detail.effect,
        "page": detail.page,
        "evidence": None
        if evidence is None
        else {
            "detector": evidence.detector,
            "window_seconds": evidence.window_seconds,
            "statistic": evidence.statistic,
            "threshold": evidence.threshold,
            "rows": evidence.rows,
            "baseline_rows": evidence.baseline_rows,
            "evidence": evidence.evidence,
            "since": None if evidence.since is None else rfc3339(evidence.since),
        },
    }


def _rank(detail: AlertDetail) -> tuple[bool, float, str]:
    return detail.status is MessageStatus.RESOLVED, -detail.effect, detail.name


def _tag(message: IncidentMessage) -> str:
    if message.status is MessageStatus.FIRING:
        return message.severity.value.upper()
    return message.status.value.upper()

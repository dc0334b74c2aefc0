"""Silences (an operator's will, for a time) and inhibition (one trouble explains another)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from alerts.errors import AlertError
from alerts.identity import AlertKind, Labels, about_values
from alerts.routing import Matcher, all_match
from alerts.times import aware


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Alerts that match are not notified from starts_at up to, not including, ends_at (wall time).

    As in Alertmanager, at least one matcher must refuse the empty value: else one slip would silence all.
    """

    id: str
    matchers: tuple[Matcher, ...]
    starts_at: datetime
    ends_at: datetime
    author: str
    comment: str = ""

    def __post_init__(self) -> None:
        if aware("ends_at", self.ends_at) < aware("starts_at", self.starts_at):
            raise AlertError("ends_at: a silence must not end before it starts")
        if all(matcher.accepts("") for matcher in self.matchers):
            raise AlertError("matchers: a silence needs one that does not match the empty value")
        if not self.author.strip():
            raise AlertError("author: say who silences")

    def active(self, now: datetime) -> bool:
        """Whether it silences at `now`."""
        return self.starts_at <= aware("now", now) < self.ends_at


def muted(labels: Labels, silences: Iterable[Silence], now: datetime) -> tuple[str, ...]:
    """The ids of the silences that mute an alert now; none means that it speaks."""
    return tuple(s.id for s in silences if s.active(now) and all_match(s.matchers, labels))


def expire(silence: Silence, now: datetime) -> Silence:
    """The silence, ended now; one that has not begun never will; one that has ended stays as it was."""
    now = aware("now", now)
    if now >= silence.ends_at:
        return silence
    return replace(silence, ends_at=max(now, silence.starts_at))


def inhibitors(labels: Labels, firing: Iterable[Labels]) -> tuple[Labels, ...]:
    """The firing alerts that explain this one: no traffic mutes drift and quality of that model.

    A no-traffic alert that names a version or a segment explains only that version or segment.
    """
    if not about_values(AlertKind(labels["kind"])):
        return ()
    return tuple(
        other for other in firing if other.get("kind") == AlertKind.NO_TRAFFIC and _covers(other, labels)
    )


def _covers(other: Labels, labels: Labels) -> bool:
    return other.get("model") == labels.get("model") and all(
        not other.get(name) or other.get(name) == labels.get(name) for name in ("version", "segment")
    )

"""What people must have heard, said in a hundred lines: the model that the whole alert path is held against.

It knows nothing of tables, leases or retries: only what fires, who is mute, and what each receiver was told.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

KEEP = timedelta(minutes=5)
INTERVAL = timedelta(minutes=5)

Name = tuple[str, str]
"""Model and column of an alert; the column '' is the model's no-traffic."""


@dataclass(slots=True, kw_only=True)
class Firing:
    """An alert that fires: how severe, since when its condition is gone, and whether somebody is on it."""

    severity: str
    false_since: datetime | None = None
    acked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A message as a receiver took it for the first time."""

    id: str
    status: str
    firing: frozenset[str]
    at: datetime


@dataclass(slots=True, kw_only=True)
class Truth:
    """What fires, and what is muted until when."""

    firing: dict[Name, Firing] = field(default_factory=dict)
    silenced: dict[str, datetime] = field(default_factory=dict)

    def observe(self, name: Name, condition: str, severity: str, now: datetime) -> None:
        """The lifecycle without `for`: true fires at once, false resolves after KEEP, unknown does nothing."""
        alert = self.firing.get(name)
        if condition == "true":
            if alert is None:
                self.firing[name] = Firing(severity=severity)
            else:
                alert.false_since = None
        elif condition == "false" and alert is not None:
            alert.false_since = alert.false_since or now
            if now - alert.false_since >= KEEP:
                del self.firing[name]

    def muted(self, name: Name, now: datetime) -> bool:
        """Silenced, or explained by its model's lack of traffic."""
        model, column = name
        return now < self.silenced.get(model, now) or (bool(column) and (model, "") in self.firing)

    def speaking(self, group: str, least: str, now: datetime) -> frozenset[str]:
        """Columns that a receiver of severities from `least` up should know of, in the end."""
        return frozenset(
            name[1]
            for name, alert in self.firing.items()
            if group_of(name) == group
            and not self.muted(name, now)
            and (least == "warning" or alert.severity == "critical")
        )

    def fires(self, group: str) -> frozenset[str]:
        """Columns that fire, whoever may hear of it."""
        return frozenset(name[1] for name in self.firing if group_of(name) == group)

    def all_acked(self, group: str, columns: frozenset[str]) -> bool:
        """Whether somebody is on every one of those alerts of the group."""
        return all(
            alert.acked
            for name, alert in self.firing.items()
            if group_of(name) == group and name[1] in columns
        )

    def rises(self, name: Name, severity: str) -> bool:
        """Whether an alert that opens now is more severe than its incident was."""
        others = [alert.severity for other, alert in self.firing.items() if group_of(other) == group_of(name)]
        return name not in self.firing and severity == "critical" and "critical" not in others


def group_of(name: Name) -> str:
    """The incident an alert belongs to: drift of a model, or its traffic."""
    return f"{'drift' if name[1] else 'traffic'} of {name[0]}"


def out_of_order(heard: list[Heard]) -> list[Heard]:
    """Ends of incidents that the receiver had not been told of."""
    wrong, told = [], False
    for message in heard:
        if message.status == "resolved" and not told:
            wrong.append(message)
        told = message.status == "firing"
    return wrong


def most(elapsed: timedelta, rises: int) -> int:
    """The promised bound: one message per interval, one to begin with, and one for each rise of severity."""
    return 1 + elapsed // INTERVAL + rises

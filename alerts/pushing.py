"""When a destination that holds our state, rather than reads our messages, has to be told of it again. Pure.

Alertmanager is told of every alert that fires each minute, and of one that ended for a quarter of an hour. Per
instance and group the newest notification is renewed in place; only a change makes a new one. So while an
instance is down at most two wait: one that is under way, and one with the present. An end stays in it until it was
delivered, however long that takes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from alerts.times import aware

RESEND = timedelta(minutes=1)
AFTER_END = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An alert as it stands. `changed_at`: wall time at which it fired or ended. muted: silenced or inhibited."""

    id: int
    key: str
    firing: bool
    changed_at: datetime
    muted: bool = False


class Stage(StrEnum):
    """How far a notification is."""

    WAITING = "waiting"
    IN_FLIGHT = "in flight"
    SETTLED = "settled"  # sent, or refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """The newest notification of this instance and group: what it tells of, and since when it says so."""

    alert_ids: frozenset[int]
    written_at: datetime
    stage: Stage


class Step(StrEnum):
    """What to do with the outbox."""

    NOTHING = "nothing"
    INSERT = "insert"
    RENEW = "renew"
    DROP = "drop"


def told_of(
    alerts: Sequence[Standing],
    *,
    known: Collection[int],
    unsettled: Collection[int],
    now: datetime,
    send_resolved: bool = True,
) -> tuple[Standing, ...]:
    """What a notification written now has to tell of, firing ones first.

    known: alerts that the destination may have heard of. unsettled: those in notifications that are not delivered.
    A muted alert that is known goes on: to stop re-sending it would read as its end. Of several openings of one
    alert the firing one counts, else the newest.
    """
    firing = {a.key: a for a in alerts if a.firing and (not a.muted or a.id in known)}
    ended: dict[str, Standing] = {}
    for a in sorted(alerts, key=lambda a: a.id):
        recent = a.id in unsettled or aware("now", now) - a.changed_at <= AFTER_END
        if send_resolved and not a.firing and a.id in known and recent and a.key not in firing:
            ended[a.key] = a
    return (*firing.values(), *ended.values())


def step(wanted: Sequence[Standing], newest: Newest | None, now: datetime) -> Step:
    """Whether the outbox needs a new notification (something changed), a renewed one, or none."""
    if not wanted:
        return Step.DROP if newest is not None and newest.stage is Stage.WAITING else Step.NOTHING
    if newest is None:
        return Step.INSERT
    if _changed(wanted, newest, now):
        return Step.RENEW if newest.stage is Stage.WAITING else Step.INSERT
    # Outside of the minute on both sides: a clock that was set back must not stop the re-sends.
    due = not newest.written_at <= now < newest.written_at + RESEND
    return Step.RENEW if due and newest.stage is not Stage.IN_FLIGHT else Step.NOTHING


def _changed(wanted: Sequence[Standing], newest: Newest, now: datetime) -> bool:
    # What was written at the very instant of a change, and still waits, may have been written just before it.
    waits = newest.stage is Stage.WAITING
    return any(
        a.id not in newest.alert_ids
        or newest.written_at < a.changed_at <= now
        or (waits and a.changed_at == newest.written_at)
        for a in wanted
    )

"""The open alerts of one model while boundaries are decided, and how they reach the database.

During a catch-up many boundaries are decided before anything is written; each alert keeps its steps here and
`write` stores them in order, in the transaction of the evaluation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from alerts.identity import AlertKind, Labels, Severity, alert_key, group_key, kind_class
from alerts.lifecycle import (
    INACTIVE,
    AlertState,
    Cause,
    Condition,
    Event,
    LifecycleRule,
    Phase,
    Transition,
    advance,
    close,
)
from monitor.grounds import StoredGround
from storage import alerts as stored
from storage.engine import Connection

Detail = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A transition that is not stored yet, with what readers are shown and what it was decided from."""

    transition: Transition
    detail: Detail
    ground: StoredGround | None


@dataclass(slots=True, kw_only=True)
class Episode:
    """One opening of an alert: its state now, and the steps that are not yet stored."""

    labels: Labels
    state: AlertState = INACTIVE
    detail: Detail = field(default_factory=dict)
    id: int | None = None
    steps: list[Step] = field(default_factory=list)

    @property
    def kind(self) -> AlertKind:
        return AlertKind(self.labels["kind"])

    @property
    def group(self) -> str:
        """The incident it belongs to."""
        return group_key(kind_class(self.kind), self.labels.get("model", ""), self.labels.get("segment", ""))

    @property
    def column(self) -> str:
        return self.labels.get("column", "")


class AlertBook:
    """Every alert of one model that is open now, by identity."""

    def __init__(self, episodes: Mapping[str, Episode]) -> None:
        self._open = dict(episodes)
        self._changed: dict[int, Episode] = {}

    @classmethod
    def load(cls, conn: Connection, model: str) -> "AlertBook":
        """The open alerts of `model` ('' for those without one), as they were last stored."""
        return cls({row.key: _episode(row) for row in stored.active(conn, model)})

    def open_episodes(self) -> tuple[Episode, ...]:
        """Pending and firing alerts."""
        return tuple(self._open.values())

    def find(self, labels: Labels) -> Episode | None:
        """The open episode of that identity."""
        return self._open.get(alert_key(labels))

    def observe(
        self,
        labels: Labels,
        condition: Condition,
        rule: LifecycleRule,
        at: datetime,
        detail: Detail,
        ground: Callable[[], StoredGround | None] = lambda: None,
    ) -> Transition | None:
        """Take in what was seen of one alert at `at`; None when nothing changed.

        `detail` is what a reader is shown; it is taken up when the alert opens, fires or comes back. `ground` is asked
        for only when something changes.
        """
        key = alert_key(labels)
        episode = self._open.get(key) or Episode(labels=labels)
        transition = advance(episode.state, condition, rule, at)
        if transition is not None:
            self._take(key, episode, transition, detail, ground())
        return transition

    def close(self, episode: Episode, cause: Cause, at: datetime) -> Transition | None:
        """End an episode from outside."""
        transition = close(episode.state, cause, at)
        if transition is not None:
            self._take(alert_key(episode.labels), episode, transition, episode.detail, None)
        return transition

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._changed)

    def write(self, conn: Connection, now: datetime) -> set[str]:
        """Store every step and return the groups that changed; to be called once, inside a transaction."""
        for episode in self._changed.values():
            for step in episode.steps:
                _write_step(conn, episode, step, now)
            episode.steps.clear()
        groups = {episode.group for episode in self._changed.values()}
        self._changed.clear()
        return groups

    def _take(
        self,
        key: str,
        episode: Episode,
        transition: Transition,
        detail: Detail,
        ground: StoredGround | None,
    ) -> None:
        episode.state = transition.after
        if transition.event in (Event.OPENED, Event.FIRED, Event.RETURNED):
            episode.detail = detail
        episode.steps.append(Step(transition=transition, detail=episode.detail, ground=ground))
        self._changed[id(episode)] = episode
        if transition.after.open:
            self._open[key] = episode
        else:
            self._open.pop(key, None)


def _episode(row: stored.AlertRow) -> Episode:
    return Episode(
        labels=row.labels,
        id=row.id,
        detail=row.detail,
        state=AlertState(
            phase=Phase(row.state),
            since=row.since,
            active_since=row.active_since,
            firing_since=row.firing_since,
            last_true=row.last_true,
            false_since=row.false_since,
            severity=Severity(row.severity),
        ),
    )


def _write_step(conn: Connection, episode: Episode, taken: Step, now: datetime) -> None:
    step, after, detail = taken.transition, taken.transition.after, taken.detail
    if episode.id is None:
        episode.id = stored.open_alert(conn, _new(episode, after, detail, now))
    elif after.open:
        stored.update_alert(
            conn,
            episode.id,
            state=after.phase.value,
            since=after.since,
            firing_since=after.firing_since,
            fired_at=now if step.event is Event.FIRED else None,
            false_since=after.false_since,
            last_true=after.last_true or step.at,
            detail=detail,
            now=now,
        )
    else:
        resolution = after.cause.value if after.cause is not None else Event.CANCELLED.value
        stored.resolve_alert(conn, episode.id, at=step.at, resolution=resolution, now=now)
    stored.add_transition(
        conn,
        stored.NewTransition(
            alert_id=episode.id,
            from_state=step.before.phase.value,
            to_state=after.phase.value,
            at=step.at,
            recorded_at=now,
            reason=step.event.value,
            evidence=detail,
            ground=None if taken.ground is None else taken.ground.blob,
            baseline_id=None if taken.ground is None else taken.ground.baseline_id,
        ),
    )


def _new(episode: Episode, state: AlertState, detail: Detail, now: datetime) -> stored.NewAlert:
    assert state.active_since is not None
    assert state.severity is not None
    labels = episode.labels
    return stored.NewAlert(
        key=alert_key(labels),
        labels=labels,
        kind=labels["kind"],
        group_key=episode.group,
        model=labels.get("model", ""),
        version=labels.get("version", ""),
        segment=labels.get("segment", ""),
        column=labels.get("column", ""),
        severity=state.severity.value,
        state=state.phase.value,
        since=state.since,
        active_since=state.active_since,
        firing_since=state.firing_since,
        fired_at=now if state.phase is Phase.FIRING else None,
        false_since=state.false_since,
        last_true=state.last_true or state.active_since,
        detail=detail,
        updated_at=now,
    )

"""From a judgement to the alerts of its track: the one place where verdicts meet the lifecycle, live or replayed."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

from alerts.lifecycle import Cause, Event, LifecycleRule, drift_rule
from detectors.decision import magnitude
from monitor.conditions import Seen, of_track, seen
from monitor.config import ModelSettings
from monitor.episodes import AlertBook, Detail
from monitor.grounds import StoredGround
from monitor.instants import from_seconds
from monitor.track import Judgement, Track

Shown = Callable[[Seen], Detail]
"""What a reader is shown of an alert that opens, fires or comes back."""
Grounds = Callable[[Seen], StoredGround | None]
"""What a transition was decided from."""


def observe(
    model: str,
    track: Track,
    judged: Judgement,
    book: AlertBook,
    rule: Callable[[float, timedelta], LifecycleRule],
    shown: Shown,
    ground: Grounds = lambda _: None,
) -> None:
    """Tell every alert of the track what its boundary has shown; what resolves starts again at 0.

    `rule` is that of an effect of the given `magnitude` in a column of the given block length.
    """
    at = from_seconds(judged.boundary)
    resolved = []
    for one in seen(model, track, judged, book):
        size = magnitude(judged.found, one.verdict, one.column)
        block = timedelta(seconds=int(track.calibration.block_seconds[one.column]))
        step = book.observe(
            one.labels, one.condition, rule(size, block), at, shown(one), partial(ground, one)
        )
        if step is not None and step.event is Event.RESOLVED:
            resolved.append(track.baseline.columns[one.column].name)
    if resolved:
        track.forget(resolved)


def retire(track: Track, boundary: int, book: AlertBook) -> None:
    """A version without one row in its longest window has nothing left to be in drift."""
    for episode in book.open_episodes():
        if of_track(episode, track.identity):
            book.close(episode, Cause.RETIRED, from_seconds(boundary))
            track.forget([episode.column])


def rule_for(settings: ModelSettings, size: float, block: timedelta) -> LifecycleRule:
    """When the drift alerts of a model fire and resolve, and how severe one of an effect of that `magnitude` opens.

    `block` is the column's own, learned or configured: what it says is known only every so often, so shorter calm is none.
    """
    return drift_rule(
        block,
        settings.severity.of(size),
        for_=settings.for_duration,
        keep_firing_for=settings.keep_firing_for,
    )

"""The replay: every lane of a model, boundary by boundary, under another configuration."""

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from alerts.identity import Severity, alert_key
from alerts.lifecycle import AlertState, Cause, Event, Phase
from monitor.backtest.comparing import Page, page
from monitor.backtest.lanes import READ_BLOCKS, Lane, Moment, blocks_until, moments
from monitor.backtest.sharing import Shares
from monitor.calibrating import LEARN_EVERY, taught
from monitor.conditions import Seen
from monitor.config import ModelSettings
from monitor.episodes import AlertBook, Detail, Episode
from monitor.instants import from_seconds, to_ns
from monitor.observing import observe, retire, rule_for
from monitor.track import Judgement, rule_of
from monitor.tracks import take_over
from storage.alerts import AlertRow, TransitionRow
from storage.engine import Readable

Told = tuple[AlertRow, Sequence[TransitionRow]]
"""A real alert and its history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Boundaries with start < boundary ≤ end, in epoch seconds."""

    start: int
    end: int


class Replay:
    """One model's lanes under `settings`. `run` once, then read `pages`."""

    def __init__(
        self,
        reader: Readable,
        model: str,
        settings: ModelSettings,
        lanes: Sequence[Lane],
        shares: Shares,
        told: Sequence[Told],
        span: Span,
    ) -> None:
        self._reader = reader
        self._model = model
        self._settings = settings
        self._lanes = lanes
        self._shares = shares
        self._told = told
        self._span = span
        self._book = AlertBook(_open_at(told, from_seconds(span.start)))
        self._episodes: dict[int, Episode] = {}
        self._accepted = deque(sorted(_accepted(told, span), key=lambda act: act[0]))
        self.boundaries = 0

    def run(self, progress: Callable[[float], None] | None = None) -> None:
        """Decide every boundary of the span, in order."""
        for lane in self._lanes:
            self._warm_up(lane)
        streams = [self._stream(place, lane) for place, lane in enumerate(self._lanes)]
        length = max(self._span.end - self._span.start, 1)
        for boundary, place, moment in heapq.merge(*streams, key=lambda item: item[:2]):
            self._accept_before(boundary)
            self._decide(self._lanes[place], moment)
            self.boundaries += not moment.empty
            if progress is not None and self.boundaries % 200 == 0:
                progress((boundary - self._span.start) / length)

    def pages(self) -> list[Page]:
        """What fired in the span, as far as its lane is compared."""
        return [
            found
            for episode in self._episodes.values()
            for found in [_page(episode)]
            if found is not None and self.compared(found)
        ]

    def compared(self, found: Page) -> bool:
        """Whether a page, real or replayed, lies where its version and segment could be decided."""
        at = to_ns(found.at) // 1_000_000_000
        return self._span.start < at <= self._span.end and any(
            lane.track.identity.version == found.version
            and lane.track.identity.segment == found.segment
            and at > lane.compared_from
            for lane in self._lanes
        )

    def _stream(self, place: int, lane: Lane) -> Iterator[tuple[int, int, Moment]]:
        for moment in moments(self._reader, lane):
            yield moment.boundary, place, moment

    def _warm_up(self, lane: Lane) -> None:
        """Bet on everything before the span; what really resolved then started again at 0, and does here."""
        identity, resets = lane.track.identity, []
        for row, _ in self._told:
            if (row.version, row.segment) == (identity.version, identity.segment) and row.resolved_at:
                resets.append((to_ns(row.resolved_at) // 1_000_000_000, row.column))
        for at, column in sorted(resets):
            if lane.known_from < at <= lane.compared_from:
                self._bet_until(lane, at)
                lane.track.forget([column])
        self._bet_until(lane, lane.compared_from)

    def _bet_until(self, lane: Lane, upto: int) -> None:
        """Bet on what ends by `upto` and is not bet on yet, calibrations taking over on the way."""
        while lane.calibrations and lane.calibrations[0][0] < upto:
            at, calibration = lane.calibrations.popleft()
            self._bet(lane, at)
            with self._reader.read() as conn:
                take_over(conn, lane.track, calibration, self._settings, valid_from=at)
        self._bet(lane, upto)

    def _bet(self, lane: Lane, upto: int) -> None:
        last = upto // lane.pane * lane.pane
        done = lane.read_upto if lane.track.upto is None else lane.track.upto
        while done < last:
            done = min(done + READ_BLOCKS * lane.pane, last)
            self._share(lane, done)
            lane.track.bet(done, blocks_until(self._reader, lane, done))

    def _share(self, lane: Lane, boundary: int) -> None:
        identity, track = lane.track.identity, lane.track
        alerted = {e.labels.get("version", "") for e in self._book.open_episodes()}
        share = self._shares.of(identity.version_id, identity.segment, boundary, lane.pane, alerted)
        track.rule = rule_of(track.baseline, self._settings, share=share)

    def _decide(self, lane: Lane, moment: Moment) -> None:
        track, boundary = lane.track, moment.boundary
        # Whatever ended before, where boundaries were skipped; then a calibration that has just come into force.
        self._bet_until(lane, boundary - lane.pane + 1)
        self._share(lane, boundary)
        ended = blocks_until(self._reader, lane, boundary)
        if moment.empty:
            track.bet(boundary, ended)
            retire(track, boundary, self._book)
            return
        judged: Judgement = (
            track.step(boundary, ended)
            if moment.windows is None
            else track.judge(boundary, ended, moment.windows)
        )
        observe(self._model, track, judged, self._book, partial(rule_for, self._settings), _shown)
        for episode in self._book.open_episodes():
            self._episodes[id(episode)] = episode
        self._learn(lane)

    def _learn(self, lane: Lane) -> None:
        """As the live pass does, where nothing that it learned is stored."""
        track = lane.track
        if not lane.learns or not track.learning or track.upto is None:
            return
        lane.learned_at = track.upto if lane.learned_at is None else lane.learned_at
        if track.upto - lane.learned_at < LEARN_EVERY:
            return
        lane.learned_at = track.upto
        with self._reader.read() as conn:
            calibration = taught(conn, track, self._settings)
            if calibration is not None:
                take_over(conn, track, calibration, self._settings, valid_from=track.upto)

    def _accept_before(self, boundary: int) -> None:
        """Operators' acts stay as they were: what was accepted as normal ends in the replay too."""
        while self._accepted and self._accepted[0][0] < boundary:
            at, version = self._accepted.popleft()
            for episode in self._book.open_episodes():
                if episode.labels.get("version") == version:
                    self._book.close(episode, Cause.ACCEPTED, from_seconds(at))


def _accepted(told: Sequence[Told], span: Span) -> Iterator[tuple[int, str]]:
    for row, _ in told:
        if row.resolution == Cause.ACCEPTED and row.resolved_at is not None:
            at = to_ns(row.resolved_at) // 1_000_000_000
            if at > span.start:
                yield at, row.version


def _shown(one: Seen) -> Detail:
    """What a page of the replay is told by."""
    effect = one.verdict.effect
    if effect is None:
        return {}
    return {
        "evidence": {
            "detector": effect.detector,
            "window_seconds": effect.window_seconds,
            "statistic": effect.statistic,
            "threshold": effect.threshold,
            "evidence": one.verdict.evidence,
        }
    }


def _open_at(told: Sequence[Told], at: datetime) -> dict[str, Episode]:
    """The real alerts that were open then, as they stood."""
    found: dict[str, Episode] = {}
    for row, history in told:
        steps = [step for step in history if step.at <= at]
        if not steps or steps[-1].to_state not in (Phase.PENDING, Phase.FIRING):
            continue
        last = steps[-1]
        fired = row.firing_since is not None and row.firing_since <= at
        found[alert_key(row.labels)] = Episode(
            labels=row.labels,
            id=row.id,
            detail=last.evidence,
            state=AlertState(
                phase=Phase(last.to_state),
                since=last.at,
                active_since=row.active_since,
                firing_since=row.firing_since if fired else None,
                last_true=row.active_since,
                false_since=last.at if last.reason == Event.SUBSIDED else None,
                severity=Severity(row.severity),
            ),
        )
    return found


def _page(episode: Episode) -> Page | None:
    """The firing of a replayed episode; None where it never fired, or had fired before the span."""
    fired = next((s for s in episode.steps if s.transition.event is Event.FIRED), None)
    if fired is None:
        return None
    severity = fired.transition.after.severity
    assert severity is not None
    ended = next((s.transition.at for s in episode.steps if s.transition.event is Event.RESOLVED), None)
    return page(
        episode.labels,
        severity=severity.value,
        at=fired.transition.at,
        until=ended,
        shown=fired.detail,
        alert=None,
    )

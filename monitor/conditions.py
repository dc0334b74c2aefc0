"""From a decision to what the alert lifecycle is told: which alert, and whether its condition holds.

Opening needs both keys; an open alert stays while any window's effect holds. Too little data is UNKNOWN: it
opens nothing and resolves nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from alerts.identity import AlertKind, about_values, alert_labels
from alerts.lifecycle import Condition
from detectors.decision import EffectKind, Verdict
from detectors.types import ColumnRole, ColumnState
from monitor.episodes import AlertBook, Episode
from monitor.track import Identity, Judgement, Track

_DRIFT_KINDS = {
    ColumnRole.FEATURE: AlertKind.FEATURE_DRIFT,
    ColumnRole.PREDICTION: AlertKind.PREDICTION_DRIFT,
    ColumnRole.CONFIDENCE: AlertKind.CONFIDENCE_DRIFT,
}
_RATES = frozenset({EffectKind.MISSING, EffectKind.NON_FINITE, EffectKind.OUT_OF_RANGE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One alert's condition at one boundary, with the verdict and column it comes from."""

    labels: dict[str, str]
    condition: Condition
    verdict: Verdict
    column: int


def seen(model: str, track: Track, decision: Judgement, book: AlertBook) -> Iterator[Seen]:
    """What a decision says of every alert that is open or opens now."""
    identity = track.identity
    open_of = {e.column: e for e in book.open_episodes() if of_track(e, identity)}
    for position, verdict in enumerate(decision.verdicts):
        column = track.baseline.columns[position]
        episode = open_of.get(column.name)
        if column.name in track.rule.ignored and episode is None:
            continue
        if episode is not None:
            yield Seen(
                labels=dict(episode.labels),
                condition=_still(episode, verdict, decision.holds[position]),
                verdict=verdict,
                column=position,
            )
        elif verdict.state is ColumnState.DRIFT:
            yield Seen(
                labels=alert_labels(
                    kind_of(verdict, column.role), model, identity.version, identity.segment, column.name
                ),
                condition=Condition.TRUE,
                verdict=verdict,
                column=position,
            )


def kind_of(verdict: Verdict, role: ColumnRole) -> AlertKind:
    """A shift of values is drift of its role; a shift of missing or impossible values is data quality."""
    if verdict.effect is not None and verdict.effect.detector in _RATES:
        return AlertKind.DATA_QUALITY
    return _DRIFT_KINDS[role]


def _still(episode: Episode, verdict: Verdict, holds: bool | None) -> Condition:
    if holds is None:
        return Condition.UNKNOWN
    # A pending alert has not paged yet and needs both keys to; a firing one needs its effect alone.
    if episode.state.firing_since is None:
        return Condition.TRUE if verdict.state is ColumnState.DRIFT else Condition.FALSE
    return Condition.TRUE if holds else Condition.FALSE


def of_track(episode: Episode, identity: Identity) -> bool:
    """Whether an alert is of the values of this version and segment; one column has one such alert open there."""
    labels = episode.labels
    here = labels.get("version") == identity.version and labels.get("segment", "") == identity.segment
    return here and about_values(episode.kind)

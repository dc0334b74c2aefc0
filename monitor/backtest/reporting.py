"""A backtest of one configuration over the store: what is replayed of each model, and what comes of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import storage.cursors
from alerts.identity import AlertKind, about_values
from alerts.lifecycle import Event
from alerts.times import for_readers, span
from detectors.codec import decode_baseline
from monitor.backtest.comparing import Change, Page, compare, page
from monitor.backtest.lanes import THINNED_STEP, Found, Lane, open_lane
from monitor.backtest.replaying import Replay, Span, Told
from monitor.backtest.sharing import Shares
from monitor.bases import Bases
from monitor.catalog import Catalog
from monitor.config import Config, ModelSettings
from monitor.ingest.schema import ModelHandle
from monitor.instants import from_seconds
from monitor.retention import EVALUATIONS_UNTHINNED
from monitor.track import Identity
from storage import alerts, baselines, blocks
from storage.engine import Readable

_MOST_ALERTS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """One model under the configuration: `paged` really, `would_page` in the replay, of the span start to end."""

    model: str
    start: datetime
    end: datetime
    boundaries: int
    paged: int
    would_page: int
    changes: tuple[Change, ...]
    notes: tuple[str, ...]


class UnknownModel(Exception):
    """There is no such model in the store."""


def backtest(
    reader: Readable,
    config: Config,
    *,
    last: timedelta,
    model: str | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> list[ModelReport]:
    """Replay the last so much event time of every model, or of one, under `config`. UnknownModel."""
    catalog = Catalog(reader)
    if model is not None and catalog.model(model) is None:
        known = ", ".join(one.name for one in catalog.models()) or "none"
        raise UnknownModel(f"there is no model {model!r} in the store; there are: {known}")
    wanted = [one for one in catalog.models() if model in (None, one.name)]
    reports = []
    for one in wanted:
        tell = None if progress is None else _telling(progress, one.name)
        reports.append(_model(reader, config.settings(one.name), one, last, tell))
    return reports


def _telling(progress: Callable[[str, float], None], model: str) -> Callable[[float], None]:
    return lambda share: progress(model, share)


def _model(
    reader: Readable,
    settings: ModelSettings,
    model: ModelHandle,
    last: timedelta,
    progress: Callable[[float], None] | None,
) -> ModelReport:
    with reader.read() as conn:
        end = storage.cursors.get(conn, model.model_id).evaluated_upto
    if end is None:
        now = from_seconds(0)
        return _nothing(model, now, "nothing of it has been evaluated yet")
    whole = Span(start=end - int(last.total_seconds()), end=end)
    bases = Bases()
    found = _found(reader, bases, model)
    if not found:
        return _nothing(model, from_seconds(end), "no block of evidence is kept")
    oldest = min(one.first_block for one in found)
    lanes = [
        lane
        for one in found
        for lane in [
            open_lane(
                reader,
                bases,
                model,
                settings,
                one,
                start=max(whole.start, one.first_block),
                end=end,
                oldest=one.first_block == oldest,
            )
        ]
        if lane is not None
    ]
    told = _told(reader, model.name)
    replay = Replay(
        reader, model.name, settings, lanes, Shares(reader, model, settings, _segments(found)), told, whole
    )
    replay.run(progress)
    real = [found for row, history in told for found in [_real(row, history)] if found is not None]
    paged, would = [one for one in real if replay.compared(one)], replay.pages()
    return ModelReport(
        model=model.name,
        start=from_seconds(max(whole.start, oldest)),
        end=from_seconds(end),
        boundaries=replay.boundaries,
        paged=len(paged),
        would_page=len(would),
        changes=compare(paged, would),
        notes=tuple(_notes(whole, found, lanes, settings, oldest)),
    )


def _nothing(model: ModelHandle, at: datetime, why: str) -> ModelReport:
    return ModelReport(
        model=model.name,
        start=at,
        end=at,
        boundaries=0,
        paged=0,
        would_page=0,
        changes=(),
        notes=(why,),
    )


def _found(reader: Readable, bases: Bases, model: ModelHandle) -> list[Found]:
    """Every version, baseline and segment with closed blocks, each baseline of a version in its turn."""
    found = []
    with reader.read() as conn:
        for version in model.versions.values():
            rows = baselines.list_baselines(conn, version.version_id)
            firsts = {row.id: blocks.first_starts(conn, row.id) for row in rows}
            for row in rows:
                if not firsts[row.id]:
                    continue
                base = bases.of(row.id, decode_baseline(baselines.get_blob(conn, row.id)))
                for segment, first in firsts[row.id].items():
                    found.append(
                        Found(
                            identity=Identity(
                                version_id=version.version_id,
                                version=version.version,
                                baseline_id=row.id,
                                segment=segment,
                            ),
                            index=base.of(segment),
                            first_block=first,
                            gone=row.id != version.baseline_id,
                        )
                    )
    return found


def _segments(found: Sequence[Found]) -> Mapping[int, Mapping[str, int]]:
    known: dict[int, dict[str, int]] = {}
    for one in found:
        own = known.setdefault(one.identity.version_id, {})
        segment = one.identity.segment
        own[segment] = min(one.first_block, own.get(segment, one.first_block))
    return known


def _told(reader: Readable, model: str) -> list[Told]:
    """Every real alert of a column's values, oldest first."""
    with reader.read() as conn:
        rows = alerts.list_alerts(conn, model=model, limit=_MOST_ALERTS)
        rows = [row for row in rows if about_values(AlertKind(row.kind))]
        return [(row, alerts.history(conn, row.id)) for row in reversed(rows)]


def _real(row: alerts.AlertRow, history: Sequence[alerts.TransitionRow]) -> Page | None:
    fired = next((step for step in history if step.reason == Event.FIRED), None)
    if fired is None:
        return None
    return page(
        row.labels,
        severity=row.severity,
        at=fired.at,
        until=row.resolved_at,
        shown=fired.evidence,
        alert=row.id,
    )


def _notes(
    whole: Span, found: Sequence[Found], lanes: Sequence[Lane], settings: ModelSettings, oldest: int
) -> list[str]:
    """How far the store reaches, in words."""
    notes = []
    if oldest > whole.start:
        notes.append(f"its blocks reach back to {for_readers(from_seconds(oldest))}: compared from there")
    hourly = any(lane.pane < THINNED_STEP and lane.source == "evaluations" for lane in lanes)
    if hourly and whole.end - max(whole.start, oldest) > EVALUATIONS_UNTHINNED.total_seconds():
        kept = int(EVALUATIONS_UNTHINNED.total_seconds())
        notes.append(
            f"evaluations older than {span(kept)} are kept on the hour only: times there are to the hour"
        )
    windows = ", ".join(span(window.total_seconds()) for window in settings.windows)
    summed = [lane for lane in lanes if lane.source == "panes"]
    if summed:
        pane = span(summed[0].pane)
        short = [
            lane.compared_from for lane in summed if lane.compared_from > max(whole.start, lane.known_from)
        ]
        since = f"from {for_readers(from_seconds(max(short)))} on" if short else "all of it"
        notes.append(
            f"windows of {windows} were not all evaluated and need panes of {pane}, which cover {since}: compared there"
        )
    starts = {lane.compared_from for lane in lanes if lane.source == "evaluations"} - {whole.start}
    late = [at for at in starts if at not in {one.first_block for one in found}]
    if late:
        since = for_readers(from_seconds(max(late)))
        notes.append(f"windows of {windows} are evaluated since {since}: compared from there")
    if not lanes:
        notes.append("nothing of the span can be decided from what is kept")
    return notes

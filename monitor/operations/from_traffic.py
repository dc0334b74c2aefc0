"""A baseline of what a version answered over a span, for a model whose training data nobody has, or has any more."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import numpy as np

from detectors.codec import encode_baseline
from detectors.decision import Calibration, ColumnLearning
from detectors.decision.learning import LEAST_SPAN
from detectors.profile import Baseline
from detectors.types import ColumnRole, ColumnType
from monitor.app import Service
from monitor.calibrating import block_seconds
from monitor.ingest.schema import VersionHandle
from monitor.instants import from_seconds
from monitor.operations.baselines import register_baseline
from monitor.operations.errors import Conflicting, Invalid, NotKnown
from monitor.operations.traffic import Span, Traffic, built, collect, outline

FEW_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficOptions:
    """Which columns and how: as for a baseline of training files. None leaves the pane as it is."""

    include: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    types: Mapping[str, ColumnType] = field(default_factory=dict)
    pane_seconds: int | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficColumn:
    """One column of what was built; `learning` is its state, None where nothing could be learned."""

    name: str
    role: str
    type: str
    dtype: str
    missing: int
    learning: str | None = None
    block_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficBaseline:
    """What became of it. `kept_share` (0 to 1) of the span's rows were still there to build it from."""

    model: str
    version: str
    fingerprint: str
    stored: bool
    start: datetime
    end: datetime
    rows: int
    kept_share: float
    warnings: tuple[str, ...]
    columns: tuple[TrafficColumn, ...]


def baseline_from_traffic(
    service: Service, *, model: str, version: str, span: Span, options: TrafficOptions, actor: str
) -> TrafficBaseline:
    """Build the baseline of a version from its retained rows of a span, and make it the version's own.

    NotKnown for an unknown version, Invalid for a span or an option that makes no sense, Conflicting where fewer than
    100 rows are kept. How columns move is learned from the same rows where they span 14 days.
    """
    handle = _handle(service, model, version)
    if span.end <= span.start:
        raise Invalid("to: the span ends before it begins", "/to")
    pane = options.pane_seconds or _pane(service, model, handle)
    shape = handle.baseline
    if shape is None:
        shape = outline(service, handle.version_id, span, pane, options.types)
    elif options.types:
        raise Invalid(
            f"types: version {version!r} has a baseline, whose types are kept; build from a file to change them",
            "/types",
        )
    traffic = _chosen(collect(service, handle.version_id, shape, span), options)
    baseline = built(traffic, shape, pane, traffic.words(span))
    taught = _taught(service, model, baseline, traffic)
    if not options.dry_run:
        register_baseline(
            service,
            model=model,
            version=version,
            blob=encode_baseline(baseline),
            calibration=None if taught is None else taught.encode(),
            actor=actor,
        )
    return TrafficBaseline(
        model=model,
        version=version,
        fingerprint=baseline.fingerprint,
        stored=not options.dry_run,
        start=from_seconds(span.start),
        end=from_seconds(span.end),
        rows=traffic.rows,
        kept_share=traffic.kept_share,
        warnings=tuple(_warnings(traffic, taught)),
        columns=_columns(baseline, taught),
    )


def _handle(service: Service, model: str, version: str) -> VersionHandle:
    known = service.catalog.model(model)
    if known is None:
        raise NotKnown(f"there is no model {model!r}")
    if version not in known.versions:
        raise NotKnown(f"model {model!r} has no version {version!r}")
    return known.versions[version]


def _pane(service: Service, model: str, handle: VersionHandle) -> int:
    if handle.baseline is not None:
        return handle.baseline.pane_seconds
    return int(service.config.settings(model).pane.total_seconds())


def _chosen(traffic: Traffic, options: TrafficOptions) -> Traffic:
    """The columns that are asked for; prediction and confidence are left out by name alone."""
    names = [column.name for column in traffic.columns]
    for option, given in (("include", options.include), ("ignore", options.ignore)):
        _check(option, given, names)
    kept = tuple(
        column
        for column in traffic.columns
        if column.name not in options.ignore
        and (not options.include or column.role is not ColumnRole.FEATURE or column.name in options.include)
    )
    if not kept:
        raise Invalid("ignore: no column is left", "/ignore")
    return replace(traffic, columns=kept)


def _check(option: str, given: Collection[str], names: Collection[str]) -> None:
    for name in given:
        if name not in names:
            raise Invalid(
                f"{option}: the traffic has no column {name!r}; it has {', '.join(names)}", f"/{option}"
            )


def _taught(service: Service, model: str, baseline: Baseline, traffic: Traffic) -> Calibration | None:
    if not traffic.rows or int(np.ptp(traffic.seconds)) < LEAST_SPAN:
        return None
    # pandas comes with it; nothing that only ingests should wait for that.
    from monitor.training import LearningOptions, TrainingError
    from monitor.training.learning import learned

    settings = service.config.settings(model)
    learning = LearningOptions(
        time="of the traffic",
        windows=tuple(int(window.total_seconds()) for window in settings.windows),
        block_seconds=block_seconds(baseline, settings),
        false_pages_per_year=settings.false_pages_per_year,
        weights=settings.weights,
        ignored=frozenset(settings.ignore),
    )
    try:
        return learned(learning, baseline, traffic.columns, traffic.seconds)
    except TrainingError as error:
        raise Conflicting(str(error)) from None


def _warnings(traffic: Traffic, taught: Calibration | None) -> list[str]:
    found = []
    if traffic.rows < FEW_ROWS:
        found.append(
            f"{traffic.rows} rows are few: the smallest shift that can be told from chance is large; take a longer span"
        )
    if traffic.kept_share < 1.0:
        found.append(f"{traffic.kept_share:.0%} of the span's rows are still kept: it is built from these")
    if traffic.step > 1:
        found.append(f"more rows than memory should hold: every {traffic.step}th was taken")
    if taught is None:
        found.append("the rows span less than 14 days: nothing is learned of how columns move by nature")
    elif ColumnLearning.LEARNING in taught.states:
        found.append("the span does not suffice to learn how some columns move by nature: see LEARNING")
    return found


def _columns(baseline: Baseline, taught: Calibration | None) -> tuple[TrafficColumn, ...]:
    learned: list[tuple[Any, Any]] = [(None, None)] * len(baseline.columns)
    if taught is not None:
        states = [state.value for state in taught.states]
        learned = list(zip(states, taught.block_seconds.tolist(), strict=True))
    return tuple(
        TrafficColumn(
            name=column.name,
            role=column.role.value,
            type=column.type.value,
            dtype=column.dtype,
            missing=int(baseline.profile.counts[baseline.layout.missing[position]]),
            learning=learned[position][0],
            block_seconds=learned[position][1],
        )
        for position, column in enumerate(baseline.columns)
    )

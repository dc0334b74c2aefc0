"""Which rows of a decoded batch are taken, and what is said of the others."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.types import IntArray
from monitor.ingest.batch import Batch
from monitor.ingest.decoded import Decoded
from monitor.ingest.errors import Issue, unprocessable
from monitor.ingest.schema import VersionHandle, fit
from monitor.ingest.times import (
    EventTimeError,
    TimeLimits,
    clock_drift,
    drift_warning,
    outside,
    parse_times,
    refusal,
    time_ns,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The outcome for one body: the batch of its good rows (None if there are none), counts, at most 100 issues."""

    batch: Batch | None
    accepted: int
    rejected: int
    errors: tuple[Issue, ...] = ()
    warnings: tuple[Issue, ...] = field(default=())


def accept(
    decoded: Decoded,
    version: VersionHandle,
    now_ns: int,
    watermark_ns: int | None,
    limits: TimeLimits,
    sent_ns: int | None = None,
) -> Accepted:
    """Keep the rows whose values fit the baseline and whose event times fit the model's span.

    Call it once per decoded batch: it adds to `decoded.faults`. `watermark_ns` is None before a model's first
    batch. IngestError where the batch as a whole cannot be used.

    `sent_ns` is what the sender's clock showed when it sent: where that is 55 minutes or more from `now_ns`, times by
    that clock are corrected, and a warning says so. Rows without a time got that of the daemon and stay.
    """
    faults = decoded.faults
    fitted = fit(decoded, version.baseline)
    times, said = corrected_times(decoded, now_ns, sent_ns)
    warnings = (*said, *fitted.warnings)
    span = limits.span(now_ns, watermark_ns)
    late = outside(times, span)
    if late is not None:
        for row in np.flatnonzero(late & faults.good).tolist():
            detail = refusal(int(times[row]), now_ns, span)
            faults.reject(row, time_pointer(decoded, row), detail)
    rejected = faults.rejected
    errors = tuple(faults.issues)
    if rejected == decoded.rows:
        return Accepted(batch=None, accepted=0, rejected=rejected, errors=errors, warnings=warnings)
    batch = Batch(
        id=decoded.id,
        model_version=decoded.model_version,
        parameters=decoded.parameters,
        rows=decoded.rows,
        times_ns=times,
        tensors=fitted.tensors,
        tags=decoded.tags,
        row_ids=decoded.row_ids,
        body_sha256=decoded.body_sha256,
    )
    if rejected:
        batch = _select(batch, decoded)
    return Accepted(batch=batch, accepted=batch.rows, rejected=rejected, errors=errors, warnings=warnings)


def corrected_times(decoded: Decoded, now_ns: int, sent_ns: int | None) -> tuple[IntArray, tuple[Issue, ...]]:
    """An int64 time per row by the daemon's clock, and a warning where the sender's was so wrong that it was corrected."""
    times = event_times(decoded, now_ns)
    drift = clock_drift(sent_ns, now_ns)
    theirs = _by_their_clock(decoded)
    if not drift or not theirs.any():
        return times, ()
    moved = np.where(theirs, _moved(times, drift), times)
    return moved, (Issue(pointer="/parameters/sent_at", detail=drift_warning(drift)),)


def event_times(decoded: Decoded, now_ns: int) -> IntArray:
    """An int64 time per row, by the sender's clock; rows without one get the batch's, else the time received."""
    times = decoded.times
    default = now_ns
    if times.value is not None:
        try:
            default = time_ns(times.value)
        except EventTimeError as error:
            raise unprocessable(times.value_pointer, str(error)) from error
    if times.values is None:
        return np.full(decoded.rows, default, dtype=np.int64)
    if isinstance(times.values, np.ndarray):
        return times.values
    alike = parse_times(times.values)
    if alike is not None:
        return alike
    parsed = np.full(decoded.rows, default, dtype=np.int64)
    for row, value in enumerate(times.values):
        if value is not None:
            _parse_into(parsed, row, value, decoded)
    return parsed


def _by_their_clock(decoded: Decoded) -> npt.NDArray[np.bool_]:
    """Which rows [N] carry a time of the sender's, their own or the batch's."""
    times = decoded.times
    if times.value is not None or isinstance(times.values, np.ndarray):
        return np.ones(decoded.rows, dtype=np.bool_)
    if times.values is None:
        return np.zeros(decoded.rows, dtype=np.bool_)
    return np.array([value is not None for value in times.values], dtype=np.bool_)


def _moved(times: IntArray, drift_ns: int) -> IntArray:
    """Times moved, those at the ends of what int64 holds no further than there."""
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    least, most = (low, high - drift_ns) if drift_ns > 0 else (low - drift_ns, high)
    return np.asarray(np.clip(times, least, most) + drift_ns)


def _parse_into(parsed: IntArray, row: int, value: Any, decoded: Decoded) -> None:
    try:
        parsed[row] = time_ns(value)
    except EventTimeError as error:
        # The row keeps the default time, which nobody reads: it is rejected.
        decoded.faults.reject(row, decoded.times.place.at(row), str(error))


def time_pointer(decoded: Decoded, row: int) -> str:
    """Where the time of a row stands in the body; '' where the body says none."""
    times = decoded.times
    if times.values is not None and (isinstance(times.values, np.ndarray) or times.values[row] is not None):
        return times.place.at(row)
    return times.value_pointer if times.value is not None else ""


def _select(batch: Batch, decoded: Decoded) -> Batch:
    good = decoded.faults.good
    return replace(
        batch,
        rows=int(good.sum()),
        times_ns=batch.times_ns[good],
        tensors=tuple(tensor.select(good) for tensor in batch.tensors),
        tags={key: tag.select(good) for key, tag in batch.tags.items()},
        row_ids=batch.row_ids.select(good) if batch.row_ids is not None else None,
    )

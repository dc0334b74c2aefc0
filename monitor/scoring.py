"""Scoring: predictions old enough to have their labels meet them, once each.

A batch is scored `labels_mature_after` after it came, whatever labels have come by then: an earlier look would be biased
wherever the delay of a label depends on what it says. Its counts enter the hours of its predictions, and the model moves on past it,
in one transaction: a crash repeats nothing and forgets nothing. Rows whose payload retention has taken by then are not scored.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detectors.profile import Baseline, CategoricalColumn, Column
from detectors.types import ColumnRole, ColumnType, FloatArray, IntArray
from monitor.counting import HOUR, read_batches
from monitor.ingest.batch import RAW_CODEC, Batch, text_tensor
from monitor.ingest.frame import frame
from monitor.ingest.labels import labelled_column, prediction_columns
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.segments import Segments
from monitor.watermark import NANOSECONDS
from storage import batches, labels, locks, performances
from storage.batches import StoredBatch
from storage.engine import Connection, Database
from storage.performances import PerformanceRow

GROUP: Final = 256
GROUP_BYTES: Final = 2**20
"""Batches scored at once, at most: some 10,000 rows, a fifth of a second."""
GROUPS: Final = 4
"""Groups per model and look: what comes meanwhile is folded between looks, and waits no longer."""
FAR: Final = 10_000
"""A model without batches moves on all the same once so many of others have come: nobody looks through them twice. It
stays half as many behind, lest it pass a batch whose id is given and whose transaction is not yet committed.
"""
FARTHEST: Final = 1e100
"""Errors beyond it count as so much: the square of a wild one is no float any more, and would be the end of every sum."""

Flags = npt.NDArray[np.bool_]
Found = Mapping[tuple[str, str], str]
"""Labels, by request and the name they were told under."""

log = logging.getLogger("driftd.scoring")


class Scorer:
    """Scores the batches of one database. Not thread-safe: one loop owns it."""

    def __init__(self, database: Database, writer: str, segments: Segments) -> None:
        self._database = database
        self._writer = writer
        self._segments = segments

    def step(
        self, model: ModelHandle, mature_after: timedelta, segment_keys: Sequence[str], now: datetime
    ) -> bool:
        """Score one group of batches; whether there may be more. Raises Overtaken where another daemon did."""
        with self._database.read() as conn:
            before = performances.scored_upto(conn, model.model_id)
            mature = batches.id_before(conn, now - mature_after)
            group = [] if before is None else self._group(conn, model.model_id, before, mature)
            readable, _ = read_batches(group)
            ids = {text for batch in readable for text in _request_ids(batch) if text}
            found = labels.of_requests(conn, model.model_id, sorted(ids))
        if before is not None and not group and mature - before < FAR:
            return False
        # What had come before labels were asked for has none.
        idle = mature if before is None else mature - FAR // 2
        after = group[-1].id if group else idle
        rows = [
            row
            for version in model.versions.values()
            for row in self._scored(
                [batch for batch in readable if batch.model_version == version.version],
                version,
                segment_keys,
                found,
            )
        ]

        def write(conn: Connection) -> None:
            locks.living(conn, self._writer)
            performances.move(conn, model.model_id, before=before, after=after)
            performances.add(conn, _summed(rows))

        self._database.write(write).result()
        return bool(group)

    def _group(self, conn: Connection, model_id: int, before: int, mature: int) -> list[StoredBatch]:
        return batches.retained(
            conn,
            model_id,
            after_id=before,
            upto_id=mature,
            codec=RAW_CODEC,
            limit=GROUP,
            most_bytes=GROUP_BYTES,
        )

    def _scored(
        self, group: Sequence[Batch], version: VersionHandle, segment_keys: Sequence[str], found: Found
    ) -> Iterator[PerformanceRow]:
        """Nothing of a version without a baseline: nobody knows yet which of its columns are predictions."""
        if not group or version.baseline is None or version.baseline_id is None:
            return
        segments: dict[str, IntArray] = {"": np.arange(sum(batch.rows for batch in group))}
        for key in segment_keys:
            values = [value for batch in group for value in batch.tag_values(key)]
            segments |= dict(self._segments.rows_of(version.baseline_id, key, values))
        for column, scores in scored(group, version.baseline, found).items():
            for segment, chosen in segments.items():
                yield from scores.by_hour(version.version_id, segment, column, chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One column of some batches [N]: which rows had a request id, a label, and how far the prediction was from it.

    `error` is prediction less label, 0.0 of categories and where there is no label; `confidence` is NaN where it is unknown.
    """

    hours: IntArray
    identified: Flags
    labelled: Flags
    correct: Flags
    error: FloatArray
    confidence: FloatArray

    def by_hour(
        self, version_id: int, segment: str, column: str, chosen: IntArray
    ) -> Iterator[PerformanceRow]:
        """The sums of the chosen rows, an hour each."""
        hours = self.hours[chosen]
        for hour in np.unique(hours).tolist():
            rows = chosen[hours == hour]
            labelled, error = self.labelled[rows], self.error[rows]
            confident = labelled & ~np.isnan(self.confidence[rows])
            yield PerformanceRow(
                version_id=version_id,
                segment=segment,
                column=column,
                start=hour * HOUR,
                rows=rows.size,
                identified=int(self.identified[rows].sum()),
                labelled=int(labelled.sum()),
                correct=int(self.correct[rows].sum()),
                error=float(error.sum()),
                absolute_error=float(np.abs(error).sum()),
                squared_error=float((error * error).sum()),
                confident=int(confident.sum()),
                confidence=float(self.confidence[rows][confident].sum()),
            )


def scored(group: Sequence[Batch], baseline: Baseline, found: Found) -> dict[str, Scores]:
    """Each prediction column of the batches (at least one) against the labels of their requests.

    A label is read as its prediction is: rounded to the column's dtype, or as a category's text. A prediction that is missing
    has no label to be right about.
    """
    columns = prediction_columns(baseline)
    wanted = {*columns, *(c.name for c in baseline.columns if c.role is ColumnRole.CONFIDENCE)}
    values = frame(group, baseline, wanted)
    ids = [text for batch in group for text in _request_ids(batch)]
    truths = _truths(group[0], baseline, ids, found)
    confidence = next(
        (values[c.name] for c in baseline.columns if c.role is ColumnRole.CONFIDENCE),
        np.full(len(ids), np.nan),
    )
    identified = np.array([bool(text) for text in ids], dtype=np.bool_)
    hours = np.concatenate([batch.times_ns for batch in group]) // (HOUR * NANOSECONDS)
    return {
        name: Scores(
            hours=hours,
            identified=identified,
            confidence=confidence.astype(np.float64),
            **_compared(column, values[name], truths.get(name)),
        )
        for name, column in columns.items()
    }


def _request_ids(batch: Batch) -> list[str | None]:
    return [None] * batch.rows if batch.row_ids is None else batch.row_ids.texts()


def _truths(
    like: Batch, baseline: Baseline, ids: Sequence[str | None], found: Found
) -> Mapping[str, npt.NDArray[Any]]:
    """The labels [N] of each column that has some, as `frame` would give them as predictions of a batch `like` that.

    A column has several names (its own, its tensor's, its role's): each was taken by itself, and is looked up by itself. Of a
    row's labels under several of them that under the column's own name stands.
    """
    columns = prediction_columns(baseline)
    told: dict[str, list[str]] = {}
    for name in sorted({name for _, name in found}):
        column = labelled_column(baseline, name)
        if column is not None:
            told.setdefault(column, []).append(name)
    tensors = []
    for meant, names in told.items():
        names.sort(key=lambda name: name != meant)
        texts = [
            next((found[text, n] for n in names if (text, n) in found), None) if text else None
            for text in ids
        ]
        tensors.append(text_tensor(meant, [_as_category(text, columns[meant]) for text in texts]))
    if not tensors:
        return {}
    return frame([replace(like, rows=len(ids), tensors=tuple(tensors))], baseline, told.keys())


_NUMBERS: Final = {"true": "1", "false": "0"}
_TRUTHS: Final = {"1": "true", "0": "false"}


def _as_category(text: str | None, column: Column) -> str | None:
    """A truth value for a category that is counted as a number, and the reverse: who labels may write either."""
    if text is None or not isinstance(column, CategoricalColumn):
        return text
    if column.dtype == "bool":
        return _TRUTHS.get(text, text)
    return _NUMBERS.get(text, text) if column.dtype.startswith(("int", "uint", "float")) else text


def _compared(column: Column, predicted: npt.NDArray[Any], truth: npt.NDArray[Any] | None) -> dict[str, Any]:
    rows = predicted.shape[0]
    if truth is None:
        nothing = np.zeros(rows, dtype=np.bool_)
        return {"labelled": nothing, "correct": nothing, "error": np.zeros(rows)}
    if isinstance(column, CategoricalColumn) or column.type is ColumnType.TEXT:
        labelled = np.array([p is not None and t is not None for p, t in zip(predicted, truth, strict=True)])
        return {"labelled": labelled, "correct": labelled & (predicted == truth), "error": np.zeros(rows)}
    p, t = predicted.astype(np.float64), truth.astype(np.float64)
    labelled = np.isfinite(p) & np.isfinite(t)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(labelled, np.clip(p - t, -FARTHEST, FARTHEST), 0.0)
    return {"labelled": labelled, "correct": labelled & (error == 0.0), "error": error}


def _summed(rows: Sequence[PerformanceRow]) -> list[PerformanceRow]:
    """One row per hour: batches of the same hour are written together."""
    sums: dict[tuple[int, str, str, int], PerformanceRow] = {}
    for row in rows:
        key = (row.version_id, row.segment, row.column, row.start)
        sums[key] = row if key not in sums else performances.summed([sums[key], row])
    return list(sums.values())

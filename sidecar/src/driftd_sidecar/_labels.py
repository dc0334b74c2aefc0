"""Labels: the true values of predictions, known minutes or weeks later and told by the predictions' request ids."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from driftd_sidecar._buffer import Buffer
from driftd_sidecar._calls import Call, CallRecipe, Texts, allowed, times_array
from driftd_sidecar._kind import Kind
from driftd_sidecar._notices import Notices
from driftd_sidecar._tensors import DATATYPES, AnyArray, CaptureError, Refused, cost_of, rows_of
from driftd_sidecar._wire import as_bytes

PREDICTION = "prediction"
_PIECE_ROWS = (
    1000  # of a call, kept together: a batch is cut between pieces, and what finds no room is dropped by them
)
_PIECE_BYTES = 65_536
_CALL_BYTES = 640  # a tuple, its dicts, its times
_COLUMN_BYTES = 96  # an array header and its place
_ID_BYTES = 64  # a bytes object and its place, beside its text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Labels:
    """One call out of the caller's reach: ids, event times int64 [N] in nanoseconds, and the values [N] by column."""

    ids: Sequence[bytes]
    times_ns: AnyArray
    columns: Mapping[str, AnyArray]

    def pieces(self) -> Iterator[Call]:
        """Calls of at most a thousand rows and about 64 KiB, without the rows that have no id."""
        named = np.flatnonzero([bool(each) for each in self.ids])
        size = sum(map(len, self.ids)) + sum(map(cost_of, self.columns.values()))
        step = max(1, min(_PIECE_ROWS, _PIECE_BYTES * len(self.ids) // max(1, size)))
        for first in range(0, len(named), step):
            yield self._call(named[first : first + step])

    def _call(self, chosen: AnyArray) -> Call:
        ids = tuple(self.ids[row] for row in chosen.tolist())
        columns = {name: values[chosen] for name, values in self.columns.items()}
        size = sum(map(len, ids)) + sum(_COLUMN_BYTES + cost_of(values) for values in columns.values())
        return Call(
            time_ns=self.times_ns[chosen],
            request_id=ids,
            tags={},
            inputs={},
            outputs=columns,
            rows=len(ids),
            cost=_CALL_BYTES + size + (_ID_BYTES + 8) * len(ids),
        )


class LabelLog:
    """Takes the labels of one logger. `joined`: whether the daemon gets rows that it can join them to."""

    def __init__(self, *, buffer: Buffer, notices: Notices, clock: Callable[[], int], joined: bool) -> None:
        self._buffer = buffer
        self._notices = notices
        self._clock = clock
        self._joined = joined
        self._lane = buffer.lane(CallRecipe(notices=notices, tags={}, kind=Kind.LABELS))

    def log(self, request_id: Texts, labels: object, time_ns: object) -> None:
        """Appends the labels of N predictions. Never raises: what cannot be kept is counted, and said once."""
        if not self._joined:
            self._lost(
                _count(request_id), "in edge mode no rows reach the daemon that they could be joined to"
            )
            return
        try:
            taken = self._taken(request_id, labels, self._clock() if time_ns is None else time_ns)
            calls = list(taken.pieces())
        except Exception as error:  # nothing of ours may reach the caller
            self._lost(_count(request_id), str(error), key=type(error).__name__)
            return
        if nameless := sum(not each for each in taken.ids):
            self._lost(nameless, "their request id is empty")
        for call in calls:
            if not self._buffer.offer(self._lane, (call,)):
                self._notices.once(
                    "labels", "labels are dropped: the buffer is full, or the logger is closed"
                )

    def _lost(self, rows: int, reason: str, *, key: str = "") -> None:
        self._buffer.count_error(rows, admitted=False, kind=Kind.LABELS)
        self._notices.once(f"labels {key or reason}", "labels are dropped: %s", reason)

    def _taken(self, request_id: Texts, labels: object, time_ns: object) -> _Labels:
        ids = [as_bytes(each) for each in _each(request_id)]
        given = labels if isinstance(labels, Mapping) else {PREDICTION: labels}
        columns: dict[str, AnyArray] = {}
        for name, values in given.items():
            try:
                columns[allowed(name)] = _column(values, len(ids))
            except CaptureError as reason:
                self._notices.once(f"labels {name}", "labels of %r are not shipped: %s", name, reason)
        if not columns:
            raise CaptureError("there is no column with a value for each request id")
        return _Labels(ids=ids, times_ns=times_array(time_ns, len(ids)), columns=columns)


def _each(request_id: Texts) -> Sequence[object]:
    return (request_id,) if isinstance(request_id, str | bytes) else tuple(request_id)


def _count(request_id: Texts) -> int:
    """The rows of a call that failed, whatever it was called with."""
    try:
        return len(_each(request_id))
    except Exception:  # as that may be anything
        return 1


def _column(values: object, rows: int) -> AnyArray:
    """One value [rows] per id: numbers or truth values, or texts as bytes. CaptureError for anything else."""
    found = rows_of(values)
    if isinstance(found, Refused):
        raise CaptureError(found.reason)
    if isinstance(found, list):
        raise CaptureError("a mapping is no label")
    if found.shape not in ((rows,), (rows, 1)) and (found.ndim or rows != 1):
        raise CaptureError(f"its shape {found.shape} has not one value for each request id, {rows} here")
    found = found.reshape(rows)
    if found.dtype.kind in "OUS":
        try:
            return np.array([as_bytes(each) for each in found.tolist()], object)
        except TypeError as reason:
            raise CaptureError(str(reason)) from None
    if f"{found.dtype.kind}{found.dtype.itemsize}" not in DATATYPES:
        raise CaptureError(f"the wire format has no datatype for {found.dtype}")
    return found

"""Counts as a sender ships them: panes of rows that it counted itself, on the cells of a baseline.

`{id?, model_version, fingerprint, parameters?, panes: [{start, rows, rows_seen, first, last, segment?, hours?, columns:
[{name, gaps, counts, mean?, m2?}]}]}`. Nothing is believed: every count must add up with every other of its pane.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from detectors.coarse import coarsen
from detectors.counts import Layout
from detectors.profile import Baseline, Profile
from monitor.ingest.counted import CountedPane
from monitor.ingest.decoded import DecodeLimits
from monitor.ingest.envelope import body_parameters, check_batch_id, check_keys, check_name, strict_decode
from monitor.ingest.errors import MalformedError, unprocessable
from monitor.ingest.posted_columns import PostedColumn, fill
from monitor.ingest.strictjson import check_text, text_traps

MEDIA_TYPE: Final = "application/vnd.driftd.counts+json"
MAX_PANES: Final = 10_000
MAX_SLOTS: Final = 20_000_000
"""Of all panes of a batch together, filled or not: they take eight bytes each while the batch is looked at."""
MAX_ROWS: Final = 10**12
"""Rows of a pane, and rows they stand for: sums of many panes stay far from what int64 holds."""
HOUR: Final = 3_600
_SECOND: Final = 1_000_000_000
_LATEST: Final = 2**63 // _SECOND - 366 * 86_400
_PANE_KEYS: Final = 6
_COLUMN_KEYS: Final = 3


class _Pane(msgspec.Struct, forbid_unknown_fields=True):
    start: int
    rows: int
    rows_seen: int
    first: int
    last: int
    columns: list[PostedColumn]
    segment: str | UnsetType = UNSET
    hours: list[tuple[int, int]] | UnsetType = UNSET

    @property
    def keys(self) -> int:
        """How many keys it was decoded from."""
        given = sum((c.mean is not UNSET) + (c.m2 is not UNSET) for c in self.columns)
        optional = (self.segment is not UNSET) + (self.hours is not UNSET)
        return _PANE_KEYS + optional + _COLUMN_KEYS * len(self.columns) + given


class _Head(msgspec.Struct, forbid_unknown_fields=True):
    model_version: str
    fingerprint: str
    panes: list[_Pane]
    id: str | UnsetType | None = UNSET
    parameters: Raw | UnsetType = UNSET


_DECODER: Final = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpenedCounts:
    """A body whose JSON has been read and whose counts have not been looked at."""

    id: str | None
    model_version: str
    fingerprint: str
    parameters: Mapping[str, Any]
    panes: Sequence[_Pane]
    body_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PostedPane:
    """One pane that adds up. `first_ns` and `last_ns` are the event times of its earliest and latest row.

    `hours` are rows per hour, by its start in epoch seconds, of a pane of all rows; a segment's are empty.
    """

    counted: CountedPane
    first_ns: int
    last_ns: int
    hours: Mapping[int, int]
    pointer: str


def open_counts(body: bytes, limits: DecodeLimits) -> OpenedCounts:
    """Read a body of counts. MalformedError (400) for what is no JSON, UnprocessableError (422) for a wrong key or type."""
    check_text(body)
    if not body.lstrip(b" \t\r\n").startswith(b"{"):
        raise MalformedError("the body is not a JSON object")
    text, _ = text_traps(body)
    head: _Head = strict_decode(_DECODER.decode, text)
    parameters, parameter_keys = body_parameters(head.parameters)
    present = 3 + (head.id is not UNSET) + (head.parameters is not UNSET)
    check_keys(text, present + parameter_keys + sum(pane.keys for pane in head.panes))
    check_name(head.model_version, "/model_version", limits)
    batch_id = None if head.id is UNSET else head.id
    if batch_id is not None:
        check_batch_id(batch_id, limits)
    if not 0 < len(head.panes) <= MAX_PANES:
        raise unprocessable("/panes", f"a batch has 1 to {MAX_PANES} panes, not {len(head.panes)}")
    return OpenedCounts(
        id=batch_id,
        model_version=head.model_version,
        fingerprint=head.fingerprint,
        parameters=parameters,
        panes=head.panes,
        body_sha256=hashlib.sha256(body).hexdigest(),
    )


def read_panes(opened: OpenedCounts, baseline: Baseline, segment_keys: Sequence[str]) -> list[PostedPane]:
    """Every pane, counted on this baseline; those of tags that make no segments are looked at and left out.

    UnprocessableError (422) names the first place that does not add up.
    """
    layouts = {False: baseline.layout}
    if any(pane.segment is not UNSET for pane in opened.panes):
        layouts[True] = coarsen(baseline).layout
    slots = sum(layouts[pane.segment is not UNSET].length for pane in opened.panes)
    if slots > MAX_SLOTS:
        raise unprocessable(
            "/panes", f"these panes have {slots} slots, at most {MAX_SLOTS}; send fewer at once"
        )
    found: dict[tuple[str, int], PostedPane] = {}
    for number, pane in enumerate(opened.panes):
        pointer = f"/panes/{number}"
        segment = _segment(pane, pointer)
        read = _read(pane, segment, layouts[bool(segment)], baseline.pane_seconds, pointer)
        if (segment, pane.start) in found:
            raise unprocessable(pointer, f"a second pane of {segment or 'all rows'!r} from {pane.start} on")
        found[segment, pane.start] = read
    for (_, start), read in found.items():
        whole = found.get(("", start))
        if whole is None or whole.counted.profile.rows < read.counted.profile.rows:
            raise unprocessable(
                f"{read.pointer}/segment",
                "rows of a segment are among all rows of their pane, which has fewer",
            )
    return [pane for (segment, _), pane in found.items() if not segment or _key(segment) in segment_keys]


def _segment(pane: _Pane, pointer: str) -> str:
    if pane.segment is UNSET:
        return ""
    key, equals, value = pane.segment.partition("=")
    if not key or not equals or not value or len(pane.segment) > 401 or "\x00" in pane.segment:
        raise unprocessable(f"{pointer}/segment", "a segment is KEY=VALUE, of at most 200 characters each")
    return pane.segment


def _key(segment: str) -> str:
    return segment.partition("=")[0]


def _read(pane: _Pane, segment: str, layout: Layout, pane_seconds: int, pointer: str) -> PostedPane:
    if not abs(pane.start) <= _LATEST or pane.start % pane_seconds:
        raise unprocessable(f"{pointer}/start", f"a pane starts at a multiple of {pane_seconds} seconds")
    if not 0 < pane.rows <= MAX_ROWS:
        raise unprocessable(f"{pointer}/rows", f"a pane has 1 to {MAX_ROWS} rows, not {pane.rows}")
    if not pane.rows <= pane.rows_seen <= MAX_ROWS:
        raise unprocessable(f"{pointer}/rows_seen", "at least the rows counted were seen")
    begin, end = pane.start * _SECOND, (pane.start + pane_seconds) * _SECOND
    if not begin <= pane.first < end:
        raise unprocessable(
            f"{pointer}/first", "the first row happened in its pane; send nanoseconds since 1970"
        )
    if not pane.first <= pane.last < end:
        raise unprocessable(f"{pointer}/last", "the last row happened in its pane, and not before the first")
    profile = Profile.zeros(layout)
    if len(pane.columns) != len(layout.columns):
        raise unprocessable(
            f"{pointer}/columns",
            f"the baseline has {len(layout.columns)} columns, the pane {len(pane.columns)}",
        )
    for position, column in enumerate(pane.columns):
        place = f"{pointer}/columns/{position}"
        fill(column, layout, position, pane.rows, profile, place)
    return PostedPane(
        counted=CountedPane(
            segment=segment,
            start=pane.start,
            rows_seen=pane.rows_seen,
            profile=Profile(rows=pane.rows, counts=profile.counts, moments=profile.moments),
        ),
        first_ns=pane.first,
        last_ns=pane.last,
        hours={} if segment else _hours(pane, pane_seconds, f"{pointer}/hours"),
        pointer=pointer,
    )


def _hours(pane: _Pane, pane_seconds: int, pointer: str) -> Mapping[int, int]:
    """Rows per hour: of a pane within one hour there is nothing to be told."""
    if pane_seconds <= HOUR:
        if pane.hours is not UNSET:
            raise unprocessable(pointer, "hours are told of panes longer than an hour")
        return {pane.start // HOUR * HOUR: pane.rows}
    if pane.hours is UNSET:
        raise unprocessable(
            pointer, "a pane longer than an hour tells its rows per hour, [[start, rows], ...]"
        )
    hours = dict(pane.hours)
    inside = range(pane.start, pane.start + pane_seconds, HOUR)
    if len(hours) != len(pane.hours) or not all(hour in inside for hour in hours):
        raise unprocessable(
            pointer, "each hour of the pane comes at most once, by its start in epoch seconds"
        )
    if min(hours.values(), default=0) < 0 or sum(hours.values()) != pane.rows:
        raise unprocessable(pointer, f"the hours do not add up to the {pane.rows} rows of the pane")
    return hours

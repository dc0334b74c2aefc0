"""Rows as counts: what batches of one model version come to on their baseline's cells, and its stored form.

Whoever counts leaves the rows out: the daemon where a model keeps none, a sender that ships counts, or the fold
itself a moment before it adds them to the panes. All three come to the same, so that folding knows one thing only.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from detectors.codec import decode_profile, encode_profile
from detectors.counts import Layout
from detectors.profile import Profile
from monitor.ingest.elements import Buffer
from monitor.ingest.errors import PayloadDamagedError
from monitor.ingest.sealed import seal, unseal

COUNTS_CODEC: Final = 2
_TOGETHER: Final = 16
"""Profiles of one pane merged at once: a wide one takes half a MiB, and a group may hold hundreds."""

LayoutOf = Callable[[str], Layout]
"""The layout on which a segment ('' for all rows) of a baseline is counted."""


class OtherBaselineError(Exception):
    """Counts of a baseline that whoever reads them does not have at hand: `fingerprint`."""

    def __init__(self, fingerprint: str) -> None:
        super().__init__(f"its rows were counted on the baseline {fingerprint!r}")
        self.fingerprint = fingerprint


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountedPane:
    """The rows of one segment ('' for all) that happened in the pane from `start` (epoch seconds) on.

    `rows_seen` were served for them: more than were counted, where the sender sampled. A segment's profile is on the
    coarse view of the baseline (`detectors.coarse`).
    """

    segment: str
    start: int
    rows_seen: int
    profile: Profile


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountedBatch:
    """Rows counted on the baseline of that `fingerprint`: each segment and pane at most once.

    `hours` are rows per hour, by its start in epoch seconds: a pane may be as long as a day.
    """

    fingerprint: str
    panes: tuple[CountedPane, ...]
    hours: Mapping[int, int]

    @property
    def rows(self) -> int:
        """How many rows were counted."""
        return sum(self.hours.values())


def add_up(fingerprint: str, parts: Iterable[CountedBatch]) -> CountedBatch:
    """All rows of `parts`, which were counted on that baseline; they are taken one by one and need not fit in memory."""
    found: dict[tuple[str, int], list[Profile]] = {}
    seen: dict[tuple[str, int], int] = {}
    hours: dict[int, int] = {}
    for part in parts:
        if part.fingerprint != fingerprint:
            raise OtherBaselineError(part.fingerprint)
        for pane in part.panes:
            key = (pane.segment, pane.start)
            profiles = found.setdefault(key, [])
            profiles.append(pane.profile)
            if len(profiles) == _TOGETHER:
                profiles[:] = [Profile.merge(profiles)]
            seen[key] = seen.get(key, 0) + pane.rows_seen
        for hour, rows in part.hours.items():
            hours[hour] = hours.get(hour, 0) + rows
    panes = tuple(
        CountedPane(
            segment=segment,
            start=start,
            rows_seen=seen[segment, start],
            profile=profiles[0] if len(profiles) == 1 else Profile.merge(profiles),
        )
        for (segment, start), profiles in found.items()
    )
    return CountedBatch(fingerprint=fingerprint, panes=panes, hours=hours)


def encode_counts(counted: CountedBatch) -> bytes:
    """The counts as self-describing bytes: the frame of every payload, a JSON header, then the profiles in its order."""
    profiles = [encode_profile(pane.profile) for pane in counted.panes]
    header = {
        "baseline": counted.fingerprint,
        "hours": sorted(counted.hours.items()),
        "panes": [
            [pane.segment, pane.start, pane.rows_seen, len(profile)]
            for pane, profile in zip(counted.panes, profiles, strict=True)
        ],
    }
    return seal(COUNTS_CODEC, header, profiles)


def counted_on(payload: Buffer) -> str:
    """The fingerprint of the baseline that a payload of counts was counted on. PayloadDamagedError."""
    header, _ = unseal(payload, COUNTS_CODEC)
    try:
        return str(header["baseline"])
    except (KeyError, TypeError) as error:
        raise _damaged(error) from error


def decode_counts(payload: Buffer, fingerprint: str, layout_of: LayoutOf) -> CountedBatch:
    """The counts that `encode_counts` wrote, with the layouts of the baseline of that fingerprint.

    OtherBaselineError where they are of another baseline, PayloadDamagedError where the bytes are not what was written.
    """
    header, buffers = unseal(payload, COUNTS_CODEC)
    try:
        if header["baseline"] != fingerprint:
            raise OtherBaselineError(str(header["baseline"]))
        return _read(header, buffers, layout_of)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(error) from error


def _read(header: Mapping[str, Any], buffers: memoryview, layout_of: LayoutOf) -> CountedBatch:
    panes: list[CountedPane] = []
    at = 0
    for segment, start, rows_seen, size in header["panes"]:
        profile = decode_profile(layout_of(segment), bytes(buffers[at : at + size]))
        panes.append(
            CountedPane(segment=segment, start=int(start), rows_seen=int(rows_seen), profile=profile)
        )
        at += size
    if at != buffers.nbytes:
        raise ValueError("profiles and header differ in length")
    hours = {int(hour): int(rows) for hour, rows in header["hours"]}
    return CountedBatch(fingerprint=header["baseline"], panes=tuple(panes), hours=hours)


def _damaged(error: Exception) -> PayloadDamagedError:
    return PayloadDamagedError(f"the payload's header and profiles disagree: {error}")

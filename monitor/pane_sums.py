"""Adding rows to panes, and to the longer panes that these are already part of.

A pane of minutes is summed up to an hour once the hour is over (`monitor.rollup`), an hour to a day. Rows that come
later belong to all three: whoever writes the returned panes does so in one transaction, so they get there once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from detectors.codec import decode_profile, encode_profile
from detectors.counts import Layout
from detectors.profile import Profile
from storage import panes
from storage.engine import Connection
from storage.panes import PaneKey, PaneRow

HOUR: Final = 3_600
DAY: Final = 86_400

LayoutOf = Callable[[str], Layout]
"""The layout that a segment of the baseline is counted in."""
SegmentStart = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose panes: those of one baseline, written by one writer."""

    version_id: int
    baseline_id: int
    writer: str
    layout_of: LayoutOf

    def key(self, segment: str, resolution: int, start: int) -> PaneKey:
        """The key of one of its panes."""
        return PaneKey(
            baseline_id=self.baseline_id,
            segment=segment,
            resolution=resolution,
            start=start,
            writer=self.writer,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What is added to one pane: counted rows, and how many were served for them."""

    profile: Profile
    rows_seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """The whole panes to write, and the profiles of those of the resolution that was added to."""

    rows: tuple[PaneRow, ...]
    merged: Mapping[SegmentStart, Profile]


def longer(resolution: int) -> int | None:
    """The length of the panes that panes of this length are summed up to; None for days.

    >>> longer(60), longer(3600), longer(21600), longer(86400)
    (3600, 86400, 86400, None)
    """
    if resolution < HOUR:
        return HOUR
    return DAY if resolution < DAY else None


def added(
    conn: Connection, owner: Owner, resolution: int, deltas: Mapping[SegmentStart, Sequence[Delta]]
) -> Sums:
    """The panes as they are once the deltas, by segment and pane start, are added to them.

    Parts are merged in the order given, behind what is stored: the same additions give the same bits.
    """
    rows, merged, upwards = _level(conn, owner, resolution, deltas)
    above = longer(resolution)
    while upwards and above is not None:
        more, _, upwards = _level(conn, owner, above, upwards)
        rows += more
        above = longer(above)
    return Sums(rows=tuple(rows), merged=merged)


def _level(
    conn: Connection, owner: Owner, resolution: int, deltas: Mapping[SegmentStart, Sequence[Delta]]
) -> tuple[list[PaneRow], dict[SegmentStart, Profile], dict[SegmentStart, list[Delta]]]:
    """One resolution: its panes, their profiles, and what has to be added one resolution above."""
    above = longer(resolution)
    stored = panes.get(conn, [owner.key(segment, resolution, start) for segment, start in deltas])
    rows: list[PaneRow] = []
    merged: dict[SegmentStart, Profile] = {}
    upwards: dict[SegmentStart, list[Delta]] = {}
    for (segment, start), parts in deltas.items():
        key = owner.key(segment, resolution, start)
        old = stored.get(key)
        profiles = [part.profile for part in parts]
        if old is not None:
            profiles.insert(0, decode_profile(owner.layout_of(segment), old.profile))
        whole = profiles[0] if len(profiles) == 1 else Profile.merge(profiles)
        merged[segment, start] = whole
        rows.append(
            PaneRow(
                version_id=owner.version_id,
                baseline_id=owner.baseline_id,
                segment=segment,
                resolution=resolution,
                start=start,
                writer=owner.writer,
                rows=whole.rows,
                rows_seen=sum(part.rows_seen for part in parts) + (old.rows_seen if old else 0),
                profile=encode_profile(whole),
                rolled=old.rolled if old else 0,
            )
        )
        if old is not None and old.rolled and above is not None:
            upwards.setdefault((segment, start // above * above), []).extend(parts)
    return rows, merged, upwards

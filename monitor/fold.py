"""Which block of evidence counted rows enter: each row exactly one.

The pure half of the fold. The block is the one of the pane while that is open, else the next one to close: rows that
come late still bear evidence, once.
"""

from collections.abc import Iterable

from detectors.profile import Profile
from monitor.ingest.counted import CountedPane


def block_start(pane_start: int, block_seconds: int, evaluated_upto: int | None) -> int:
    """The block that the rows of a pane enter: their own while it is open, else the next one to close."""
    own = pane_start // block_seconds * block_seconds
    if evaluated_upto is None or own + block_seconds > evaluated_upto:
        return own
    return evaluated_upto // block_seconds * block_seconds


def by_block(
    panes: Iterable[CountedPane], *, block_seconds: int, evaluated_upto: int | None
) -> dict[tuple[str, int], Profile]:
    """What enters each block, by segment and start. `evaluated_upto` is the model's last closed boundary, epoch seconds."""
    found: dict[tuple[str, int], list[Profile]] = {}
    for pane in panes:
        start = block_start(pane.start, block_seconds, evaluated_upto)
        found.setdefault((pane.segment, start), []).append(pane.profile)
    return {
        key: profiles[0] if len(profiles) == 1 else Profile.merge(profiles) for key, profiles in found.items()
    }

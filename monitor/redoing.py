"""Deciding a stored transition again, and saying exactly what differs where it does not come out the same.

Effects come from the counts stored with the transition, evidence from the table `blocks` as long as the blocks are
kept, with the bands and the budget that were in force.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np

from detectors.decision import BlockEvents, EventIndex, Ground, Redone, as_json, redo
from monitor.track import measure
from storage import blocks
from storage.alerts import TransitionRow
from storage.engine import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One transition decided again: `differences` is empty where every bit is the same.

    `blocks_from` says where its blocks came from: the table, the copy stored with the transition where the
    table keeps them no longer, or nowhere, because none of the column's blocks closed there.
    """

    at: datetime
    reason: str
    identical: bool
    differences: tuple[str, ...]
    blocks_from: Literal["blocks", "transition", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A transition with its ground and the verdict decided from it again."""

    row: TransitionRow
    index: EventIndex
    ground: Ground
    redone: Redone
    check: Check


def decide_again(conn: Connection, index: EventIndex, segment: str, row: TransitionRow) -> Again:
    """Decide one transition again; it must have a ground on the index's baseline. DetectorError on damage."""
    assert row.ground is not None
    assert row.baseline_id is not None
    ground = Ground.decode(index.baseline, row.ground)
    kept = [column_block(conn, index, ground, row.baseline_id, segment, start) for start, _ in ground.blocks]
    differences = [
        f"the block of {start}: stored with other counts than were bet on"
        for (start, bet_on), found in zip(ground.blocks, kept, strict=True)
        if found is not None and not _same(bet_on, found)
    ]
    used = [
        (start, bet_on if found is None else found)
        for (start, bet_on), found in zip(ground.blocks, kept, strict=True)
    ]
    redone = redo(index, ground, measure, used)
    differences += _differences(ground.verdict, as_json(redone.verdict, redone.holds))
    return Again(
        row=row,
        index=index,
        ground=ground,
        redone=redone,
        check=Check(
            at=row.at,
            reason=row.reason,
            identical=not differences,
            differences=tuple(differences),
            blocks_from=_origin(kept),
        ),
    )


def column_block(
    conn: Connection, index: EventIndex, ground: Ground, baseline_id: int, segment: str, start: int
) -> BlockEvents | None:
    """The ground's column in the block at `start`, over all writers, from the table; None where it is not kept."""
    rows = blocks.list_blocks(
        conn,
        baseline_id,
        segment,
        start=start,
        end=start + ground.rules.block_seconds,
        length=index.baseline.pane_seconds,
        closed=True,
    )
    first = int(index.starts[index.baseline.layout.position(ground.column)])
    mine = slice(first, first + ground.low.size)
    total: BlockEvents | None = None
    for row in rows:
        whole = BlockEvents.decode(row.events)
        part = BlockEvents(hits=whole.hits[mine], totals=whole.totals[mine])
        total = part if total is None else total + part
    return total


def _same(one: BlockEvents, other: BlockEvents) -> bool:
    return np.array_equal(one.hits, other.hits) and np.array_equal(one.totals, other.totals)


def _origin(kept: Sequence[BlockEvents | None]) -> Literal["blocks", "transition", "none"]:
    if not kept:
        return "none"
    return "transition" if any(found is None for found in kept) else "blocks"


def _differences(then: Mapping[str, Any], now: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """Every value that is not the same, by its path."""
    for name in sorted({*then, *now}):
        before, after = then.get(name), now.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _differences(before, after, f"{place}{name}.")
        elif before != after:
            yield f"{place}{name}: {before!r} was decided, {after!r} comes out now"

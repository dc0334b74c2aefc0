"""Grounds: everything that one column's verdict at one boundary was decided from, so that it can be decided again.

Only the column's own part is kept: its counts in every window, the evidence before the blocks of this boundary, those
blocks, its bands, thresholds and budget as they were in force, and the verdict. `redo` puts that part back in its place,
the other columns empty, and runs the very functions that decided, so the answer is the same to the last bit, whatever has happened
since to configuration, calibration and retention.

Bytes (`DGR`, 1), sealed with a CRC-32, little-endian: length of a JSON text int64, the JSON text (sorted keys), then float64
`r` [e, 2, 5], `low` [e], `high` [e], `thresholds` [5, W], and the blocks' events and the windows' profiles in their codecs.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np

from detectors.codec import decode_profile, encode_profile
from detectors.counts import Layout, Profile
from detectors.decision.bands import Bands
from detectors.decision.calibration import CalibrationSource, ColumnLearning
from detectors.decision.classic import decide_by
from detectors.decision.effect import (
    EFFECT_KINDS,
    VALUE_KINDS,
    Effects,
    Thresholds,
    Windows,
    effect_holds,
    effects,
)
from detectors.decision.events import BlockEvents, EventIndex
from detectors.decision.evidence import NOT_GROWING, STAKES, Evidence, advance
from detectors.decision.preset import threshold_origin
from detectors.decision.stored import seal, unseal
from detectors.decision.verdict import Verdict
from detectors.paging import ClassicKind, ClassicRule, Preset
from detectors.profile import Baseline
from detectors.types import DetectorError, FloatArray, IntArray

_MAGIC: Final = b"DGR\x01"

Measure = Callable[[Baseline, IntArray, IntArray, IntArray], Windows]
"""KS and PSI of windows, from their lengths, counts and rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What was in force for the column. `block_seconds` is the length of its blocks, `budget` what each of them may
    spend, from `false_pages_per_year` and the column's `share` of it. `learning`, `source` and `span` (epoch seconds) say
    what the bands rest on; `configured` are the effect kinds whose thresholds the operator set, in place of those of the
    `preset`. `classic` is the peers' rule in force, if any, and `paging` are the positions of the columns that had a
    budget under it.
    """

    block_seconds: int
    budget: float
    false_pages_per_year: float
    share: float
    learning: ColumnLearning
    source: CalibrationSource
    span: tuple[int, int]
    configured: tuple[str, ...]
    preset: Preset
    classic: ClassicRule | None
    paging: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ground:
    """See the module's text. The column has e events, and there are W windows.

    `windows` in seconds [W], each with its profile of this column alone in `profiles`. `thresholds` float64 [5, W], in
    the order of `EFFECT_KINDS`. `low`, `high` float64 [e] are its bands. `r` float64 [e, 2, 5] and `since` are its evidence
    before the `blocks`, each with its start (epoch seconds). `verdict` is what came of it, as plain JSON.
    """

    column: str
    boundary: int
    rules: Rules
    windows: tuple[int, ...]
    profiles: tuple[Profile, ...]
    thresholds: FloatArray
    low: FloatArray
    high: FloatArray
    r: FloatArray
    since: int
    blocks: tuple[tuple[int, BlockEvents], ...]
    verdict: Mapping[str, Any]

    def encode(self) -> bytes:
        """The exact bits: about 2 KB, and the windows' counts."""
        blocks = [events.encode() for _, events in self.blocks]
        profiles = [encode_profile(profile) for profile in self.profiles]
        head = json.dumps(
            {
                "column": self.column,
                "boundary": self.boundary,
                "rules": asdict(self.rules),
                "windows": self.windows,
                "events": self.low.size,
                "since": self.since,
                "blocks": [[start, len(data)] for (start, _), data in zip(self.blocks, blocks, strict=True)],
                "profiles": [len(data) for data in profiles],
                "verdict": self.verdict,
            },
            sort_keys=True,
        ).encode()
        floats = (self.r, self.low, self.high, self.thresholds)
        parts = [len(head).to_bytes(8, "little"), head, *(part.astype("<f8").tobytes() for part in floats)]
        return seal(_MAGIC, b"".join((*parts, *blocks, *profiles)))

    @classmethod
    def decode(cls, baseline: Baseline, data: bytes) -> Self:
        """What was encoded, of a column of `baseline`; DetectorError on damage."""
        body = unseal(_MAGIC, data, "grounds")
        try:
            return cls._read(baseline, body)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DetectorError(f"grounds: the stored bytes are damaged: {error}") from error

    @classmethod
    def _read(cls, baseline: Baseline, body: bytes) -> Self:
        at = 8 + int.from_bytes(body[:8], "little")
        head = json.loads(body[8:at])
        events, windows = head["events"], tuple(head["windows"])
        floats: list[FloatArray] = []
        for shape in ((events, 2, len(STAKES)), (events,), (events,), (len(EFFECT_KINDS), len(windows))):
            size = int(np.prod(shape))
            floats.append(np.frombuffer(body, "<f8", size, at).astype(np.float64).reshape(shape))
            at += 8 * size
        blocks = []
        for start, length in head["blocks"]:
            blocks.append((start, BlockEvents.decode(body[at : at + length])))
            at += length
        alone = Layout.of([baseline.columns[baseline.layout.position(head["column"])]])
        profiles = []
        for length in head["profiles"]:
            profiles.append(decode_profile(alone, body[at : at + length]))
            at += length
        rules = head["rules"]
        return cls(
            column=head["column"],
            boundary=head["boundary"],
            rules=Rules(
                **rules
                | {
                    "learning": ColumnLearning(rules["learning"]),
                    "source": CalibrationSource(rules["source"]),
                    "span": tuple(rules["span"]),
                    "configured": tuple(rules["configured"]),
                    "preset": Preset(rules["preset"]),
                    "classic": _classic(rules["classic"]),
                    "paging": tuple(rules["paging"]),
                }
            ),
            windows=windows,
            profiles=tuple(profiles),
            r=floats[0],
            low=floats[1],
            high=floats[2],
            thresholds=floats[3],
            since=head["since"],
            blocks=tuple(blocks),
            verdict=head["verdict"],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Redone:
    """A verdict decided again: `position` is the column's, `evidence` that after its blocks."""

    position: int
    found: Effects
    evidence: Evidence
    verdict: Verdict
    holds: bool | None


def redo(
    index: EventIndex,
    ground: Ground,
    measure: Measure,
    blocks: Sequence[tuple[int, BlockEvents]] | None = None,
) -> Redone:
    """Decide again from a ground; `blocks`, the column's own events, take the place of those it holds."""
    position = index.baseline.layout.position(ground.column)
    first = int(index.starts[position])
    mine = slice(first, first + ground.low.size)
    evidence = _evidence(index, ground, position, mine)
    budget = np.zeros(index.starts.size)
    budget[position] = ground.rules.budget
    for start, events in ground.blocks if blocks is None else blocks:
        evidence = advance(
            evidence,
            _placed(index, events, mine),
            _bands(index, ground, mine),
            budget,
            block_start=start,
            columns=np.arange(index.starts.size) == position,
        )
    found = effects(index, _windows(index.baseline, ground, measure), _thresholds(index, ground, position))
    seconds = np.ones(index.starts.size, dtype=np.int64)
    seconds[position] = ground.rules.block_seconds
    may_page = np.zeros(index.starts.size, dtype=np.bool_)
    may_page[list(ground.rules.paging)] = True
    found, verdicts = decide_by(
        ground.rules.classic,
        index,
        found,
        evidence,
        may_page=may_page,
        false_pages_per_year=ground.rules.false_pages_per_year,
        block_seconds=seconds,
    )
    return Redone(
        position=position,
        found=found,
        evidence=evidence,
        verdict=verdicts[position],
        holds=effect_holds(found)[position],
    )


def as_json(verdict: Verdict, holds: bool | None) -> dict[str, Any]:
    """A verdict as a ground keeps it; two are equal exactly when every bit is."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(verdict)))
    return plain | {"holds": holds}


def window_profile(baseline: Baseline, ground: Ground, window: int) -> Profile:
    """One of its windows as a profile of `baseline` in which every value of the other columns is missing."""
    layout = baseline.layout
    position = layout.position(ground.column)
    alone = ground.profiles[window]
    counts = np.zeros(layout.length, dtype=np.int64)
    counts[layout.missing] = alone.rows
    counts[layout.slices[position]] = alone.counts
    moments = np.zeros((len(layout.columns), 3))
    moments[position] = alone.moments[0]
    return Profile(rows=alone.rows, counts=counts, moments=moments)


def threshold_source(rules: Rules, detector: str) -> str:
    """Whose threshold an effect was compared with: `configured`, `learned`, `preset A` or `preset C`."""
    return "configured" if detector in rules.configured else threshold_origin(rules.learning, rules.preset)


def _classic(stored: Mapping[str, Any] | None) -> ClassicRule | None:
    if stored is None:
        return None
    return ClassicRule(kind=ClassicKind(stored["kind"]), threshold=stored["threshold"])


def _windows(baseline: Baseline, ground: Ground, measure: Measure) -> Windows:
    profiles = [window_profile(baseline, ground, window) for window in range(len(ground.windows))]
    return measure(
        baseline,
        np.array(ground.windows, dtype=np.int64),
        np.stack([profile.counts for profile in profiles]),
        np.array([profile.rows for profile in profiles], dtype=np.int64),
    )


def _evidence(index: EventIndex, ground: Ground, position: int, mine: slice) -> Evidence:
    r = np.zeros((index.column.size, 2, len(STAKES)))
    since = np.full(index.starts.size, NOT_GROWING, dtype=np.int64)
    r[mine], since[position] = ground.r, ground.since
    return Evidence(r=r, starts=index.starts, since=since)


def _placed(index: EventIndex, events: BlockEvents, mine: slice) -> BlockEvents:
    hits, totals = np.zeros((2, index.column.size), dtype=np.int64)
    hits[mine], totals[mine] = events.hits, events.totals
    return BlockEvents(hits=hits, totals=totals)


def _bands(index: EventIndex, ground: Ground, mine: slice) -> Bands:
    low, high = np.zeros(index.column.size), np.ones(index.column.size)
    low[mine], high[mine] = ground.low, ground.high
    return Bands(low=low, high=high)


def _thresholds(index: EventIndex, ground: Ground, position: int) -> Thresholds:
    kinds, windows = ground.thresholds.shape
    table = np.full((kinds, windows, index.starts.size), np.inf)
    table[..., position] = ground.thresholds
    return Thresholds(theta=table[0], psi=table[1], rates=table[VALUE_KINDS:])

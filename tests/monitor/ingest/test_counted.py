"""Counts as a payload: the bytes come back as they went, and nothing else comes back."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.coarse import coarsen
from detectors.codec import decode_baseline
from detectors.counts import Layout
from detectors.profile import Profile
from monitor.ingest.counted import (
    COUNTS_CODEC,
    CountedBatch,
    CountedPane,
    OtherBaselineError,
    add_up,
    counted_on,
    decode_counts,
    encode_counts,
)
from monitor.ingest.errors import PayloadDamagedError

GOLDEN = Path(__file__).parents[2] / "golden"
BASELINE = decode_baseline((GOLDEN / "baseline_v1.bin").read_bytes())
COARSE = coarsen(BASELINE)


def layout_of(segment: str) -> Layout:
    return COARSE.layout if segment else BASELINE.layout


def pane(segment: str, start: int, counts: list[int], *, seen: int = 9) -> CountedPane:
    profile = Profile(
        rows=sum(counts),
        counts=np.array(counts, dtype=np.int64),
        moments=np.array([[3.0, 0.1, -0.0], [0.0, 0.0, 0.0]]),
    )
    return CountedPane(segment=segment, start=start, rows_seen=seen, profile=profile)


def counted(*panes: CountedPane) -> CountedBatch:
    return CountedBatch(fingerprint=BASELINE.fingerprint, panes=panes, hours={-3600: 3, 0: 2})


WHOLE = counted(
    pane("", -60, [0, 300, 7, 70_000, 0, 5, 0, 2**40, 200, 100, 12, 0, 70_000], seen=2**40),
    pane("größe=ä", 0, list(range(13))),
)


def same(one: CountedBatch, other: CountedBatch) -> bool:
    return (one.fingerprint, one.hours) == (other.fingerprint, other.hours) and all(
        (a.segment, a.start, a.rows_seen, a.profile.rows) == (b.segment, b.start, b.rows_seen, b.profile.rows)
        and np.array_equal(a.profile.counts, b.profile.counts)
        and a.profile.moments.tobytes() == b.profile.moments.tobytes()
        for a, b in zip(one.panes, other.panes, strict=True)
    )


def test_counts_come_back_bit_for_bit() -> None:
    payload = encode_counts(WHOLE)
    assert same(decode_counts(payload, BASELINE.fingerprint, layout_of), WHOLE)
    assert counted_on(payload) == BASELINE.fingerprint
    assert WHOLE.rows == 5


def test_stored_counts_are_still_read() -> None:
    stored = (GOLDEN / "counts_v2.bin").read_bytes()
    assert same(decode_counts(stored, BASELINE.fingerprint, layout_of), WHOLE)
    # Read by hand, as the frame documents it.
    magic, codec, header_bytes, checksum = struct.unpack_from("<4sBxxxII", stored)
    assert (magic, codec, checksum) == (b"dfpl", COUNTS_CODEC, zlib.crc32(stored[16:]))
    header = json.loads(stored[16 : 16 + header_bytes])
    assert header["baseline"] == BASELINE.fingerprint
    assert header["hours"] == [[-3600, 3], [0, 2]]
    assert [part[:3] for part in header["panes"]] == [["", -60, 2**40], ["größe=ä", 0, 9]]
    assert sum(part[3] for part in header["panes"]) == len(stored) - 16 - header_bytes


def test_every_damaged_byte_and_every_cut_is_noticed() -> None:
    payload = encode_counts(WHOLE)
    for at in range(len(payload)):
        if at in (5, 6, 7):  # the three reserved bytes of the head carry nothing
            continue
        damaged = bytearray(payload)
        damaged[at] ^= 0x10
        with pytest.raises(PayloadDamagedError):
            decode_counts(damaged, BASELINE.fingerprint, layout_of)
    for broken in (*(payload[:cut] for cut in range(len(payload))), payload + b"x"):
        with pytest.raises(PayloadDamagedError):
            decode_counts(broken, BASELINE.fingerprint, layout_of)
        with pytest.raises(PayloadDamagedError):
            counted_on(broken)


def test_counts_of_another_baseline_or_layout_are_told_apart() -> None:
    payload = encode_counts(WHOLE)
    with pytest.raises(OtherBaselineError, match=BASELINE.fingerprint):
        decode_counts(payload, "0" * 64, layout_of)
    narrow = Layout.of(BASELINE.columns[:1])
    with pytest.raises(PayloadDamagedError, match="13 slots of 2 columns"):
        decode_counts(payload, BASELINE.fingerprint, lambda _: narrow)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["", "a=b"]), st.sampled_from([0, 60]), st.integers(0, 2**40))))
def test_counts_add_up(parts: list[tuple[str, int, int]]) -> None:
    batches = [counted(pane(segment, start, [n] * 13, seen=n)) for segment, start, n in parts]
    total = add_up(BASELINE.fingerprint, batches)
    assert total.rows == 5 * len(parts)
    found = {(p.segment, p.start): p for p in total.panes}
    assert found.keys() == {part[:2] for part in parts}
    for key, whole in found.items():
        mine = [n for *where, n in parts if tuple(where) == key]
        assert (whole.rows_seen, whole.profile.rows) == (sum(mine), 13 * sum(mine))
        assert whole.profile.counts.tolist() == [sum(mine)] * 13
        assert whole.profile.moments[0].tolist() == pytest.approx([3.0 * len(mine), 0.1, 0.0])


def test_counts_of_different_baselines_are_never_added() -> None:
    with pytest.raises(OtherBaselineError):
        add_up("0" * 64, [WHOLE])

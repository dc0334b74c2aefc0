"""Bytes of profiles and baselines come back bit for bit, are small, and are refused when damaged."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from detectors import codec
from detectors.columns import CategoricalColumn, Column, ConfidenceRule, NumericColumn, TensorMap
from detectors.counts import Baseline, Layout, Profile
from detectors.profile import profile_rows
from detectors.types import ColumnRole, ColumnType, DetectorError
from tests.detectors.building import baseline_of, data, mixed_baseline, mixed_columns

GOLDEN = Path(__file__).parent.parent / "golden"
MIXED = mixed_baseline()
ROWS = profile_rows(MIXED, {column.name: column.values for column in mixed_columns(seed=6, rows=1_000)})


def golden_baseline() -> Baseline:
    """Written by hand, so that no arithmetic stands between this and the golden bytes."""
    columns: tuple[Column, ...] = (
        NumericColumn(
            name="conf",
            role=ColumnRole.CONFIDENCE,
            type=ColumnType.NUMERIC,
            dtype="float32",
            cuts=np.array([0.25, 0.5]),
            exact=True,
            decile_cuts=np.array([0]),
            evidence_cuts=np.array([0] * 6 + [1] * 7),
        ),
        CategoricalColumn(
            name="größe",
            role=ColumnRole.FEATURE,
            type=ColumnType.CATEGORICAL,
            dtype="string",
            categories=("b", "a"),
            others=frozenset({"d", "c"}),
            others_truncated=False,
        ),
    )
    layout = Layout.of(columns)
    counts = np.array([0, 300, 7, 70_000, 0, 5, 0, 2**40, 200, 100, 12, 0, 70_000])
    moments = np.array([[70_307.0, 0.1, -0.0], [0.0, 0.0, 0.0]])
    draft = Baseline(
        columns=columns,
        layout=layout,
        profile=Profile(rows=70_312, counts=counts, moments=moments),
        pane_seconds=60,
        tensors=(TensorMap(name="input", datatype="FP32", kind="input", columns=("größe", "")),),
        confidence=ConfidenceRule(kind="probabilities", tensor="probabilities"),
        source="golden",
        fingerprint="",
    )
    return codec.decode_baseline(codec.encode_baseline(draft))


def same_profile(first: Profile, second: Profile) -> bool:
    return (
        first.rows == second.rows
        and first.counts.tolist() == second.counts.tolist()
        and first.moments.tobytes() == second.moments.tobytes()
    )


def test_a_baseline_is_the_documented_bytes() -> None:
    head = {
        "columns": [
            {
                "name": "conf",
                "role": "confidence",
                "type": "numeric",
                "dtype": "float32",
                "cuts": 2,
                "exact": True,
                "decile_cuts": [0],
                "evidence_cuts": [0] * 6 + [1] * 7,
            },
            {
                "name": "größe",
                "role": "feature",
                "type": "categorical",
                "dtype": "string",
                "categories": ["b", "a"],
                "others": ["c", "d"],
                "others_truncated": False,
            },
        ],
        "confidence": {"kind": "probabilities", "tensor": "probabilities"},
        "pane_seconds": 60,
        "rows": 70_312,
        "source": "golden",
        "tensors": [{"name": "input", "datatype": "FP32", "kind": "input", "columns": ["größe", ""]}],
    }
    text = json.dumps(head, sort_keys=True, separators=(",", ":")).encode()
    body = struct.pack("<I", len(text)) + text + struct.pack("<2d", 0.25, 0.5)
    body += b"\x08" + struct.pack("<8Q", 0, 300, 7, 70_000, 0, 5, 0, 2**40)
    body += b"\x04" + struct.pack("<5I", 200, 100, 12, 0, 70_000)
    body += struct.pack("<6d", 70_307.0, 0.1, -0.0, 0.0, 0.0, 0.0)
    expected = b"dfB\x01" + struct.pack("<I", zlib.crc32(body)) + body
    assert codec.encode_baseline(golden_baseline()) == expected
    assert (GOLDEN / "baseline_v1.bin").read_bytes() == expected


def test_a_stored_baseline_of_version_1_is_still_read() -> None:
    stored = codec.decode_baseline((GOLDEN / "baseline_v1.bin").read_bytes())
    expected = golden_baseline()
    assert stored.fingerprint == expected.fingerprint == codec.fingerprint(expected)
    assert stored.columns[1] == expected.columns[1]
    assert (stored.tensors, stored.confidence) == (expected.tensors, expected.confidence)
    assert same_profile(stored.profile, expected.profile)


def test_a_stored_profile_of_version_1_is_still_read() -> None:
    baseline = golden_baseline()
    stored = (GOLDEN / "profile_v1.bin").read_bytes()
    assert same_profile(codec.decode_profile(baseline.layout, stored), baseline.profile)
    # Read by hand, as the module documents it.
    body = zstandard.ZstdDecompressor().decompress(stored[8:])
    assert struct.unpack("<3sBI", stored[:8]) == (b"dfP", 1, zlib.crc32(stored[8:]))
    rows, slots, columns, planes = struct.unpack_from("<qIIB", body)
    assert (rows, slots, columns, planes) == (70_312, 13, 2, 6)
    even = np.frombuffer(body, np.uint8, 7 * planes, 17).reshape(planes, 7)
    assert [int.from_bytes(octets.tobytes(), "little") for octets in even.T] == [0, 7, 0, 0, 200, 12, 70_000]
    assert np.frombuffer(body, "<f8", 6, 17 + 13 * planes).tolist() == [70_307.0, 0.1, -0.0, 0.0, 0.0, 0.0]


def test_every_kind_of_column_comes_back() -> None:
    stored = codec.decode_baseline(codec.encode_baseline(MIXED))
    assert stored.fingerprint == MIXED.fingerprint
    assert codec.encode_baseline(stored) == codec.encode_baseline(MIXED)
    assert same_profile(stored.profile, MIXED.profile)
    for found, expected in zip(stored.columns, MIXED.columns, strict=True):
        if isinstance(found, NumericColumn) and isinstance(expected, NumericColumn):
            assert found.cuts.tobytes() == expected.cuts.tobytes()
            assert found.exact is expected.exact
            assert found.decile_cuts.tolist() == expected.decile_cuts.tolist()
            assert found.evidence_cuts.tolist() == expected.evidence_cuts.tolist()
        else:
            assert found == expected


def test_profiles_come_back_bit_for_bit() -> None:
    assert same_profile(codec.decode_profile(MIXED.layout, codec.encode_profile(ROWS)), ROWS)
    empty = Profile.zeros(MIXED.layout)
    assert same_profile(codec.decode_profile(MIXED.layout, codec.encode_profile(empty)), empty)


def test_equal_profiles_are_equal_bytes() -> None:
    assert codec.encode_profile(ROWS) == codec.encode_profile(Profile.merge([ROWS]))


@given(st.data())
def test_any_damage_is_refused(data: st.DataObject) -> None:
    for encoded, decode in (
        (codec.encode_profile(ROWS), lambda damaged: codec.decode_profile(MIXED.layout, damaged)),
        ((GOLDEN / "baseline_v1.bin").read_bytes(), codec.decode_baseline),
    ):
        at = data.draw(st.integers(0, len(encoded) - 1))
        flipped = bytearray(encoded)
        flipped[at] ^= data.draw(st.integers(1, 255))
        for damaged in (bytes(flipped), encoded[:at]):
            with pytest.raises(DetectorError):
                decode(damaged)


def test_a_newer_version_and_a_foreign_layout_are_named() -> None:
    encoded = codec.encode_profile(ROWS)
    with pytest.raises(DetectorError, match="version 2, this code reads 1; update driftd"):
        codec.decode_profile(MIXED.layout, encoded[:3] + b"\x02" + encoded[4:])
    with pytest.raises(DetectorError, match="no baseline"):
        codec.decode_baseline(encoded)
    other = profile_rows(golden_baseline(), {"conf": np.zeros(3), "größe": np.array(["a"] * 3)})
    with pytest.raises(DetectorError, match="13 slots of 2 columns"):
        codec.decode_profile(MIXED.layout, codec.encode_profile(other))


def test_a_bomb_is_not_inflated() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    with pytest.raises(DetectorError):
        codec.decode_profile(MIXED.layout, struct.pack("<3sBI", b"dfP", 1, 0) + bomb)


def test_negative_counts_are_refused() -> None:
    counts = ROWS.counts.copy()
    counts[0] = -1
    with pytest.raises(DetectorError, match="negative counts"):
        codec.encode_profile(Profile(rows=1, counts=counts, moments=ROWS.moments))


@pytest.mark.parametrize(("rows", "most"), [(60_000, 40_000), (100_000, 40_000)])
def test_a_pane_of_thirty_columns_is_small(rows: int, most: int) -> None:
    rng = np.random.default_rng(4)
    baseline = baseline_of(*(data(rng.normal(size=20_000), name=f"f{i}", dtype="float32") for i in range(30)))
    pane = profile_rows(baseline, {f"f{i}": rng.normal(size=rows).astype(np.float32) for i in range(30)})
    assert baseline.layout.length > 30 * 2_000
    assert len(codec.encode_profile(pane)) <= most

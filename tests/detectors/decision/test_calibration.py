"""A calibration comes back bit for bit, is the documented bytes, and a damaged one is refused."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detectors.decision import (
    PRESET_A,
    Bands,
    Calibration,
    CalibrationSource,
    ColumnLearning,
    Thresholds,
    bands,
    overridden,
    unlearned,
)
from detectors.types import DetectorError
from tests.detectors.decision.samples import SECONDS, mixed_index

GOLDEN = Path(__file__).parent.parent.parent / "golden" / "calibration_v1.bin"


def small() -> Calibration:
    """Two columns of two events each, one window; numbers that have exact bits."""
    return Calibration(
        windows=np.array([3_600]),
        starts=np.array([0, 2]),
        bands=Bands(low=np.array([0.25, 0.0, 0.5, 0.0]), high=np.array([0.75, 0.125, 0.5, 1.0])),
        thresholds=Thresholds(
            theta=np.array([[0.25, np.inf]]),
            psi=np.array([[0.5, np.inf]]),
            rates=np.array([[[0.5, 1.0]], [[0.5, 1.0]], [[0.5, 2.0]]]),
        ),
        block_seconds=np.array([900, 86_400]),
        states=(ColumnLearning.LEARNED, ColumnLearning.TOO_VARIABLE),
        source=CalibrationSource.TRAFFIC,
        span=(1_700_000_000, 1_701_209_600),
        tau_seconds=np.array([3_600.0, np.nan]),
        delay_seconds=np.array([5_400.0, np.inf]),
        detectable=np.array([0.25, np.inf]),
    )


def test_a_calibration_is_the_documented_bytes() -> None:
    nan, inf = float("nan"), float("inf")
    body = struct.pack("<8q", 1, 2, 4, 2, 1_700_000_000, 1_701_209_600, 0, 0)
    body += struct.pack("<7q", 3_600, 0, 2, 900, 86_400, 2, 4)
    body += struct.pack("<8d", 0.25, 0.0, 0.5, 0.0, 0.75, 0.125, 0.5, 1.0)
    body += struct.pack("<10d", 0.25, inf, 0.5, inf, 0.5, 1.0, 0.5, 1.0, 0.5, 2.0)
    body += struct.pack("<6d", 3_600.0, nan, 5_400.0, inf, 0.25, inf)
    framed = b"DCA\x01" + body
    assert small().encode() == framed + struct.pack("<I", zlib.crc32(framed))


def test_the_golden_file_still_reads() -> None:
    assert GOLDEN.read_bytes() == small().encode()
    assert Calibration.decode(GOLDEN.read_bytes()).encode() == small().encode()


def test_a_calibration_comes_back_bit_for_bit() -> None:
    index = mixed_index()
    found = unlearned(index, SECONDS, 60)
    again = Calibration.decode(found.encode())
    assert again.encode() == found.encode()
    assert again.bands.low.tobytes() == bands(index).low.tobytes()
    assert (again.states, again.source, again.span) == (found.states, CalibrationSource.NONE, (0, 0))


@pytest.mark.parametrize("cut", [0, 7, 40, 100, -1])
def test_torn_bytes_are_refused(cut: int) -> None:
    with pytest.raises(DetectorError, match="calibration"):
        Calibration.decode(small().encode()[:cut])


def test_every_flipped_bit_is_refused() -> None:
    data = small().encode()
    for place in range(0, len(data), 3):
        with pytest.raises(DetectorError, match="calibration"):
            Calibration.decode(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])


@pytest.mark.parametrize(("place", "value"), [(0, -1), (2, 5), (3, 9), (13, 7), (8, 0), (11, 0)])
def test_well_sealed_nonsense_is_refused(place: int, value: int) -> None:
    framed = bytearray(small().encode()[:-4])
    framed[4 + 8 * place : 12 + 8 * place] = struct.pack("<q", value)
    with pytest.raises(DetectorError):
        Calibration.decode(bytes(framed) + struct.pack("<I", zlib.crc32(framed)))


def test_a_nan_threshold_is_refused() -> None:
    bad = replace(small().thresholds, theta=np.array([[np.nan, 1.0]]))
    with pytest.raises(DetectorError, match="more than 0"):
        replace(small(), thresholds=bad)


def test_unlearned_is_preset_a_tolerance_and_one_block_length() -> None:
    index = mixed_index()
    found = unlearned(index, SECONDS, 900)
    theta, psi = PRESET_A.at(SECONDS)
    assert np.array_equal(found.thresholds.theta, np.stack([theta] * 3, axis=-1))
    assert np.array_equal(found.thresholds.psi, np.stack([psi] * 3, axis=-1))
    assert found.block_seconds.tolist() == [900] * 3
    assert set(found.states) == {ColumnLearning.UNLEARNED}


def test_the_budget_goes_by_each_columns_own_block_length() -> None:
    budget = small().budget(0.3, [1.0, 2.0])
    assert budget * 365.25 * 86_400 / np.array([900, 86_400]) == pytest.approx([0.1, 0.2], rel=1e-12)


def test_an_operators_threshold_replaces_the_learned_one() -> None:
    found = overridden(small().thresholds, 1, theta=0.3)
    assert found.theta.tolist() == [[0.25, 0.3]]
    assert np.array_equal(found.psi, small().thresholds.psi)
    both = overridden(found, 1, psi=0.7)
    assert both.rates is not None
    assert both.rates[:, 0, 1].tolist() == [0.7] * 3
    assert both.psi.tolist() == [[0.5, 0.7]]

"""The coarse view: the same rows on fewer cuts, and the same answers where the cuts allow."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import codec, ks, psi
from detectors.coarse import coarsen
from detectors.decision import EventIndex
from detectors.profile import Baseline, ColumnData, NumericColumn, build_baseline, profile_rows
from detectors.types import ColumnRole, ColumnType


def baseline(seed: int, n: int = 4000) -> Baseline:
    rng = np.random.default_rng(seed)
    values = {
        "x": (ColumnRole.FEATURE, ColumnType.NUMERIC, "float64", rng.normal(size=n)),
        "rounded": (ColumnRole.FEATURE, ColumnType.NUMERIC, "float64", np.round(rng.normal(0, 30, n))),
        "few": (ColumnRole.FEATURE, ColumnType.NUMERIC, "int64", rng.integers(0, 9, n)),
        "kind": (
            ColumnRole.FEATURE,
            ColumnType.CATEGORICAL,
            "string",
            rng.choice(np.array(list("abc"), dtype=object), n),
        ),
        "confidence": (ColumnRole.CONFIDENCE, ColumnType.NUMERIC, "float64", rng.beta(5, 2, n)),
    }
    data = [ColumnData(name=k, role=r, type=t, dtype=d, values=v) for k, (r, t, d, v) in values.items()]
    return build_baseline(data, 60, (), None, "test")


def rows(seed: int, n: int, shift: float = 0.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(shift, 1, n),
        "rounded": np.round(rng.normal(30 * shift, 30, n)),
        "few": rng.integers(0, 9, n),
        "kind": rng.choice(np.array(list("abcd"), dtype=object), n),
        "confidence": rng.beta(5, 2, n),
    }


FINE = baseline(1)
COARSE = coarsen(FINE)


def test_training_counts_are_those_of_counting_again_on_the_kept_cuts() -> None:
    rng = np.random.default_rng(1)
    training = {
        "x": rng.normal(size=4000),
        "rounded": np.round(rng.normal(0, 30, 4000)),
        "few": rng.integers(0, 9, 4000),
    }
    training["kind"] = rng.choice(np.array(list("abc"), dtype=object), 4000)
    training["confidence"] = rng.beta(5, 2, 4000)
    assert np.array_equal(profile_rows(FINE, training).counts, FINE.profile.counts)
    assert np.array_equal(profile_rows(COARSE, training).counts, COARSE.profile.counts)


def test_what_the_decision_reads_is_the_same_on_both() -> None:
    """Evidence events and PSI use cuts that are always kept."""
    window = rows(2, 1500, shift=0.4)
    fine, coarse = profile_rows(FINE, window), profile_rows(COARSE, window)
    ours, theirs = EventIndex.of(COARSE).count(coarse), EventIndex.of(FINE).count(fine)
    assert np.array_equal(ours.hits, theirs.hits)
    assert np.array_equal(ours.totals, theirs.totals)
    found = psi.kernel(COARSE, coarse.counts, coarse.rows).statistic
    assert np.array_equal(found, psi.kernel(FINE, fine.counts, fine.rows).statistic)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-2, 2), st.integers(50, 800))
def test_the_coarse_bracket_holds_the_fine_distance(seed: int, shift: float, n: int) -> None:
    window = rows(seed, n, shift)
    fine = ks.bracket(FINE, profile_rows(FINE, window).counts, n)
    coarse = ks.bracket(COARSE, profile_rows(COARSE, window).counts, n)
    numeric = [0, 1, 2, 4]
    assert (coarse.low[numeric] <= fine.low[numeric] + 1e-12).all()
    assert (coarse.high[numeric] >= fine.low[numeric] - 1e-12).all()


def test_the_cap_holds_and_small_columns_stay_as_they_are() -> None:
    sizes = {c.name: c.cuts.size for c in COARSE.columns if isinstance(c, NumericColumn)}
    assert sizes == {"x": 64, "rounded": 64, "few": 9, "confidence": 64}
    assert COARSE.columns[2] is FINE.columns[2]
    assert COARSE.columns[3] is FINE.columns[3]


def test_it_is_the_same_every_time_and_survives_storage() -> None:
    stored = codec.decode_baseline(codec.encode_baseline(FINE))
    assert coarsen(stored).fingerprint == coarsen(FINE).fingerprint
    # Pinned: panes of segments were counted on these cuts.
    kept = coarsen(FINE).columns[0]
    assert isinstance(kept, NumericColumn)
    fine = FINE.columns[0]
    assert isinstance(fine, NumericColumn)
    assert np.searchsorted(fine.cuts, kept.cuts)[:6].tolist() == PINNED


PINNED = [0, 1, 10, 22, 43, 51]

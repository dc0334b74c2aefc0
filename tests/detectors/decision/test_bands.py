"""Bands: published oracles, and coverage over re-drawn training samples."""

import numpy as np
import pytest
from scipy import stats

from detectors.decision import Bands, EventKind, bands, clopper_pearson, psi_roots
from detectors.profile import CategoricalColumn, NumericColumn
from detectors.types import ColumnRole, DetectorError
from tests.detectors.decision.samples import categorical, index_of, mixed_index, numeric


@pytest.mark.parametrize(
    ("q", "tolerance", "low", "high"),
    [
        # Roots computed independently for the statistics reference, to 6 digits.
        (0.5, 0.01, 0.450083, 0.549917),
        (0.1, 0.01, 0.072072, 0.131928),
        (0.01, 0.01, 0.002606, 0.022287),
        (0.001, 0.01, 0.000000, 0.006380),
        (0.5, 0.1, 0.344525, 0.655475),
        (0.01, 0.1, None, 0.062833),
    ],
)
def test_psi_roots_are_the_published_ones(q: float, tolerance: float, low: float | None, high: float) -> None:
    below, above = psi_roots(np.array([q]), np.array([q]), tolerance)
    assert above[0] == pytest.approx(high, abs=5e-7)
    if low is not None:
        assert below[0] == pytest.approx(low, abs=5e-7)


def test_psi_roots_of_certain_events_stay() -> None:
    low, high = psi_roots(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0.01)
    assert low.tolist() == high.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("hits", "rows"), [(0, 50), (1, 50), (25, 50), (50, 50), (100, 10_000), (9_999, 10_000)]
)
def test_clopper_pearson_is_scipys(hits: int, rows: int) -> None:
    alpha = 1e-5
    low, high = clopper_pearson(np.array([float(hits)]), np.array([float(rows)]), np.array([alpha]))
    expected = stats.binomtest(hits, rows).proportion_ci(confidence_level=1 - 2 * alpha, method="exact")
    # scipy's interval at an end puts the whole of alpha on one side as well.
    assert low[0] == pytest.approx(expected.low, rel=1e-6)
    assert high[0] == pytest.approx(expected.high, rel=1e-6)


def test_bands_of_36_columns_are_the_referenced_ones() -> None:
    """Statistics reference, section 5: m = 10 000 gives [.429, .571] at the median, [.001, .029] at the 1 % cut."""
    rng = np.random.default_rng(0)
    found = bands(index_of(*(numeric(f"x{i}", rng.normal(size=10_000)) for i in range(36))))
    assert [round(float(x), 3) for x in (found.low[6], found.high[6], found.low[0], found.high[0])] == [
        0.429,
        0.571,
        0.001,
        0.029,
    ]


def test_tied_cuts_get_the_dkw_width() -> None:
    """sqrt(ln(2 S/delta)/(2 m)) = .021 at m = 10 000, S = 36 (statistics reference); 16/13 of it inside the logarithm."""
    rng = np.random.default_rng(0)
    columns = [numeric(f"x{i}", rng.integers(0, 40, 10_000).astype(np.float64)) for i in range(36)]
    index = index_of(*columns)
    found = bands(index, tolerance=0.0)
    share = index.trained.hits[6] / index.trained.totals[6]
    expected = np.sqrt(np.log(2 * 36 * 16 / (13 * 0.01)) / 20_000)
    assert round(float(expected), 3) == 0.021
    assert found.high[6] - share == pytest.approx(expected, rel=1e-12)
    assert share - found.low[6] == pytest.approx(expected, rel=1e-12)


def test_bands_hold_over_training_samples_as_often_as_promised() -> None:
    """At tolerance 0 and delta .3, each of 4 columns may miss a true share in at most 7.5 % of samples."""
    rng = np.random.default_rng(11)
    zipf = 1.0 / np.arange(1, 3_001)
    zipf /= zipf.sum()
    names = np.array([f"id{i}" for i in range(3_000)], dtype=object)
    failures, samples, rows = np.zeros(4), 200, 400
    for _ in range(samples):
        ids = rng.choice(3_000, rows, p=zipf)
        x, k, conf = rng.normal(size=rows), rng.poisson(3.0, rows).astype(np.float64), rng.beta(8, 2, rows)
        index = index_of(
            numeric("x", x),
            numeric("k", k),
            numeric("conf", conf, ColumnRole.CONFIDENCE),
            categorical("id", names[ids].tolist()),
        )
        found = bands(index, delta_baseline=0.3, tolerance=0.0, mean_tolerance_sd=0.0)
        true = np.full(index.column.size, np.nan)
        laws = (stats.norm().cdf, stats.poisson(3.0).cdf, stats.beta(8, 2).cdf)
        for column, cdf in enumerate(laws):
            spec = index.baseline.columns[column]
            assert isinstance(spec, NumericColumn)
            first = int(index.starts[column])
            true[first : first + 13] = cdf(spec.cuts[spec.evidence_cuts])
            inside = cdf(spec.cuts[-1]) - cdf(np.nextafter(spec.cuts[0], -np.inf))
            true[first + 13 : first + 16] = 0.0, 0.0, 1.0 - inside
        true[index.mean] = 0.8
        ids_column = index.baseline.columns[3]
        assert isinstance(ids_column, CategoricalColumn)
        categories = ids_column.categories
        mass = dict(zip(names.tolist(), zipf.tolist(), strict=True))
        true[index.starts[3] : index.starts[3] + 50] = [mass[name] for name in categories]
        unseen = 1.0 - zipf[np.unique(ids)].sum()
        true[-3:] = 1.0 - unseen - sum(mass[name] for name in categories), unseen, 0.0
        missed = (true < found.low - 1e-12) | (true > found.high + 1e-12)
        failures += np.logical_or.reduceat(missed, index.starts)
    assert np.all(failures / samples <= 0.3 / 4)


def test_an_id_column_leaves_no_bet_on_unseen() -> None:
    index = index_of(categorical("user", [f"u{i}" for i in range(1_000)]))
    unseen = index.kinds.index(EventKind.UNSEEN)
    assert bands(index).high[unseen] == 1.0


def test_few_categories_leave_little_room_for_unseen() -> None:
    index = index_of(categorical("city", ["a", "b"] * 5_000))
    unseen = index.kinds.index(EventKind.UNSEEN)
    assert bands(index, tolerance=0.0).high[unseen] < 0.004


def test_out_of_range_allows_for_one_row_more_than_was_seen() -> None:
    """The mass beyond both extremes of m continuous rows is Beta(2, m - 1)."""
    index = index_of(numeric("x", np.random.default_rng(0).normal(size=1_000)))
    found = bands(index, tolerance=0.0)
    assert found.high[15] == pytest.approx(stats.beta(2, 999).isf(0.01 / 32), rel=1e-9)


def test_an_all_missing_column_has_no_value_bet_that_could_win() -> None:
    found = bands(index_of(numeric("x", np.full(200, np.nan))))
    assert found.low[:13].tolist() == [0.0] * 13
    assert found.high[:13].tolist() == [1.0] * 13
    assert found.low[13] > 0.9


def test_clumped_training_rows_widen_every_band() -> None:
    index = mixed_index()
    plain, clumped = bands(index), bands(index, design_effect=5.0)
    assert np.all(clumped.low <= plain.low)
    assert np.all(clumped.high >= plain.high)
    assert clumped.high[6] > plain.high[6]


def test_the_confidence_band_is_tolerance_plus_error_of_the_mean() -> None:
    index = index_of(numeric("conf", np.random.default_rng(5).beta(8, 2, 10_000), ColumnRole.CONFIDENCE))
    n, mean, squares = index.baseline.profile.moments[0]
    sd, alpha = np.sqrt(squares / (n - 1)), 0.01 / 17 / 2
    bernstein = sd * np.sqrt(2 * np.log(4 / alpha) / n) + 7 * np.log(4 / alpha) / (3 * (n - 1))
    found = bands(index)
    assert found.high[16] - mean == pytest.approx(0.1 * sd + bernstein, rel=1e-6)
    assert mean - found.low[16] == pytest.approx(0.1 * sd + bernstein, rel=1e-6)


@pytest.mark.parametrize(
    ("low", "high"),
    [([0.6], [0.5]), ([-0.1], [0.5]), ([0.1], [1.1]), ([float("nan")], [0.5]), ([0.1, 0.2], [0.5])],
)
def test_unsound_bands_are_refused(low: list[float], high: list[float]) -> None:
    with pytest.raises(DetectorError):
        Bands(low=np.array(low), high=np.array(high))


@pytest.mark.parametrize(
    "wrong",
    [
        {"delta_baseline": 0.0},
        {"delta_baseline": float("nan")},
        {"tolerance": -1.0},
        {"design_effect": 0.5},
        {"mean_tolerance_sd": float("nan")},
    ],
)
def test_impossible_parameters_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DetectorError):
        bands(mixed_index(), **wrong)

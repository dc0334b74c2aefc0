"""The effect key: which windows count, from how many rows, and that NaN never reads as fine."""

import numpy as np
import pytest

from detectors.decision import (
    PRESET_A,
    EffectKind,
    Effects,
    EffectThresholds,
    EventIndex,
    Thresholds,
    Windows,
    effect_holds,
    effects,
    resolve_thresholds,
)
from detectors.decision.effect import EFFECT_KINDS
from detectors.types import DetectorError
from tests.detectors.decision.samples import SECONDS, Values, categorical, index_of, numeric, windows_of

NAN = float("nan")


def plain_index(rows: int = 10_000) -> EventIndex:
    return index_of(numeric("x", np.random.default_rng(0).normal(size=rows)))


def one_window(
    rows: int,
    ks: float,
    psi: float,
    *,
    seconds: int = 86_400,
    x: Values | None = None,
    index: EventIndex | None = None,
) -> Effects:
    """Effects under preset A of one window of one column."""
    index = index or plain_index()
    values = np.random.default_rng(1).normal(size=rows).clip(-2, 2) if x is None else x
    windows = windows_of(index, [{"x": values}], np.array([[ks]]), np.array([[psi]]), [seconds])
    return effects(index, windows, resolve_thresholds([seconds], ["x"]))


def holding(found: Effects) -> set[str]:
    return {kind.value for place, kind in enumerate(EFFECT_KINDS) if found.holds[place].any()}


@pytest.mark.parametrize(
    ("seconds", "theta", "psi"),
    [
        (60, 0.60, 1.0),
        (900, 0.60, 1.0),
        (3_600, 0.35, 0.5),
        (21_600, 0.20, 0.25),
        (86_400, 0.10, 0.10),
        (604_800, 0.10, 0.10),
        # Half way in the logarithm: sqrt(1 h * 6 h).
        (3_600 * 6**0.5, 0.275, 0.375),
    ],
)
def test_preset_a_is_log_linear_in_window_length(seconds: float, theta: float, psi: float) -> None:
    found = PRESET_A.at([seconds])
    assert (found[0][0], found[1][0]) == (pytest.approx(theta), pytest.approx(psi))


def test_an_override_is_one_columns_alone() -> None:
    found = resolve_thresholds(
        SECONDS, ["a", "b"], overrides={"b": EffectThresholds.constant(theta=0.5, psi=2.0)}
    )
    assert found.theta.tolist() == [
        [0.6, 0.5],
        [pytest.approx(0.35), 0.5],
        [pytest.approx(0.2), 0.5],
        [0.1, 0.5],
    ]
    assert found.psi[:, 1].tolist() == [2.0] * 4
    with pytest.raises(DetectorError, match="unknown columns c"):
        resolve_thresholds(SECONDS, ["a", "b"], overrides={"c": PRESET_A})


@pytest.mark.parametrize(
    ("seconds", "theta", "psi"),
    [
        ((), (), ()),
        ((900.0,), (0.6, 0.3), (1.0,)),
        ((3_600.0, 900.0), (0.6, 0.3), (1.0, 0.5)),
        ((900.0,), (NAN,), (1.0,)),
    ],
)
def test_unsound_threshold_tables_are_refused(
    seconds: tuple[float, ...], theta: tuple[float, ...], psi: tuple[float, ...]
) -> None:
    with pytest.raises(DetectorError):
        EffectThresholds(seconds=seconds, theta=theta, psi=psi)


@pytest.mark.parametrize(
    ("rows", "ks", "psi", "expected"),
    [
        (1_000, 0.10, 0.0, {"ks"}),
        (1_000, 0.0999, 0.0999, set()),
        (1_000, 0.0, 0.10, {"psi"}),
        # Below 2.2/sqrt(n) D is chance: .22 at 100 rows, .4017 at 30.
        (100, 0.21, 0.0, set()),
        (100, 0.221, 0.0, {"ks"}),
        (30, 0.40, 0.0, set()),
        (30, 0.41, 0.0, {"ks"}),
        (29, 1.00, 9.0, set()),
        (199, 0.0, 9.0, set()),
        (200, 0.0, 9.0, {"psi"}),
        (1_000, NAN, NAN, set()),
        (1_000, NAN, 0.5, {"psi"}),
    ],
)
def test_what_counts_as_effect(rows: int, ks: float, psi: float, expected: set[str]) -> None:
    assert holding(one_window(rows, ks, psi)) == expected


@pytest.mark.parametrize(
    ("seconds", "missing", "expected"),
    [
        (900, 0.30, {"missing"}),
        (900, 0.13, {"missing"}),
        (900, 0.11, set()),
        (86_400, 0.02, {"missing"}),
        (86_400, 0.01, set()),
    ],
)
def test_values_that_go_missing_are_an_effect(seconds: int, missing: float, expected: set[str]) -> None:
    x = np.zeros(10_000)
    x[: int(missing * 10_000)] = NAN
    assert holding(one_window(0, 0.0, 0.0, seconds=seconds, x=x)) == expected


def test_infinite_values_are_non_finite_and_out_of_range_both() -> None:
    x = np.zeros(1_000)
    x[:50] = np.inf
    assert holding(one_window(0, 0.0, 0.0, x=x)) == {"non_finite", "out_of_range"}


def test_the_rate_effect_is_psi_of_two_cells_with_half_a_row_each() -> None:
    x = np.zeros(1_000)
    x[:100] = 99.0
    found = one_window(0, 0.0, 0.0, x=x)
    p, q = np.array([100.5, 900.5]) / 1_001, np.array([0.5, 10_000.5]) / 10_001
    kind = EFFECT_KINDS.index(EffectKind.OUT_OF_RANGE)
    assert found.statistic[kind, 0, 0] == pytest.approx(((p - q) * np.log(p / q)).sum())


def test_200_rows_without_a_strange_one_show_no_rate_effect() -> None:
    assert holding(one_window(200, 0.0, 0.0)) == set()
    assert holding(one_window(199, 0.0, 0.0, x=np.full(199, NAN))) == set()


def test_categorical_columns_have_no_range_and_no_infinity() -> None:
    index = index_of(categorical("x", ["a", "b"] * 500))
    found = one_window(0, NAN, 0.0, x=np.array(["c", None] * 500, dtype=object), index=index)
    assert holding(found) == {"missing"}
    assert np.isnan(found.statistic[3:]).all()


@pytest.mark.parametrize(
    ("ks", "psi", "answer"),
    [
        ([0.05, 0.7], [0.0, 0.0], True),
        ([0.05, 0.05], [0.0, 0.0], False),
        ([NAN, 0.05], [NAN, 0.0], False),
        ([NAN, NAN], [NAN, NAN], None),
    ],
)
def test_the_effect_holds_fails_or_is_unknown(ks: list[float], psi: list[float], answer: bool | None) -> None:
    index = plain_index()
    rows = {"x": np.random.default_rng(1).normal(size=500).clip(-2, 2)}
    windows = windows_of(index, [rows, rows], np.array(ks)[:, None], np.array(psi)[:, None], [900, 3_600])
    assert effect_holds(effects(index, windows, resolve_thresholds([900, 3_600], ["x"]))) == (answer,)


def test_an_all_missing_window_holds_by_its_missing_rate_and_an_empty_one_is_unknown() -> None:
    assert effect_holds(one_window(0, NAN, NAN, x=np.full(500, NAN))) == (True,)
    assert effect_holds(one_window(0, NAN, NAN, x=np.full(100, NAN))) == (None,)
    assert effect_holds(one_window(0, NAN, NAN, x=np.zeros(0))) == (None,)


def test_a_column_without_values_in_training_is_known_by_its_missing_rate() -> None:
    index = index_of(numeric("x", np.full(1_000, NAN)))
    assert effect_holds(one_window(0, NAN, NAN, x=np.full(500, NAN), index=index)) == (False,)
    assert effect_holds(one_window(0, NAN, NAN, x=np.zeros(500), index=index)) == (True,)


def test_an_infinite_threshold_takes_a_window_away() -> None:
    index = plain_index()
    rows = {"x": np.zeros(500)}
    windows = windows_of(
        index, [rows, rows], np.array([[0.9], [0.9]]), np.array([[3.0], [3.0]]), [900, 86_400]
    )
    off = np.array([[0.6], [np.inf]])
    found = effects(index, windows, Thresholds(theta=off, psi=off))
    assert found.holds.any(axis=(0, 2)).tolist() == [True, False]


@pytest.mark.parametrize(("ks", "psi"), [(-0.1, 0.0), (1.5, 0.0), (0.1, -0.1), (0.1, float("inf"))])
def test_impossible_statistics_are_a_bug(ks: float, psi: float) -> None:
    with pytest.raises(DetectorError, match="reached the decision"):
        one_window(500, ks, psi)


def test_nan_thresholds_and_wrong_shapes_are_refused() -> None:
    index = plain_index()
    windows = Windows(
        seconds=np.array([900]),
        counts=index.baseline.profile.counts[None],
        rows=np.array([10_000]),
        ks=np.zeros((1, 1)),
        psi=np.zeros((1, 1)),
    )
    with pytest.raises(DetectorError, match="more than 0"):
        effects(index, windows, Thresholds(theta=np.array([[NAN]]), psi=np.ones((1, 1))))
    with pytest.raises(DetectorError, match="theta has shape"):
        effects(index, windows, Thresholds(theta=np.ones((2, 1)), psi=np.ones((1, 1))))

"""The peers' rules: what they say agrees with scipy on the raw rows, and what they cannot judge stays with the two keys."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from detectors import ks, psi
from detectors.decision import (
    Effects,
    EventIndex,
    Evidence,
    Verdict,
    Windows,
    classic_effects,
    decide,
    decide_by,
    effect_holds,
    effects,
    magnitude,
    resolve_thresholds,
)
from detectors.paging import ClassicKind, ClassicRule
from detectors.profile import profile_rows
from detectors.types import ColumnState, FloatArray
from tests.detectors.building import baseline_of, data, mixed_baseline, mixed_columns
from tests.detectors.decision.samples import Values, categorical, decile_psi, index_of, numeric

DAY = [3_600, 86_400]
KS, BONFERRONI, PSI, WASSERSTEIN = (
    ClassicRule(kind=kind, threshold=threshold)
    for kind, threshold in zip(ClassicKind, (0.05, 0.05, 0.1, 0.1), strict=True)
)


def found_in(index: EventIndex, *spans: dict[str, Values]) -> Effects:
    """The two-key effects of an hour and a day that hold these rows (the same, where one is given)."""
    profiles = [profile_rows(index.baseline, span) for span in (spans if len(spans) > 1 else spans * 2)]
    counts, rows = np.stack([p.counts for p in profiles]), np.array([p.rows for p in profiles])
    windows = Windows(
        seconds=np.array(DAY),
        counts=counts,
        rows=rows,
        ks=ks.kernel(index.baseline, counts, rows).statistic,
        psi=psi.kernel(index.baseline, counts, rows).statistic,
    )
    return effects(index, windows, resolve_thresholds(DAY, [c.name for c in index.baseline.columns]))


def ruled(
    index: EventIndex, found: Effects, rule: ClassicRule, *, r: float = 0.0, pages: bool = True
) -> tuple[Effects, tuple[Verdict, ...]]:
    """What the rule says with every bet at `r`."""
    state = Evidence.zeros(index)
    return decide_by(
        rule,
        index,
        found,
        replace(state, r=state.r + r),
        may_page=np.full(index.starts.size, pages),
        false_pages_per_year=0.1,
    )


def coarse(rng: np.random.Generator, size: int, shift: float = 0.0) -> FloatArray:
    """Values of so few kinds that every distance is exact, all within what training holds."""
    return np.clip(np.round(rng.normal(shift, 1.0, size) * 10) / 10, -2.5, 2.5)


@pytest.mark.parametrize("seed", range(40))
def test_ks_agrees_with_scipys_p_value_on_the_raw_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    alpha = float(rng.choice([0.001, 0.05, 0.3]))
    train = rng.normal(size=int(rng.integers(200, 1_000)))
    now = rng.normal(rng.choice([0.0, 0.1, 0.2]), 1.0, int(rng.integers(30, 900)))
    index = index_of(numeric("x", train))
    rule = ClassicRule(kind=ClassicKind.KS_P_VALUE, threshold=alpha)
    (verdict,) = ruled(index, found_in(index, {"x": now}), rule)[1]
    assert (verdict.state is ColumnState.DRIFT) == (stats.ks_2samp(train, now, method="asymp").pvalue < alpha)


def test_bonferroni_shares_its_alpha_by_the_columns_that_may_page() -> None:
    rng = np.random.default_rng(4)
    train = {f"x{i}": rng.normal(size=800) for i in range(10)}
    index = index_of(
        *(numeric(n, v) for n, v in train.items()), categorical("city", rng.choice(["a", "b"], 800).tolist())
    )
    values = {n: rng.normal(0.14, 1.0, 600) for n in train}
    now: dict[str, Values] = {**values, "city": rng.choice(np.array(["a", "b"], dtype=object), 600)}
    p = np.array([stats.ks_2samp(train[n], values[n], method="asymp").pvalue for n in train])
    assert ((p < 0.05) & (p >= 0.005)).any()
    assert (p < 0.005).any()
    seen, verdicts = ruled(index, found_in(index, now), BONFERRONI)
    assert [v.state is ColumnState.DRIFT for v in verdicts[:10]] == (p < 0.05 / 10).tolist()
    few = np.array([True, True] + [False] * 9)
    limits = classic_effects(index, found_in(index, now), BONFERRONI, few).threshold[5, -1]
    assert limits[0] == pytest.approx(stats.kstwo.isf(0.05 / 2, round(800 * 600 / 1400)), rel=1e-9)
    assert seen.threshold[5, -1, 0] > limits[0]


@pytest.mark.parametrize("seed", range(20))
def test_wasserstein_agrees_with_scipy_where_values_stand_on_cuts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    train, now = coarse(rng, 5_000), coarse(rng, 400, shift=rng.choice([0.0, 0.1, 0.3]))
    index = index_of(numeric("x", train))
    seen, (verdict,) = ruled(index, found_in(index, {"x": now}), WASSERSTEIN)
    expected = stats.wasserstein_distance(train, now) / train.std(ddof=1)
    assert seen.statistic[5, -1, 0] == pytest.approx(expected, rel=1e-9)
    assert (verdict.state is ColumnState.DRIFT) == (expected >= 0.1)
    if verdict.effect is not None and verdict.state is ColumnState.DRIFT:
        assert (verdict.effect.detector, verdict.effect.threshold) == ("wasserstein", 0.1)


@pytest.mark.parametrize("seed", range(20))
def test_psi_agrees_with_deciles_and_half_a_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    train, now = rng.normal(size=5_000), rng.normal(rng.choice([0.0, 0.3, 0.4]), 1.0, 400)
    index = index_of(numeric("x", train))
    seen, (verdict,) = ruled(index, found_in(index, {"x": now}), PSI)
    expected = decile_psi(train, now)
    assert seen.statistic[5, -1, 0] == pytest.approx(expected, rel=0.03, abs=0.002)
    if abs(expected - 0.1) > 0.003:
        assert (verdict.state is ColumnState.DRIFT) == (expected >= 0.1)


def test_only_the_longest_window_counts() -> None:
    rng = np.random.default_rng(1)
    index = index_of(numeric("x", coarse(rng, 5_000)))
    found = found_in(index, {"x": coarse(rng, 500, 2.0)}, {"x": coarse(rng, 5_000)})
    for rule in (KS, PSI, WASSERSTEIN):
        seen, (verdict,) = ruled(index, found, rule)
        assert verdict.state is not ColumnState.DRIFT, rule
        assert effect_holds(seen) == (False,)


def test_a_rule_needs_no_evidence_and_says_who_decided() -> None:
    rng = np.random.default_rng(1)
    index = index_of(numeric("x", coarse(rng, 5_000)))
    found = found_in(index, {"x": coarse(rng, 2_000, 1.0)})
    assert decide(index, found, Evidence.zeros(index), false_pages_per_year=0.1)[0].state is ColumnState.WATCH
    for rule in (KS, BONFERRONI, PSI, WASSERSTEIN):
        seen, (verdict,) = ruled(index, found, rule)
        assert (verdict.state, verdict.rule, verdict.leader) == (ColumnState.DRIFT, rule, None)
        assert str(rule) in verdict.reason
        assert "evidence" not in verdict.reason
        assert effect_holds(seen) == (True,)
        assert verdict.effect is not None
        assert verdict.effect.statistic >= verdict.effect.threshold
        # A column without budget (ignored, weight 0, a candidate version) never pages, whatever the rule.
        (quiet,) = ruled(index, found, rule, pages=False)[1]
        assert (quiet.state, quiet.rule) == (ColumnState.WATCH, rule)


def test_evidence_alone_opens_nothing_in_a_column_the_rule_judges() -> None:
    rng = np.random.default_rng(1)
    index = index_of(numeric("x", coarse(rng, 5_000)))
    found = found_in(index, {"x": coarse(rng, 2_000, 1.0)})
    high = ClassicRule(kind=ClassicKind.PSI, threshold=50.0)
    (verdict,) = ruled(index, found, high, r=9.0)[1]
    assert (verdict.state, verdict.rule) == (ColumnState.WATCH, None)
    assert decide(index, found, _sure(index), false_pages_per_year=0.1)[0].state is ColumnState.DRIFT


def test_an_effects_size_is_told_from_the_least_threshold() -> None:
    """D = .45 turns the key of the hour, theta .35; at a day .10 would do."""
    rng = np.random.default_rng(1)
    index = index_of(numeric("x", coarse(rng, 5_000)))
    found = found_in(index, {"x": coarse(rng, 2_000)})
    d = np.array([[0.45], [0.02]])
    found = effects(
        index,
        replace(found.windows, ks=d, psi=np.zeros((2, 1))),
        resolve_thresholds(DAY, ["x"]),
    )
    (verdict,) = decide(index, found, _sure(index), false_pages_per_year=0.1)
    assert verdict.effect is not None
    assert verdict.effect.threshold == pytest.approx(0.35)
    assert magnitude(found, verdict, 0) == pytest.approx(0.45 / 0.10)
    assert magnitude(found, replace(verdict, effect=None), 0) == 1.0
    seen, (by_rule,) = ruled(index, found_in(index, {"x": coarse(rng, 2_000, 1.0)}), WASSERSTEIN)
    assert by_rule.effect is not None
    assert magnitude(seen, by_rule, 0) == by_rule.effect.statistic / 0.1


def _sure(index: EventIndex) -> Evidence:
    state = Evidence.zeros(index)
    return replace(state, r=state.r + 9.0)


@pytest.mark.parametrize("rule", [KS, BONFERRONI, WASSERSTEIN])
def test_categories_stay_with_the_two_keys(rule: ClassicRule) -> None:
    rng = np.random.default_rng(2)
    index = index_of(categorical("city", rng.choice(["a", "b"], 3_000, p=[0.7, 0.3]).tolist()))
    found = found_in(index, {"city": rng.choice(np.array(["a", "b"], dtype=object), 1_000, p=[0.1, 0.9])})
    for r, state in ((0.0, ColumnState.WATCH), (2.0, ColumnState.DRIFT)):
        own = replace(Evidence.zeros(index), r=Evidence.zeros(index).r + r)
        seen, verdicts = ruled(index, found, rule, r=r)
        assert verdicts == decide(index, found, own, false_pages_per_year=0.1)
        assert verdicts[0].state is state
        assert effect_holds(seen) == effect_holds(found) == (True,)


def test_psi_judges_categories_too() -> None:
    rng = np.random.default_rng(2)
    index = index_of(categorical("city", rng.choice(["a", "b"], 3_000, p=[0.7, 0.3]).tolist()))
    found = found_in(index, {"city": rng.choice(np.array(["a", "b"], dtype=object), 1_000, p=[0.1, 0.9])})
    (verdict,) = ruled(index, found, PSI)[1]
    assert (verdict.state, verdict.rule) == (ColumnState.DRIFT, PSI)


@pytest.mark.parametrize("rule", [KS, PSI, WASSERSTEIN])
def test_missing_values_stay_with_the_two_keys(rule: ClassicRule) -> None:
    """All values gone: no rule can compare any, the missing rate pages, and it keeps its alert open."""
    rng = np.random.default_rng(3)
    index = index_of(numeric("x", coarse(rng, 5_000)))
    found = found_in(index, {"x": np.full(2_000, np.nan)})
    seen, (verdict,) = ruled(index, found, rule)
    assert verdict.state is ColumnState.INSUFFICIENT_DATA
    seen, (verdict,) = ruled(index, found, rule, r=2.0)
    assert verdict.state is ColumnState.DRIFT
    assert verdict.effect is not None
    assert (verdict.effect.detector, verdict.rule) == ("missing", None)
    assert effect_holds(seen) == (True,)


@pytest.mark.parametrize(("rule", "least"), [(KS, 30), (PSI, 200), (WASSERSTEIN, 30)])
def test_too_few_values_hold_an_alert_and_resolve_none(rule: ClassicRule, least: int) -> None:
    rng = np.random.default_rng(3)
    index = index_of(numeric("x", coarse(rng, 5_000)))
    for n, state, holds in (
        (0, ColumnState.INSUFFICIENT_DATA, None),
        (1, ColumnState.INSUFFICIENT_DATA, None),
        (least - 1, ColumnState.INSUFFICIENT_DATA, None),
        (least, ColumnState.DRIFT, True),
    ):
        seen, (verdict,) = ruled(index, found_in(index, {"x": coarse(rng, n, 2.5)}), rule)
        assert (verdict.state, effect_holds(seen)) == (state, (holds,)), n


@pytest.mark.parametrize("rule", [KS, BONFERRONI, PSI, WASSERSTEIN])
@pytest.mark.parametrize("rows", [0, 1, 29, 30, 199, 200, 3_000])
def test_no_column_that_nothing_was_compared_of_reads_as_fine(rule: ClassicRule, rows: int) -> None:
    """Constant, all missing, infinite, categories of a hundred names: STABLE is said only of a number that was compared."""
    baseline = mixed_baseline()
    index = EventIndex.of(baseline)
    found = found_in(index, {c.name: c.values[:rows] for c in mixed_columns(9, max(rows, 7))})
    seen, verdicts = ruled(index, found, rule)
    for column, verdict in enumerate(verdicts):
        compared = bool(seen.valid[5, -1, column]) if np.isfinite(seen.threshold[5, 0, column]) else None
        if verdict.state is ColumnState.STABLE:
            assert compared or (compared is None and found.known[:, column].any()), verdict
        if compared is False:
            assert effect_holds(seen)[column] in (None, True)


def test_a_short_baseline_is_left_to_the_two_keys() -> None:
    """Of 20 values nothing can be compared by KS or W1: the column stays where it was."""
    sparse = np.full(200, np.nan)
    sparse[:20] = np.arange(20.0)
    index = EventIndex.of(baseline_of(data(sparse)))
    found = found_in(index, {"x": np.arange(400.0)})
    for rule in (KS, PSI, WASSERSTEIN):
        seen, verdicts = ruled(index, found, rule)
        assert np.isinf(seen.threshold[5]).all()
        assert verdicts == decide(index, found, Evidence.zeros(index), false_pages_per_year=0.1)


@pytest.mark.parametrize(
    ("kind", "threshold"),
    [
        (ClassicKind.KS_P_VALUE, 0.0),
        (ClassicKind.KS_P_VALUE, 0.6),
        (ClassicKind.KS_BONFERRONI, float("nan")),
        (ClassicKind.PSI, 0.0),
        (ClassicKind.PSI, float("nan")),
        (ClassicKind.WASSERSTEIN, float("inf")),
        (ClassicKind.WASSERSTEIN, -0.1),
    ],
)
def test_a_threshold_that_makes_no_sense_is_refused(kind: ClassicKind, threshold: float) -> None:
    with pytest.raises(ValueError, match=kind.value):
        ClassicRule(kind=kind, threshold=threshold)


def test_scipys_distributions_are_loaded_only_for_a_p_value() -> None:
    code = "import sys, detectors.decision, monitor.config; print('scipy.stats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

"""The paging rule: both keys, one verdict per column, and a whole drift from rows to page to resolve."""

from dataclasses import replace

import numpy as np
import pytest

from detectors.decision import (
    EventIndex,
    Evidence,
    Verdict,
    Windows,
    advance,
    bands,
    decide,
    effect_holds,
    effects,
    reset,
    resolve_thresholds,
    spend,
)
from detectors.profile import profile_rows
from detectors.types import ColumnRole, ColumnState, DetectorError, FloatArray
from tests.detectors.decision.samples import (
    categorical,
    decile_psi,
    distance,
    index_of,
    mixed_index,
    numeric,
    windows_of,
)

NAN = float("nan")
DAY = [3_600, 86_400]


def judge(
    ks: tuple[float, float],
    psi: tuple[float, float],
    r: float,
    *,
    rows: tuple[int, int] = (500, 5_000),
    pages: float = 0.1,
) -> Verdict:
    """One column, windows of 1 h and 24 h (theta .35 and .10), every bet at `r`."""
    rng = np.random.default_rng(0)
    index = index_of(numeric("x", rng.normal(size=10_000)))
    spans = [{"x": rng.normal(size=n).clip(-2, 2)} for n in rows]
    windows = windows_of(index, spans, np.array([[ks[0]], [ks[1]]]), np.array([[psi[0]], [psi[1]]]), DAY)
    found = effects(index, windows, resolve_thresholds(DAY, ["x"]))
    state = Evidence.zeros(index)
    return decide(index, found, replace(state, r=state.r + r), false_pages_per_year=pages)[0]


@pytest.mark.parametrize(
    ("ks", "psi", "r", "state"),
    [
        ((0.40, 0.05), (0.0, 0.0), 1.0, ColumnState.DRIFT),
        ((0.40, 0.05), (0.0, 0.0), 0.999, ColumnState.WATCH),  # by evidence at one page a day
        ((0.40, 0.05), (0.0, 0.0), 0.0, ColumnState.STABLE),  # a 1 h effect alone is no watch
        ((0.05, 0.12), (0.0, 0.0), 0.0, ColumnState.WATCH),  # the longest window at .10
        ((0.05, 0.05), (0.0, 0.12), 0.0, ColumnState.WATCH),
        ((0.05, 0.05), (0.0, 0.0), 9e9, ColumnState.WATCH),
        ((0.05, 0.05), (0.0, 0.0), 0.1 / 365.25, ColumnState.WATCH),
        ((0.05, 0.05), (0.0, 0.0), 0.0999 / 365.25, ColumnState.STABLE),
        ((NAN, NAN), (NAN, NAN), 0.0, ColumnState.INSUFFICIENT_DATA),
        ((NAN, NAN), (NAN, NAN), 9e9, ColumnState.INSUFFICIENT_DATA),
        ((NAN, 0.2), (NAN, NAN), 9e9, ColumnState.DRIFT),
        ((0.05, NAN), (NAN, NAN), 0.0, ColumnState.STABLE),
    ],
)
def test_decision_table(
    ks: tuple[float, float], psi: tuple[float, float], r: float, state: ColumnState
) -> None:
    assert judge(ks, psi, r).state is state


def test_too_few_rows_are_insufficient_whatever_the_statistics() -> None:
    assert judge((1.0, 1.0), (9.0, 9.0), 9e9, rows=(3, 29)).state is ColumnState.INSUFFICIENT_DATA


def test_watch_needs_200_rows_and_more_than_chance() -> None:
    assert judge((0.0, 0.30), (0.0, NAN), 0.0, rows=(20, 199)).state is ColumnState.STABLE
    # 2.2/sqrt(250) = .139
    assert judge((0.0, 0.13), (0.0, 0.0), 0.0, rows=(20, 250)).state is ColumnState.STABLE
    assert judge((0.0, 0.14), (0.0, 0.0), 0.0, rows=(20, 250)).state is ColumnState.WATCH


def test_without_a_budget_there_is_no_evidence_to_watch() -> None:
    assert judge((0.0, 0.0), (0.0, 0.0), 0.0, pages=0.0).state is ColumnState.STABLE


def test_the_opening_effect_is_the_one_furthest_above_its_threshold() -> None:
    verdict = judge((0.40, 0.15), (0.0, 0.12), 5.0)
    assert verdict.effect is not None
    # .40/.35 = 1.14, .15/.10 = 1.5, .12/.10 = 1.2
    assert (verdict.effect.detector, verdict.effect.window_seconds) == ("ks", 86_400)
    assert (verdict.effect.statistic, verdict.effect.rows) == (0.15, 5_000)
    assert verdict.effect.threshold == pytest.approx(0.1)
    assert verdict.evidence == pytest.approx(5.0)
    assert verdict.log_evidence == pytest.approx(np.log(5.0))
    assert "ks 0.15 ≥ 0.1 over 24h (5000 rows)" in verdict.reason


def test_stable_columns_carry_neither_effect_nor_leader() -> None:
    verdict = judge((0.4, 0.0), (0.0, 0.0), 0.0)
    assert (verdict.effect, verdict.leader, verdict.since, verdict.log_evidence) == (None, None, None, None)


@pytest.mark.parametrize("wrong", [NAN, -1.0])
def test_evidence_that_is_no_number_decides_nothing(wrong: float) -> None:
    with pytest.raises(DetectorError, match="bug"):
        judge((0.4, 0.4), (0.0, 0.0), wrong)


def test_evidence_of_another_baseline_is_refused() -> None:
    index, other = mixed_index(), index_of(categorical("city", ["a", "b"] * 100))
    windows = windows_of(
        other,
        [{"city": np.array(["a"] * 300, dtype=object)}],
        np.full((1, 1), NAN),
        np.zeros((1, 1)),
        [3_600],
    )
    found = effects(other, windows, resolve_thresholds([3_600], ["city"]))
    with pytest.raises(DetectorError, match="another baseline"):
        decide(other, found, Evidence.zeros(index), false_pages_per_year=0.1)


def minute_of(rng: np.random.Generator, kind: str) -> dict[str, FloatArray]:
    """60 rows of two columns; `kind` is what has happened to `age`."""
    age, conf = rng.normal(40, 9, 60), rng.beta(8, 2, 60)
    if kind == "shift":
        age = age + 9.0
    if kind == "missing":
        age = np.where(rng.random(60) < 0.3, np.nan, age)
    if kind == "infinite":
        age = np.where(rng.random(60) < 0.3, np.inf, age)
    if kind == "confidence":
        conf = rng.beta(3, 3, 60)
    return {"age": age, "conf": conf}


def run(
    kind: str, minutes: int, at: int, until: int
) -> list[tuple[int, tuple[Verdict, ...], tuple[bool | None, ...]]]:
    """Verdicts every five minutes of traffic that goes wrong in [at, until), with evidence reset on resolve."""
    rng = np.random.default_rng(7)
    train = {"age": rng.normal(40, 9, 4_000), "conf": rng.beta(8, 2, 4_000)}
    index = index_of(numeric("age", train["age"]), numeric("conf", train["conf"], ColumnRole.CONFIDENCE))
    band, budget, state = bands(index), spend(0.1, [1.0, 1.0], 60.0), Evidence.zeros(index)
    limits = resolve_thresholds([900, 3_600], ["age", "conf"])
    past: list[dict[str, FloatArray]] = []
    history = []
    for minute in range(minutes):
        past.append(minute_of(rng, kind if at <= minute < until else "fine"))
        state = advance(
            state, index.count(profile_rows(index.baseline, past[-1])), band, budget, block_start=60 * minute
        )
        if minute % 5 == 4:
            found = effects(index, windows_at(index, train, past), limits)
            verdicts, holds = decide(index, found, state, false_pages_per_year=0.1), effect_holds(found)
            history.append((minute, verdicts, holds))
            resolved = np.array([minute >= until and held is False for held in holds])
            state = reset(state, resolved)
    return history


def windows_at(index: EventIndex, train: dict[str, FloatArray], past: list[dict[str, FloatArray]]) -> Windows:
    spans = [
        {name: np.concatenate([m[name] for m in past[-length:]]) for name in train} for length in (15, 60)
    ]
    ks = np.array([[distance(train[name], span[name]) for name in train] for span in spans])
    psi = np.array([[decile_psi(train[name], span[name]) for name in train] for span in spans])
    return windows_of(index, spans, ks, psi, [900, 3_600])


@pytest.mark.parametrize(
    ("kind", "column", "within", "event", "detectors"),
    [
        # Table 6 of the reference: 1 sd at 60 rows a minute pages after .7 h (90 % of runs a little later).
        ("shift", 0, 70, "age ≤ ", {"ks", "psi"}),
        ("missing", 0, 25, "age missing", {"missing"}),
        ("infinite", 0, 25, "age ", {"non_finite", "out_of_range"}),
        ("confidence", 1, 25, "conf", {"ks", "psi"}),
    ],
)
def test_a_planted_drift_pages_on_its_column_and_resolves(
    kind: str, column: int, within: int, event: str, detectors: set[str]
) -> None:
    at, until = 90, 180
    history = run(kind, 270, at, until)
    paged = [minute for minute, verdicts, _ in history if verdicts[column].state is ColumnState.DRIFT]
    assert at < paged[0] <= at + within
    assert all(v[1 - column].state is ColumnState.STABLE for _, v, _ in history)
    assert all(v[column].state is ColumnState.STABLE for minute, v, _ in history if minute < at)
    verdict = next(v[column] for minute, v, _ in history if minute == paged[0])
    assert verdict.effect is not None
    assert verdict.effect.detector in detectors
    assert verdict.leader is not None
    assert verdict.leader.event.startswith(event) or verdict.leader.event == "mean of conf"
    assert verdict.reason.startswith(str(verdict.leader))
    assert verdict.since is not None
    assert at <= verdict.since / 60 <= at + 5
    # An hour and a quarter after the end no window holds it any more, and nothing pages again.
    assert all(v[column].state is ColumnState.STABLE for minute, v, _ in history if minute > until + 75)
    assert history[-1][2] == (False, False)


def test_the_leader_says_from_what_to_what() -> None:
    history = run("missing", 120, 60, 120)
    leader = history[-1][1][0].leader
    assert leader is not None
    assert str(leader).startswith("age missing: baseline 0 % → now ")
    assert (leader.direction, leader.baseline) == ("up", 0.0)
    assert leader.now == pytest.approx(0.3, abs=0.05)

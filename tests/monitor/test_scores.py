"""Stored evaluations: what was valid comes back, what was not stays not valid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from detectors.types import ColumnState
from monitor.scores import STATISTICS, DamagedEvaluation, Scores, decode, encode_scores, encode_states

FLOATS = st.one_of(st.just(float("nan")), st.floats(-1e6, 1e6, width=32))


@given(
    hnp.arrays(np.float64, (2, 3, len(STATISTICS)), elements=FLOATS),
    hnp.arrays(np.float64, 3, elements=st.one_of(st.just(float("nan")), st.floats(0, 1e6, width=32))),
    st.tuples(*[st.sampled_from(list(ColumnState))] * 3),
)
def test_a_round_trip_keeps_values_and_gaps(
    values: np.ndarray, effect: np.ndarray, states: tuple[ColumnState, ...]
) -> None:
    scores = Scores(
        windows=(900, 86_400),
        rows=np.array([5, 2**40]),
        values=values,
        effect=effect,
        evidence=np.array([0.0, 1.5, 1e250]),
        states=states,
    )
    encoded = encode_scores(scores)
    back = decode(encode_states(scores), encoded)
    assert back.windows == scores.windows
    assert back.rows.tolist() == scores.rows.tolist()
    assert np.array_equal(back.values, values, equal_nan=True)
    assert np.array_equal(back.effect, effect, equal_nan=True)
    assert back.states == states
    assert np.isfinite(back.evidence).all()


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"DES1" + bytes(6) + b"broken"])
def test_damaged_bytes_are_refused(damage: bytes) -> None:
    with pytest.raises(DamagedEvaluation):
        decode(b"", damage)


def test_an_unknown_statistic_is_answered_with_those_there_are() -> None:
    scores = Scores(
        windows=(60,),
        rows=np.zeros(1, dtype=np.int64),
        values=np.zeros((1, 1, len(STATISTICS))),
        effect=np.zeros(1),
        evidence=np.zeros(1),
        states=(ColumnState.STABLE,),
    )
    with pytest.raises(KeyError, match="there are ks"):
        scores.of("kolmogorov")

"""What is no number is never a score."""

import numpy as np

from detectors.scoring import masked
from detectors.types import INSUFFICIENT, NOT_APPLICABLE, VALID


def test_a_statistic_that_is_no_number_is_insufficient_and_stops_no_other_column() -> None:
    found = masked(
        np.array([0.5, np.nan, np.inf, 0.1, 0.2]),
        np.array([False] * 3 + [True] * 2),
        np.array([False] * 4 + [True]),
    )
    assert found.status.tolist() == [VALID, INSUFFICIENT, INSUFFICIENT, INSUFFICIENT, NOT_APPLICABLE]
    np.testing.assert_array_equal(found.statistic, [0.5, np.nan, np.nan, np.nan, np.nan])


def test_conditions_broadcast_over_windows() -> None:
    found = masked(np.zeros((3, 2)), np.array([[True], [False], [False]]), np.array([False, True]))
    assert found.status.tolist() == [
        [INSUFFICIENT, NOT_APPLICABLE],
        [VALID, NOT_APPLICABLE],
        [VALID, NOT_APPLICABLE],
    ]

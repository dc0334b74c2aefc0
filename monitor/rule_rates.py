"""What the classic rules cost on traffic in which nothing changes: the figures of docs/statistics-tables.md.

They are of 36 columns, a window of 24 hours and one look a minute, with the peers' thresholds and their own filling of
empty bins. Each came from

    driftd simulate --scenario SCENARIO --rule RULE --years YEARS --seed 1
"""

from dataclasses import dataclass
from typing import Final

from detectors.paging import USUAL, ClassicKind, ClassicRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """One row: `pages` false pages a year, None where the rule is in alarm permanently; `rule`, `years` as simulated."""

    scenario: str
    words: str
    rule: str
    years: str
    pages: float | None

    def __str__(self) -> str:
        if self.pages is None:
            return f"was permanently in alarm on {self.words}"
        if self.pages == 0:
            return f"did not page in {float(self.years):g} model-years of {self.words}"
        return f"paged {self.pages:.0f} times a year on {self.words}"


_BATCHES_60: Final = "batches of 10 equal rows, 60 rows a minute"
_BATCHES_2: Final = "batches of 10 equal rows, 2 rows a minute"
_IID_2: Final = "independent rows, 2 a minute"
_IID_01: Final = "independent rows, one in ten minutes"
_TOO_FEW: Final = f"{_IID_01} (there driftd's PSI, of 200 values or more, says nothing)"
_MILD_2: Final = "a mild daily season, 2 rows a minute"

RATES: Final = (
    # driftd simulate --scenario batches_60 --rule ks_p_value --years 0.1 --seed 1
    Rate(scenario="batches_60", words=_BATCHES_60, rule="ks_p_value", years="0.10", pages=None),
    # driftd simulate --scenario iid_01 --rule ks_p_value --years 0.25 --seed 1
    Rate(scenario="iid_01", words=_IID_01, rule="ks_p_value", years="0.25", pages=392),
    # driftd simulate --scenario batches_2 --rule ks_bonferroni --years 0.25 --seed 1
    Rate(scenario="batches_2", words=_BATCHES_2, rule="ks_bonferroni", years="0.25", pages=None),
    # driftd simulate --scenario iid_2 --rule ks_bonferroni --years 0.25 --seed 1
    Rate(scenario="iid_2", words=_IID_2, rule="ks_bonferroni", years="0.25", pages=168),
    # driftd simulate --scenario batches_2 --rule psi_010 --years 0.25 --seed 1
    Rate(scenario="batches_2", words=_BATCHES_2, rule="psi_010", years="0.25", pages=288),
    # driftd simulate --scenario iid_2 --rule psi_010 --years 0.25 --seed 1
    Rate(scenario="iid_2", words=_IID_2, rule="psi_010", years="0.25", pages=0),
    # driftd simulate --scenario batches_2 --rule psi_025 --years 0.25 --seed 1
    Rate(scenario="batches_2", words=_BATCHES_2, rule="psi_025", years="0.25", pages=0),
    # driftd simulate --scenario iid_01 --rule psi_025 --years 0.25 --seed 1
    Rate(scenario="iid_01", words=_TOO_FEW, rule="psi_025", years="0.25", pages=120),
    # driftd simulate --scenario iid_01 --rule wasserstein_010 --years 0.25 --seed 1
    Rate(scenario="iid_01", words=_IID_01, rule="wasserstein_010", years="0.25", pages=None),
    # driftd simulate --scenario mild_2 --rule wasserstein_010 --years 0.25 --seed 1
    Rate(scenario="mild_2", words=_MILD_2, rule="wasserstein_010", years="0.25", pages=552),
)


def rates_of(rule: ClassicRule) -> tuple[ClassicRule, tuple[Rate, ...]]:
    """The rule as it was simulated, with the threshold next to this one's, and its rates."""
    coarse = rule.kind is ClassicKind.PSI and rule.threshold >= 0.2
    threshold = 0.25 if coarse else USUAL[rule.kind]
    name = _SIMULATED[rule.kind, threshold]
    found = tuple(rate for rate in RATES if rate.rule == name)
    return ClassicRule(kind=rule.kind, threshold=threshold), found


_SIMULATED: Final = {
    (ClassicKind.KS_P_VALUE, 0.05): "ks_p_value",
    (ClassicKind.KS_BONFERRONI, 0.05): "ks_bonferroni",
    (ClassicKind.PSI, 0.1): "psi_010",
    (ClassicKind.PSI, 0.25): "psi_025",
    (ClassicKind.WASSERSTEIN, 0.1): "wasserstein_010",
}
"""The name of a kind and threshold in `driftd simulate`."""

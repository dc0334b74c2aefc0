"""Which rule opens a page, and from which preset driftd's own takes its effect thresholds.

driftd's rule needs two keys (`decision.verdict`). The classic rules are what its peers ship, for who must match a report that
exists already: one statistic of the longest window against one number, at every look. They know no budget.

- KS_P_VALUE: p < alpha in any column.
- KS_BONFERRONI: p < alpha / the columns that the rule judges.
- PSI: PSI >= threshold.
- WASSERSTEIN: Wasserstein-1 in training standard deviations >= threshold.

Words and numbers only: the configuration reads them, and a command that only reads it must not wait for numpy.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LEAST_ALPHA: Final = 1e-6
"""Below it the critical distance is no longer exact to a thousandth once it is shared by a thousand columns."""
MOST_ALPHA: Final = 0.5


class ClassicKind(StrEnum):
    """The statistic and the way it is compared."""

    KS_P_VALUE = "ks_p_value"
    KS_BONFERRONI = "ks_bonferroni"
    PSI = "psi"
    WASSERSTEIN = "wasserstein"

    @property
    def is_p_value(self) -> bool:
        """Whether the threshold is the level of a test, and smaller means fewer pages."""
        return self in (ClassicKind.KS_P_VALUE, ClassicKind.KS_BONFERRONI)

    @property
    def detector(self) -> str:
        """The statistic that is compared, by its registry name."""
        return "ks" if self.is_p_value else self.value


class Preset(StrEnum):
    """AUTO: A until a column has learned, C after. A and C: one table for good; see `decision.preset`."""

    AUTO = "auto"
    A = "A"
    C = "C"


USUAL: Final = {
    ClassicKind.KS_P_VALUE: 0.05,
    ClassicKind.KS_BONFERRONI: 0.05,
    ClassicKind.PSI: 0.1,
    ClassicKind.WASSERSTEIN: 0.1,
}
"""The thresholds that peers ship."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicRule:
    """A peers' rule: `threshold` is alpha for the p-values, else the least statistic that pages."""

    kind: ClassicKind
    threshold: float

    def __post_init__(self) -> None:
        # Written so that NaN fails both.
        if self.kind.is_p_value and not LEAST_ALPHA <= self.threshold <= MOST_ALPHA:
            raise ValueError(
                f"{self.kind}: {self.threshold:g} is no level of a test; give {LEAST_ALPHA:.6f} to {MOST_ALPHA:g}"
            )
        if not 0.0 < self.threshold < float("inf"):
            raise ValueError(f"{self.kind}: {self.threshold:g}; a threshold is a number above 0")

    def __str__(self) -> str:
        """The rule as a reader knows it.

        >>> str(ClassicRule(kind=ClassicKind.KS_BONFERRONI, threshold=0.05))
        'KS p < 0.05, shared by the columns'
        """
        said = f"{self.threshold:g}"
        return {
            ClassicKind.KS_P_VALUE: f"KS p < {said} in any column",
            ClassicKind.KS_BONFERRONI: f"KS p < {said}, shared by the columns",
            ClassicKind.PSI: f"PSI ≥ {said}",
            ClassicKind.WASSERSTEIN: f"Wasserstein-1 ≥ {said} standard deviations",
        }[self.kind]

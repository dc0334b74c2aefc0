"""What the configuration says of the paging rule: a word, or a table with one number for each word.

rule = "psi"                severity = "warning"
rule = { psi = 0.25 }       severity = { warning = 1.0, critical = 2.0 }
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BeforeValidator

from alerts.identity import Severity
from detectors.paging import USUAL, ClassicKind, ClassicRule, Preset

TWO_KEY: Final = "two_key"
_RULES: Final = (TWO_KEY, *(kind.value for kind in ClassicKind))
_SEVERITIES: Final = (Severity.WARNING.value, Severity.CRITICAL.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeverityRule:
    """How severe an alert opens: `critical` from so many times the least threshold on, warning below; None: never."""

    critical: float | None = 1.0

    def of(self, size: float) -> Severity:
        """The severity of an effect of that `magnitude`."""
        return Severity.CRITICAL if self.critical is not None and size >= self.critical else Severity.WARNING


def parse_preset(value: object) -> Preset:
    """A preset from its word."""
    if isinstance(value, Preset):
        return value
    words = [preset.value for preset in Preset]
    if value not in words:
        raise ValueError(f"should be {_or(words)}{_meant(value, words)}")
    return Preset(str(value))


def parse_rule(value: object) -> ClassicRule | None:
    """None for driftd's own rule, else the classic one, with its usual threshold unless the table gives another."""
    if value is None or isinstance(value, ClassicRule):
        return value
    name, threshold = _one_of(value)
    if name not in _RULES:
        raise ValueError(f"there is no rule {name!r}; should be {_or(_RULES)}{_meant(name, _RULES)}")
    if name == TWO_KEY:
        if threshold is not None:
            raise ValueError("two_key has no threshold; see false_pages_per_year and effect")
        return None
    kind = ClassicKind(name)
    return ClassicRule(kind=kind, threshold=USUAL[kind] if threshold is None else threshold)


def parse_severity(value: object) -> SeverityRule:
    """A severity for every alert, or the effects from which each word begins."""
    if isinstance(value, SeverityRule):
        return value
    if value == Severity.WARNING:
        return SeverityRule(critical=None)
    if value == Severity.CRITICAL:
        return SeverityRule()
    if not isinstance(value, Mapping) or not value:
        raise ValueError(
            f"should be {_or(_SEVERITIES)}, or a table of both such as {{ warning = 1.0, critical = 2.0 }}"
        )
    unknown = [str(name) for name in value if name not in _SEVERITIES]
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)}: no such severity; there are {_or(_SEVERITIES)}{_meant(unknown[0], _SEVERITIES)}"
        )
    steps = {str(name): _number(f"severity {name}", step) for name, step in value.items()}
    warning, critical = steps.get("warning", 1.0), steps.get("critical")
    if critical is not None and critical < 1.0:
        raise ValueError(f"critical = {critical:g}: an effect that opens an alert is at least 1")
    if warning != 1.0:
        raise ValueError("warning begins at 1.0, the smallest effect that opens an alert")
    if "warning" in steps and critical == 1.0:
        raise ValueError("critical begins at 1.0 like warning, so nothing would be a warning; raise it")
    return SeverityRule(critical=critical)


def _one_of(value: object) -> tuple[str, float | None]:
    if isinstance(value, str):
        return value, None
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, threshold),) = value.items()
        return str(name), _number(str(name), threshold)
    raise ValueError(
        f"should be {_or(_RULES)}, or a table with the threshold of one of them, such as {{ psi = 0.25 }}"
    )


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}: a finite number is expected here")
    return float(value)


def _or(words: tuple[str, ...] | list[str]) -> str:
    quoted = [f"'{word}'" for word in words]
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _meant(value: object, words: tuple[str, ...] | list[str]) -> str:
    close = difflib.get_close_matches(str(value), words, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


PagingRule = Annotated[ClassicRule | None, BeforeValidator(parse_rule)]
PagingPreset = Annotated[Preset, BeforeValidator(parse_preset)]
PagingSeverity = Annotated[SeverityRule, BeforeValidator(parse_severity)]

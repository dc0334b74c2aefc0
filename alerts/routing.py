"""Matchers on labels, with Alertmanager's meaning, and which receivers an alert goes to."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from alerts.errors import AlertError
from alerts.identity import Labels, Severity

_LONGEST_VALUE = 1000
_FORM = re.compile(r"\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*(.*?)\s*", re.DOTALL)


class MatchOp(StrEnum):
    """How a matcher compares; the regular expressions must match the whole value."""

    EQUAL = "="
    NOT_EQUAL = "!="
    MATCHES = "=~"
    NOT_MATCHES = "!~"


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label; an absent label counts as the empty string."""

    name: str
    op: MatchOp
    value: str
    _pattern: re.Pattern[str] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if len(self.value) > _LONGEST_VALUE:
            raise AlertError(
                f"matchers: the value for {self.name!r} is longer than {_LONGEST_VALUE} characters"
            )
        if self.op in (MatchOp.MATCHES, MatchOp.NOT_MATCHES):
            try:
                object.__setattr__(self, "_pattern", re.compile(self.value, re.DOTALL))
            except (re.error, RecursionError, OverflowError) as error:
                raise AlertError(f"matchers: {self.value!r} is not a regular expression: {error}") from None

    def matches(self, labels: Labels) -> bool:
        """Whether the labels meet the condition."""
        return self.accepts(labels.get(self.name, ""))

    def accepts(self, value: str) -> bool:
        """Whether one value meets the condition."""
        if self._pattern is None:
            return (value == self.value) == (self.op is MatchOp.EQUAL)
        return (self._pattern.fullmatch(value) is not None) == (self.op is MatchOp.MATCHES)

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{self.op.value}"{escaped}"'


def parse_matcher(text: str) -> Matcher:
    r"""Read `name="value"`, with `=`, `!=`, `=~` or `!~`; quotes are optional, inside them \" \\ \n escape."""
    found = _FORM.fullmatch(text)
    if found is None:
        ops = " ".join(op.value for op in MatchOp)
        raise AlertError(f'matchers: {text!r} is not name="value" with one of {ops}')
    name, op, value = found.groups()
    if value[:1] == '"':
        if len(value) < 2 or not re.fullmatch(r'"(?:[^"\\]|\\.)*"', value, re.DOTALL):
            raise AlertError(f"matchers: {text!r} has an unfinished quotation")
        value = re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), value[1:-1], flags=re.DOTALL)
    return Matcher(name, MatchOp(op), value)


def all_match(matchers: Sequence[Matcher], labels: Labels) -> bool:
    """Whether every matcher is met; no matchers match everything."""
    return all(matcher.matches(labels) for matcher in matchers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Alerts that match go to `receiver`, from `min_severity` up. No matchers: all alerts."""

    receiver: str
    matchers: tuple[Matcher, ...] = ()
    min_severity: Severity = Severity.WARNING


def route(labels: Labels, severity: Severity, routes: Sequence[Route]) -> tuple[str, ...]:
    """The receivers of an alert, in the order of the routes, each once.

    The default configuration is one route without matchers per receiver, so everybody is told of all that is
    severe enough. A broken receiver is not told of its own breaking.
    """
    found = [r.receiver for r in routes if severity >= r.min_severity and all_match(r.matchers, labels)]
    broken = labels.get("receiver", "")
    return tuple(name for name in dict.fromkeys(found) if name != broken)

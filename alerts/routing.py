"""Matchers on labels, with Alertmanager's meaning, and which receivers an alert goes to."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
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
    """Alerts that meet every matcher go to `receivers`, and to later routes as well only if `goes_on`.

    No matchers: all alerts; no receivers: nobody. The three spans replace the general ones; None keeps those.
    """

    receivers: tuple[str, ...]
    matchers: tuple[Matcher, ...] = ()
    goes_on: bool = False
    group_wait: timedelta | None = None
    group_interval: timedelta | None = None
    repeat_interval: timedelta | None = None

    @property
    def ends_all(self) -> bool:
        """Whether no alert comes past this route."""
        return not self.matchers and not self.goes_on


def taken_by(labels: Labels, severity: Severity, routes: Sequence[Route]) -> tuple[Route, ...]:
    """The routes that take an alert, in order: the first that matches, and those that it lets it go on to."""
    known = {**labels, "severity": severity.value}
    taken = []
    for one in routes:
        if all_match(one.matchers, known):
            taken.append(one)
            if not one.goes_on:
                break
    return tuple(taken)


def route(labels: Labels, severity: Severity, routes: Sequence[Route]) -> dict[str, Route]:
    """The receivers of an alert, in order, each with the first route that leads there.

    Their `min_severity` is their own matter. A broken receiver is not told of its own breaking.
    """
    found: dict[str, Route] = {}
    for one in taken_by(labels, severity, routes):
        for name in one.receivers:
            found.setdefault(name, one)
    found.pop(labels.get("receiver", ""), None)
    return found


def reachable(routes: Sequence[Route]) -> Sequence[Route]:
    """The routes up to the first that lets nothing past."""
    for position, one in enumerate(routes):
        if one.ends_all:
            return routes[: position + 1]
    return routes

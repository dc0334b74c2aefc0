"""Durations and sizes as people write them: "15m", "1h30m", "7d", "64MiB"."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_DECIMAL = {
    "kB": "KiB",
    "KB": "KiB",
    "MB": "MiB",
    "GB": "GiB",
    "TB": "TiB",
    "K": "KiB",
    "M": "MiB",
    "G": "GiB",
}
_DURATION = re.compile(r"(?:(?:0|[1-9][0-9]{0,8})(?:ms|[smhdw]))+")
_DURATION_PART = re.compile(r"([0-9]+)(ms|[smhdw])")
_SIZE = re.compile(r"(0|[1-9][0-9]{0,14}) ?([A-Za-z]*)")


def parse_duration(value: object) -> timedelta:
    """A span of time from "90s", "15m", "1h30m", "7d" (ms, s, m, h, d of 24 h, w of 7 d).

    Raises ValueError for anything else. A bare number is refused: whether 15 means seconds or minutes is
    exactly what a reader of a configuration file should not have to guess.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f'a duration needs its unit, in quotes; write "{value}s" if seconds are meant')  # noqa: TRY004 - pydantic collects ValueErrors
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise ValueError(
            'not a duration; write a whole number with ms, s, m, h, d or w, such as "15m" or "1h30m"'
        )
    parts = _DURATION_PART.findall(value)
    if len({unit for _, unit in parts}) < len(parts):
        raise ValueError("a duration names each unit once")
    span = timedelta(seconds=sum(int(number) * _SECONDS[unit] for number, unit in parts))
    if span > timedelta(days=36_525):
        raise ValueError("a duration ends within 100 years")
    return span


def parse_duration_or_off(value: object) -> timedelta | None:
    """A duration, or None for "off"."""
    if value is None or value == "off":
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f'{error}; or "off"') from None


def format_duration(span: timedelta) -> str:
    """The shortest spelling that `parse_duration` reads back: 5400 s is "1h30m", a week "7d"."""
    if span < timedelta(0):
        raise ValueError("a duration is not negative")
    left = span // timedelta(milliseconds=1)
    text = ""
    for unit in ("d", "h", "m", "s", "ms"):
        size = round(_SECONDS[unit] * 1_000)
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def parse_size(value: object) -> int:
    """Bytes from "512B", "64KiB", "8MiB", "5GiB", "1TiB"; raises ValueError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(f'a size needs its unit, in quotes; write "{value}B" if bytes are meant')  # noqa: TRY004 - pydantic collects ValueErrors
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('not a size; write a whole number with B, KiB, MiB, GiB or TiB, such as "64MiB"')
    number, unit = match.groups()
    if unit not in _BYTES:
        meant = _DECIMAL.get(unit)
        hint = f'; write "{number}{meant}" if powers of 1024 are meant' if meant else ""
        raise ValueError(f"the units of a size are {', '.join(_BYTES)}{hint}")
    return int(number) * _BYTES[unit]


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
OptionalDuration = Annotated[timedelta | None, BeforeValidator(parse_duration_or_off)]
Size = Annotated[int, BeforeValidator(parse_size)]

"""Long arrays of numbers, taken out of a JSON text and read without an object per number.

A JSON parser that makes a Python float of each number spends more on that than on the digits, and what makes an array of them takes as
long again. So an array that looks as if it held nothing but numbers is cut out, and a mark left in its place: the rest is a
small text for the decoders that know the formats, and the array is simdjson's, which writes float64 straight into a buffer.
Nothing is taken on trust: the rest must be JSON, and so must each array; an array that is more than numbers is read as
ever, and a body that is refused is read whole, for words that fit.
"""

import re
import threading
from dataclasses import dataclass
from typing import Final

import numpy as np
import simdjson
from msgspec import Raw

from detectors.types import FloatArray

LEAST_BYTES: Final = 2048
MOST_BYTES: Final = 2 * 2**20
"""Of an array: a parser keeps room for the largest text it has read, thirteen times its bytes."""
MOST_BRACKETS: Final = 4096
"""Looked at before the rest of a text is left as it is."""

_NUMBERS: Final = re.compile(rb"\[(\[?)[-0-9]")
MARK: Final = "\x01"
"""How a string begins that stands for an array. No JSON text without escapes has it."""
_ESCAPED: Final = b"\\u0001"
_MARK: Final = b'"%s%%d"' % _ESCAPED
_MARKED: Final = re.compile(rb'"\\u0001([0-9]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """A JSON text with `marks` in place of `arrays`; the marks are strings with an escape, of which the text had none."""

    text: bytes
    arrays: tuple[bytes, ...]

    def array(self, raw: bytes | memoryview) -> bytes | None:
        """The array that a value of the text stands for; None for a value that is itself."""
        found = _MARKED.fullmatch(raw)
        return None if found is None else self.arrays[int(found[1])]

    def is_in(self, raw: bytes | memoryview | Raw) -> bool:
        """Whether a mark stands anywhere in a piece of the text."""
        return _ESCAPED in bytes(raw)


def lift(text: bytes) -> Lifted | None:
    """The text without its long arrays of what look like numbers, flat or of rows; None if there is none."""
    if len(text) < LEAST_BYTES or b"\\" in text:
        return None
    arrays: list[bytes] = []
    parts: list[bytes] = []
    kept = at = 0
    for _ in range(MOST_BRACKETS):
        begin = text.find(b"[", at)
        if begin < 0:
            break
        found = _NUMBERS.match(text, begin)
        at = begin + 1
        if found is None:
            continue
        ending = b"]]" if found[1] else b"]"
        last = text.find(ending, at)
        if last < 0:
            break
        at = last + len(ending)
        if LEAST_BYTES <= at - begin <= MOST_BYTES:
            parts += [text[kept:begin], _MARK % len(arrays)]
            arrays.append(text[begin:at])
            kept = at
    if not arrays:
        return None
    parts.append(text[kept:])
    return Lifted(text=b"".join(parts), arrays=tuple(arrays))


class _Parsers(threading.local):
    """A parser for each thread."""

    def __init__(self) -> None:
        self.parser = simdjson.Parser(max_capacity=MOST_BYTES)


_parsers: Final = _Parsers()


def numbers(array: bytes, rows: int | None = None) -> FloatArray | None:
    """The numbers of a JSON array as float64 [N]; None where it is not one, or holds anything else, null too.

    With `rows`, an array of so many arrays, all of one length, is taken as well.
    """
    if len(array) > MOST_BYTES:
        return None
    try:
        found = _parsers.parser.parse(array)
        if not isinstance(found, simdjson.Array):
            return None
        if array.find(b"[", 1) > 0 and not _is_table(found, array, rows):
            return None
        return np.frombuffer(found.as_buffer(of_type="d"), dtype=np.float64)
    except (ValueError, TypeError, RuntimeError):
        return None


def _is_table(found: simdjson.Array, array: bytes, rows: int | None) -> bool:
    if rows is None or len(found) != rows or array.count(b"[") != rows + 1:
        return False
    widths = {len(row) if isinstance(row, simdjson.Array) else -1 for row in found}
    return len(widths) == 1 and -1 not in widths

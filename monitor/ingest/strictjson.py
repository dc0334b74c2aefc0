"""JSON read strictly: no duplicate keys, no NaN, no number outside its range, no NUL, no lone surrogate.

msgspec is fast but keeps the last of two equal keys without a word, and stops at the first fault. So:

- `count_keys` counts the keys of every object of a body with a handful of numpy passes (under 1 ns per byte,
  a fifth of what decoding costs). The decoders know how many *distinct* keys they got; more on the wire means a
  duplicate. That is exact, and costs no second parse on the good path.
- `StrictReader` is the slow reader for a piece of bounded size (one row, one column): the standard library's
  parser with hooks, which names what is wrong instead of refusing the whole body.
- `text_traps` finds what JSON can escape but text cannot hold; only a body that has them leaves the fast path.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from monitor.ingest.errors import MalformedError

MAX_STRICT_BYTES: Final = 4 * 2**20
"""The most the slow reader takes at once: nested empty lists cost it 30 times their bytes of memory."""

_SHORT_BYTES: Final = 4096
"""Below this numpy's passes cost more to begin than to run."""
_QUOTE_BLANK: Final = re.compile(rb'"[\x00-\x20]')
_PARAMETERS: Final = msgspec.json.Decoder(dict[str, bool | int | float | str | None] | None)
_MAX_DIGITS: Final = 400  # beyond this no float64 either; int() of longer literals is quadratic
_ESCAPED_NUL: Final = b"\\u0000"
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """A JSON number that no float64 or int64 holds; `literal` is cut for display."""

    literal: str


def check_text(body: bytes) -> None:
    """Refuse a body that is not UTF-8 without a byte order mark."""
    if body.startswith((b"\xef\xbb\xbf", b"\xfe\xff", b"\xff\xfe")):
        raise MalformedError("the body starts with a byte order mark; send plain UTF-8")
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise MalformedError(f"the body is not UTF-8: {error.reason} at byte {error.start}") from error


def text_traps(body: bytes) -> tuple[bytes, bool]:
    """The body with each lone surrogate escape turned into an escaped NUL, and whether it has escaped NULs now.

    Neither is text, both get the same answer, and msgspec would refuse the whole body for one lone surrogate.
    """
    if b"\\" not in body:
        return body, False
    if _SURROGATE.search(body):
        body = _ESCAPE.sub(lambda found: _ESCAPED_NUL if found[1] else found[0], body)
    return body, _ESCAPED_NUL in body


def has_only(body: bytes, keys: int) -> bool:
    """Whether the objects of a valid JSON text have exactly `keys` keys, given that they have at least as many.

    There are at most as many keys as colons, and without escapes and without a quote followed by white space at most as
    many as there are `":`. Where either are no more than `keys`, that settles it in a pass or in three.
    """
    if len(body) <= _SHORT_BYTES and b"\\" not in body:
        if body.count(b'":') == keys and not _QUOTE_BLANK.search(body):
            return True
        return count_keys(body) == keys
    octets = np.frombuffer(body, dtype=np.uint8)
    if int(np.count_nonzero(octets == ord(":"))) == keys:
        return True
    if b"\\" not in body:
        quotes, following = octets[:-1] == ord('"'), octets[1:]
        if not (quotes & (following <= 32)).any():
            pairs = int(np.count_nonzero(quotes & (following == ord(":"))))
            if pairs == keys:
                return True
    return count_keys(body) == keys


def count_keys(body: bytes) -> int:
    """How many keys the objects of a valid JSON text have in all, duplicates included.

    >>> count_keys(b'{"a": {"b\\\\"": ":"}, "a" : [1, "x:y"]}')
    3
    """
    octets = np.frombuffer(body, dtype=np.uint8)
    quotes = np.flatnonzero(octets == ord('"'))
    if b"\\" in body:
        quotes = quotes[~_escaped(octets, quotes)]
    after = quotes[1::2] + 1
    after = after[after < octets.size]
    blank = _blank(octets[after])
    if not blank.any():
        return int((octets[after] == ord(":")).sum())
    # Looking past white space byte by byte would let a megabyte of blanks cost a million passes.
    solid = np.flatnonzero(~_blank(octets))
    following = np.searchsorted(solid, after)
    following = solid[following[following < solid.size]]
    return int((octets[following] == ord(":")).sum())


def _blank(octets: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    return np.asarray((octets == 32) | (octets == 9) | (octets == 10) | (octets == 13))


def _escaped(octets: npt.NDArray[np.uint8], quotes: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Which quotes stand behind an odd run of backslashes."""
    slashes = np.flatnonzero(octets == ord("\\"))
    starts = np.flatnonzero(np.diff(slashes, prepend=-2) != 1)
    ends = np.append(starts[1:], slashes.size) - 1
    odd_ends = slashes[ends][(ends - starts) % 2 == 0]
    return np.isin(quotes - 1, odd_ends)


def read_parameters(piece: bytes | memoryview) -> tuple[Any, int]:
    """The value of a piece that should be an object of scalars or null, and how many keys there are in it.

    What is more than that is read by `StrictReader`. A key that comes twice may go unseen here, and is in the count of all.
    """
    try:
        found = _PARAMETERS.decode(piece)
    except (ValueError, RecursionError):
        reader = StrictReader()
        return reader.read(piece), reader.keys
    return found, len(found or ())


def find_duplicate(body: bytes) -> str | None:
    """The name of a key that occurs twice in one object, or None."""
    try:
        StrictReader().read(body)
    except DuplicateKeyError as error:
        return error.key
    except (ValueError, RecursionError):
        return None
    return None


class DuplicateKeyError(MalformedError):
    """One object names a key twice; which value was meant is anyone's guess."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key[:100]!r} occurs twice in one object; send it once")
        self.key = key


class StrictReader:
    """Reads JSON pieces with the standard library and counts the keys it saw in `keys`."""

    def __init__(self) -> None:
        self.keys = 0

    def read(self, piece: bytes | memoryview) -> Any:
        """The value of one piece; numbers out of range come back as `OutOfRange`.

        MalformedError (400) for what is no JSON, DuplicateKeyError among them.
        """
        try:
            return json.loads(
                bytes(piece),
                object_pairs_hook=self._pairs,
                parse_int=_integer,
                parse_float=_real,
                parse_constant=_constant,
            )
        except RecursionError as error:
            raise MalformedError("the JSON is nested too deeply") from error
        except json.JSONDecodeError as error:
            raise MalformedError(f"the body is not JSON: {error.msg}") from error

    def _pairs(self, pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
        self.keys += len(pairs)
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    raise DuplicateKeyError(name)
                seen.add(name)
        return found


def _integer(literal: str) -> int | OutOfRange:
    return int(literal) if len(literal) <= _MAX_DIGITS else OutOfRange(_shown(literal))


def _real(literal: str) -> float | OutOfRange:
    value = float(literal)
    return OutOfRange(_shown(literal)) if value in (float("inf"), float("-inf")) else value


def _constant(literal: str) -> float:
    raise MalformedError(f"{literal} is not JSON; send null where a value is missing")


def _shown(literal: str) -> str:
    return literal if len(literal) <= 24 else f"{literal[:20]}… ({len(literal)} characters)"

"""Text that strangers had a hand in (column names, model names, replies), made safe to show on one line."""

import re
from collections.abc import Sequence

# Line breaks and tabs become spaces. Other control characters (terminal escapes), lone surrogates (not
# encodable) and bidirectional overrides (they make a name read as another) become the replacement character.
_BREAKS = re.compile("[\t\n\v\f\r\x85\u2028\u2029]")
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
ELLIPSIS = "…"


def clean(text: str) -> str:
    """Return `text` on one line, without control characters, lone surrogates or direction overrides."""
    return _UNSAFE.sub("\ufffd", _BREAKS.sub(" ", text))


def cut(text: str, limit: int) -> str:
    """Return at most `limit` code points of `text`; what was cut is shown by a final `…`."""
    if len(text) <= limit:
        return text
    return text[: max(limit - 1, 0)] + ELLIPSIS[:limit]


def joined(pieces: Sequence[str], limit: int) -> str:
    """Return at most `limit` code points of pieces that are never cut in half; what was left out is shown by a final `…`."""
    if sum(map(len, pieces)) <= limit:
        return "".join(pieces)
    kept, length = [], 0
    for piece in pieces:
        if length + len(piece) > limit - len(ELLIPSIS):
            break
        kept.append(piece)
        length += len(piece)
    return "".join(kept) + ELLIPSIS


def number(value: float) -> str:
    """Write a number with three significant digits, without an exponent where it stays short."""
    short = f"{value:.3g}"
    return f"{value:,.0f}".replace(",", " ") if "e+" in short and abs(value) < 1e15 else short


def whole(value: int) -> str:
    """Write a count with thin groups of three: `12 034`."""
    return f"{value:,}".replace(",", " ")

"""Reading a request's body: its declared and its real size, its type, the time it may take."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from starlette.requests import ClientDisconnect, Request

from monitor.api.problem import ProblemError
from monitor.ingest.arrow import VERSION_HEADER
from monitor.ingest.errors import MalformedError, TooLargeError
from monitor.ingest.posted_counts import MEDIA_TYPE as COUNTS
from monitor.instants import to_ns

HEADER_LENGTH: Final = "inference-header-content-length"
_DIGITS: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
ARROW_STREAM: Final = "application/vnd.apache.arrow.stream"
ARROW_FILE: Final = "application/vnd.apache.arrow.file"
_ACCEPTED: Final = {
    "Accept-Post": f"application/json, application/octet-stream, {ARROW_STREAM}, {ARROW_FILE}, {COUNTS}"
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyKind:
    """What a request says its body is; `header_length` is set for OIP binary, `version` may be for Arrow.

    `sent_ns` is the header Date, the sender's clock at this very attempt (nanoseconds), None without one.
    """

    header_length: int | None
    encoding: str
    counts: bool = False
    arrow: Literal["stream", "file"] | None = None
    version: str | None = None
    sent_ns: int | None = None


def body_kind(request: Request) -> BodyKind:
    """The declared kind, before anything is read; ProblemError 415 for a type or encoding not offered, 400 else."""
    media, _, options = request.headers.get("content-type", "").partition(";")
    media = media.strip().lower()
    if media == COUNTS:
        return BodyKind(
            header_length=None, encoding=content_encoding(request), counts=True, sent_ns=_date(request)
        )
    if media in (ARROW_STREAM, ARROW_FILE):
        return BodyKind(
            header_length=None,
            encoding=content_encoding(request),
            arrow="file" if media == ARROW_FILE else "stream",
            version=_one_text(request, VERSION_HEADER),
            sent_ns=_date(request),
        )
    length = _header_number(request, HEADER_LENGTH)
    if media not in ("application/json", "application/octet-stream") and not (
        length is not None and not media
    ):
        raise ProblemError(
            415,
            f"send application/json, application/octet-stream for OIP binary, or {ARROW_STREAM}",
            headers=_ACCEPTED,
        )
    charset = re.search(r"charset\s*=\s*\"?([^\s\";]+)", options, re.IGNORECASE)
    if charset and charset[1].lower() not in ("utf-8", "utf8"):
        raise ProblemError(
            415, f"charset {charset[1][:40]!r} is not supported; JSON is UTF-8", headers=_ACCEPTED
        )
    if length is None and media == "application/octet-stream":
        raise MalformedError("OIP binary needs the header Inference-Header-Content-Length")
    return BodyKind(header_length=length, encoding=content_encoding(request), sent_ns=_date(request))


def content_encoding(request: Request) -> str:
    """How the body is compressed, in lower case; ProblemError 415 for an encoding not offered."""
    encoding = ",".join(request.headers.getlist("content-encoding")).strip().lower()
    if encoding not in ("", "identity", "gzip", "zstd"):
        raise ProblemError(
            415,
            f"content encoding {encoding[:40]!r} is not supported; send gzip, zstd or none",
            headers={"Accept-Encoding": "gzip, zstd"},
        )
    return encoding


def _date(request: Request) -> int | None:
    """A Date that cannot be read says nothing; nobody has to send one."""
    try:
        sent = parsedate_to_datetime(request.headers.get("date", ""))
        return to_ns(sent if sent.tzinfo else sent.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def _header_number(request: Request, name: str) -> int | None:
    values = set(request.headers.getlist(name))
    if not values:
        return None
    value = values.pop()
    if values or not _DIGITS.fullmatch(value):
        raise MalformedError(f"the header {name} is one number of bytes")
    return int(value)


def declared_length(request: Request, limit: int) -> int | None:
    """The declared size of the body in bytes, None where it is chunked; 413 before a byte of it is read."""
    declared = _header_number(request, "content-length")
    if declared is not None and declared > limit:
        raise TooLargeError(f"the body has {declared} bytes; at most {limit}, so send smaller batches")
    return declared


def check_size(size: int, limit: int) -> None:
    """TooLargeError where so much of a body is more than there may be."""
    if size > limit:
        raise TooLargeError(f"the body has more than {limit} bytes; send smaller batches")


async def read_body(request: Request, limit: int, seconds: float, reserve: Callable[[int], None]) -> bytes:
    """The raw body, at most `limit` bytes within `seconds` in all; `reserve` is told of every chunk and may raise."""
    declared = declared_length(request, limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                check_size(size, limit)
                reserve(len(chunk))
                chunks.append(chunk)
    except TimeoutError as error:
        raise ProblemError(
            408, f"the body took longer than {seconds:g} s", headers={"Connection": "close"}
        ) from error
    except ClientDisconnect as error:
        # Nobody reads this answer; what matters is that nothing of a half body is kept.
        raise ProblemError(400, "the client went away before its body was complete") from error
    if declared is not None and declared != size:
        raise MalformedError(f"the body has {size} bytes where Content-Length says {declared}")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def idempotency_key(request: Request) -> str | None:
    """The header Idempotency-Key, with or without the quotes its draft standard asks for."""
    value = _one_text(request, "Idempotency-Key")
    if value is not None and len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    if value == "":
        raise MalformedError("an Idempotency-Key is ASCII text of at least one character")
    return value


def _one_text(request: Request, name: str) -> str | None:
    values = request.headers.getlist(name)
    if not values:
        return None
    value = values[0].strip()
    if len(values) > 1 or not value or not value.isascii():
        raise MalformedError(f"the header {name} comes once, as ASCII text of at least one character")
    return value

"""What ingest says of a body, a row or a stored payload it cannot use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One place in a body (a JSON pointer, RFC 6901) and what is wrong there, with the fix."""

    pointer: str
    detail: str


class IngestError(ValueError):
    """The body cannot be used; `status` is the HTTP answer and `issues` name the places."""

    status: ClassVar[int] = 422

    def __init__(self, detail: str, issues: Sequence[Issue] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.issues = tuple(issues)


class MalformedError(IngestError):
    """The bytes are not what the content type promises: not JSON, or a broken binary frame."""

    status = 400


class UnprocessableError(IngestError):
    """The bytes are well formed, but not a batch this model can take."""

    status = 422


class TooLargeError(IngestError):
    """The body, or what it inflates to, passes a limit."""

    status = 413


class UnsupportedError(IngestError):
    """A content type or content encoding that is not offered."""

    status = 415


class PayloadDamagedError(ValueError):
    """Stored payload bytes that are not what was written."""


def unprocessable(pointer: str, detail: str) -> UnprocessableError:
    """The error of a batch with one fault in one place."""
    where = f" (at {pointer})" if pointer else ""
    return UnprocessableError(f"{detail}{where}", (Issue(pointer=pointer, detail=detail),))


def pointer_token(name: str) -> str:
    """A name as one step of a JSON pointer.

    >>> pointer_token("a/b~c")
    'a~1b~0c'
    """
    return name.replace("~", "~0").replace("/", "~1")

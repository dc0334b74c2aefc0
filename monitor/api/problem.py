"""Errors on the wire: RFC 9457 problem details, for our own refusals and for the framework's alike."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from monitor.ingest.errors import IngestError, Issue

MEDIA_TYPE: Final = "application/problem+json"
_MAX_TEXT: Final = 500

_log = logging.getLogger(__name__)


class ProblemError(Exception):
    """A request is answered with this problem: status, detail, places in the body, extra headers."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        issues: Sequence[Issue] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.issues = tuple(issues)
        self.headers = dict(headers or {})


def problem(
    status: int,
    detail: str,
    *,
    issues: Sequence[Issue] = (),
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """A problem response; `extra` are members of its own (RFC 9457, 3.2), such as counts of rows."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": _phrase(status),
        "status": status,
        "detail": shortened(detail),
        **(extra or {}),
    }
    if issues:
        body["errors"] = issue_list(issues)
    # ASCII escapes: whatever text a client made us quote, the answer is valid JSON.
    return Response(json.dumps(body).encode("ascii"), status, headers=headers, media_type=MEDIA_TYPE)


def issue_list(issues: Sequence[Issue]) -> list[dict[str, str]]:
    """The places as JSON objects, each text cut to 500 characters."""
    return [{"pointer": shortened(issue.pointer), "detail": shortened(issue.detail)} for issue in issues]


def shortened(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def respond(_: Request, error: Exception) -> Response:
    """The answer to any exception; only an unforeseen one is logged, and none of its text leaves the daemon."""
    if isinstance(error, ProblemError):
        return problem(error.status, error.detail, issues=error.issues, headers=error.headers)
    if isinstance(error, IngestError):
        return problem(error.status, error.detail, issues=error.issues)
    if isinstance(error, HTTPException):
        return problem(error.status_code, _http_detail(error), headers=error.headers)
    _log.error("a request failed", exc_info=error)
    return problem(500, "the daemon failed on this request; its log says why")


def _http_detail(error: HTTPException) -> str:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return "nothing is at this address" if error.detail == _phrase(404) else str(error.detail)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return (
            f"this address does not take that method; it takes {(error.headers or {}).get('Allow', 'others')}"
        )
    return str(error.detail)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


EXCEPTION_HANDLERS: Final[Mapping[Any, Callable[[Request, Exception], Response]]] = {
    ProblemError: respond,
    IngestError: respond,
    HTTPException: respond,
    Exception: respond,
}
"""For Starlette(exception_handlers=...); `Exception` becomes its 500 handler."""

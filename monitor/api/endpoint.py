"""What every endpoint of `/v1` does first and last: authorise, read the body, work in a thread, answer in JSON."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from monitor.api.auth import Authenticator, Principal
from monitor.api.bodies import read_body
from monitor.api.problem import ProblemError
from monitor.app import Service
from monitor.ingest.errors import Issue, pointer_token
from monitor.ingest.strictjson import StrictReader, check_text

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]

JSON_BYTES: Final = 64 * 2**10
READ_SECONDS: Final = 30.0

_PLACE: Final = re.compile(r"(?s)(.*?)(?: - at `\$(.*)`)?")
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_NAMED: Final = re.compile(r"Object (?:contains unknown|missing required) field `(.*)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authorised request whose body is read."""

    request: Request
    service: Service
    who: Principal
    body: bytes

    def path(self, name: str) -> str:
        """A text from the path."""
        return str(self.request.path_params[name])

    def id(self, what: str) -> int:
        """The id from the path; 404 for what no row can have."""
        given = self.path("id")
        if not given.isascii() or not given.isdigit() or len(given) > 18:
            raise ProblemError(404, f"there is no {what} with id {given[:40]!r}")
        return int(given)

    def json(self, kind: type[T]) -> T:
        """The body as a `kind`, strictly; no body at all is an empty object. ProblemError 400, 415 or 422."""
        if not self.body:
            return _convert({}, kind)
        media = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != "application/json":
            raise ProblemError(415, "send Content-Type: application/json")
        check_text(self.body)
        return _convert(StrictReader().read(self.body), kind)

    def query(self, *allowed: str) -> Mapping[str, str]:
        """The query parameters, each given once and known; 400 names another."""
        given = self.request.query_params.multi_items()
        names = [name for name, _ in given]
        for name in names:
            if name not in allowed:
                takes = f"it takes {', '.join(allowed)}" if allowed else "it takes none"
                raise ProblemError(400, f"unknown query parameter {name[:40]!r}; {takes}")
            if names.count(name) > 1:
                raise ProblemError(400, f"the query parameter {name!r} is given twice")
        return dict(given)


def endpoint(
    service: Service,
    auth: Authenticator,
    scope: str,
    work: Callable[[Call], Response],
    *,
    body_bytes: int = JSON_BYTES,
) -> Handler:
    """`work` as a handler: for holders of `scope`, in a thread, because SQL must not hold the event loop."""

    async def handle(request: Request) -> Response:
        who = auth.require(request, scope)
        body = b""
        if request.method in ("POST", "PUT", "DELETE"):
            body = await read_body(request, body_bytes, READ_SECONDS, lambda _: None)
        return await run_in_threadpool(work, Call(request=request, service=service, who=who, body=body))

    return handle


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Values, dataclasses and aware datetimes as JSON; times in RFC 3339."""
    all_headers = {"Cache-Control": "no-store", **(headers or {})}
    return Response(msgspec.json.encode(value), status, headers=all_headers, media_type="application/json")


def number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """A query parameter that counts from 1; 400 where it is none or beyond `most`."""
    given = query.get(name)
    if given is None:
        return default
    if not given.isascii() or not given.isdigit() or not 1 <= len(given) <= 18 or not 1 <= int(given) <= most:
        raise ProblemError(400, f"{name} is a whole number from 1 to {most}, not {given[:40]!r}")
    return int(given)


def _convert(value: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        pointer, detail = place_of(str(error))
        where = f" (at {pointer})" if pointer else ""
        raise ProblemError(422, f"{detail}{where}", issues=(Issue(pointer=pointer, detail=detail),)) from None


def place_of(message: str) -> tuple[str, str]:
    """The JSON pointer and the words of a msgspec complaint, which names an unknown field without its path.

    >>> place_of("Expected `str`, got `int` - at `$.matchers[0]`")
    ('/matchers/0', 'Expected `str`, got `int`')
    >>> place_of("Object contains unknown field `a/b`")
    ('/a~1b', 'Object contains unknown field `a/b`')
    """
    found = _PLACE.fullmatch(message)
    assert found is not None
    detail, path = found[1], found[2] or ""
    steps = [name or index for name, index in _STEP.findall(path)]
    named = _NAMED.fullmatch(detail)
    if named is not None:
        steps.append(named[1])
    return "".join(f"/{pointer_token(step)}" for step in steps), detail

"""POST /v1/models/{model}/predictions: authorise, read, decode, accept, commit, then answer."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitor.api.auth import Authenticator, ingest_scope
from monitor.api.bodies import BodyKind, body_kind, declared_length, idempotency_key, read_body
from monitor.api.ports import (
    IngestPort,
    PortError,
    QueueFullError,
    StorageUnavailableError,
    SubmitResult,
    TooManyVersionsError,
)
from monitor.api.problem import ProblemError, issue_list, problem
from monitor.ingest.accept import Accepted, accept
from monitor.ingest.decode import decode_body
from monitor.ingest.decoded import DecodeLimits
from monitor.ingest.envelope import Opened, check_batch_id, open_body, sent_ns
from monitor.ingest.errors import MalformedError
from monitor.ingest.inflate import inflate
from monitor.ingest.schema import ModelHandle, VersionHandle

PATH: Final = "/v1/models/{model}/predictions"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestLimits:
    """Bounds of the endpoint. Bytes unless said otherwise.

    `wire_bytes` and `inflated_bytes` bound one body before and after its content encoding; `inflight_bytes` all
    bodies being read or decoded at once (beyond it 429). Bodies above `inline_bytes`, and compressed ones, are
    decoded in `workers` threads, so that the event loop keeps answering.
    """

    wire_bytes: int = 8 * 2**20
    inflated_bytes: int = 64 * 2**20
    inflight_bytes: int = 64 * 2**20
    inline_bytes: int = 64 * 2**10
    read_seconds: float = 60.0
    retry_after_seconds: int = 1
    workers: int = 2
    decode: DecodeLimits = field(default_factory=DecodeLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """A decoded request on its way to storage."""

    version: VersionHandle
    accepted: Accepted
    batch_id: str | None
    body_sha256: str


class PredictionsEndpoint:
    """The ingest endpoint; `route` is what an application mounts, `close` ends its threads."""

    def __init__(self, port: IngestPort, auth: Authenticator, limits: IngestLimits | None = None) -> None:
        self._port = port
        self._auth = auth
        self._limits = limits or IngestLimits()
        self._pool = ThreadPoolExecutor(self._limits.workers, thread_name_prefix="ingest")
        self._inflight = 0

    @property
    def route(self) -> Route:
        return Route(PATH, self.post, methods=["POST"], name="predictions")

    @property
    def inflight_bytes(self) -> int:
        """Bytes of the bodies being read or decoded now."""
        return self._inflight

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def post(self, request: Request) -> Response:
        """Answer one POST. Nothing of the body is read before the token, the model and the headers are right."""
        name: str = request.path_params["model"]
        # Scope before existence: a token for one model learns nothing of others.
        self._auth.require(request, ingest_scope(name))
        model = self._port.model(name)
        if model is None:
            raise ProblemError(404, f"no model {name[:100]!r} is registered; driftd baseline build adds it")
        kind = body_kind(request)
        key = idempotency_key(request)
        declared_length(request, self._limits.wire_bytes)
        try:
            taken = await self._take(request, model, kind, key)
            return await self._store(model, taken)
        except QueueFullError as error:
            raise _later(429, error) from error
        except StorageUnavailableError as error:
            raise _later(503, error) from error
        except TooManyVersionsError as error:
            raise ProblemError(422, error.detail) from error

    async def _take(self, request: Request, model: ModelHandle, kind: BodyKind, key: str | None) -> _Taken:
        reserved = 0

        def reserve(count: int) -> None:
            nonlocal reserved
            if self._inflight + count > self._limits.inflight_bytes:
                raise QueueFullError(
                    "too many bodies are being read at once", self._limits.retry_after_seconds
                )
            reserved += count
            self._inflight += count

        try:
            body = await read_body(request, self._limits.wire_bytes, self._limits.read_seconds, reserve)
            if len(body) > self._limits.inline_bytes or kind.encoding not in ("", "identity"):
                return await self._in_thread(lambda: self._decode(body, model, kind, key))
            opened = self._open(body, kind, key)
            version = model.versions.get(opened.model_version)
            if version is None:
                version = await self._in_thread(
                    lambda: self._port.ensure_version(model, opened.model_version)
                )
            return self._accept(opened, model, version, kind)
        finally:
            self._inflight -= reserved

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _decode(self, body: bytes, model: ModelHandle, kind: BodyKind, key: str | None) -> _Taken:
        opened = self._open(inflate(body, kind.encoding, self._limits.inflated_bytes), kind, key)
        version = model.versions.get(opened.model_version)
        if version is None:
            version = self._port.ensure_version(model, opened.model_version)
        return self._accept(opened, model, version, kind)

    def _open(self, body: bytes, kind: BodyKind, key: str | None) -> Opened:
        opened = open_body(body, kind.header_length, self._limits.decode)
        if key is None:
            return opened
        if opened.id is not None and opened.id != key:
            raise MalformedError("Idempotency-Key and the body's id differ; send one, or the same in both")
        check_batch_id(key, self._limits.decode)
        return replace(opened, id=key)

    def _accept(self, opened: Opened, model: ModelHandle, version: VersionHandle, kind: BodyKind) -> _Taken:
        decoded = decode_body(opened, version.baseline)
        now, watermark = self._port.now_ns(), self._port.watermark_ns(model.model_id)
        # A batch that is sent again is the same to the byte, so that only the request knows when that was.
        sent = sent_ns(opened.parameters) if kind.sent_ns is None else kind.sent_ns
        accepted = accept(decoded, version, now, watermark, self._port.time_limits(model.name), sent)
        return _Taken(version=version, accepted=accepted, batch_id=opened.id, body_sha256=opened.body_sha256)

    async def _store(self, model: ModelHandle, taken: _Taken) -> Response:
        accepted = taken.accepted
        if accepted.batch is not None:
            future = self._port.submit(model, taken.version, accepted)
            # Shielded: a request that goes away must not take a queued batch with it.
            return _reply(taken, await asyncio.shield(asyncio.wrap_future(future)))
        if taken.batch_id is not None:
            # A retry so late that its rows are too old by now is still a retry of something stored.
            batch_id = taken.batch_id
            earlier = await self._in_thread(lambda: self._port.find(model, batch_id, taken.body_sha256))
            if earlier is not None:
                return _reply(taken, earlier)
        return problem(
            422,
            f"none of the {accepted.rejected} rows can be taken",
            issues=accepted.errors,
            extra={"accepted": 0, "rejected": accepted.rejected, "warnings": issue_list(accepted.warnings)},
        )


def _reply(taken: _Taken, result: SubmitResult) -> Response:
    if result.status == "conflict":
        return problem(
            422, f"the id {result.batch_key!r} is taken by a batch with another body; send a new id"
        )
    accepted = taken.accepted
    body = {
        "id": result.batch_key,
        "accepted": accepted.accepted if result.accepted is None else result.accepted,
        "rejected": accepted.rejected if result.rejected is None else result.rejected,
        "errors": issue_list(accepted.errors),
        "warnings": issue_list(accepted.warnings),
        "idempotent": taken.batch_id is not None,
        "duplicate": result.status == "duplicate",
    }
    return Response(json.dumps(body).encode("ascii"), media_type="application/json")


def _later(status: int, error: PortError) -> ProblemError:
    return ProblemError(status, error.detail, headers={"Retry-After": str(error.retry_after_seconds)})

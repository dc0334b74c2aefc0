"""POST /v1/models/{model}/predictions: authorise, read, decode, accept, commit, then answer."""

from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitor.api.auth import Authenticator, ingest_scope
from monitor.api.bodies import BodyKind, body_kind, declared_length, idempotency_key
from monitor.api.counts import CountsIntake, TakenCounts
from monitor.api.intake import Intake, committed, known_model, refusals
from monitor.api.ports import IngestPort, SubmitResult
from monitor.api.replies import refused, reply
from monitor.ingest.accept import Accepted, accept
from monitor.ingest.arrow import OpenedArrow, open_arrow
from monitor.ingest.decode import decode_body
from monitor.ingest.envelope import Opened, id_of, open_body, sent_ns
from monitor.ingest.inflate import inflate
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.ingest.typed import head_decoder

PATH: Final = "/v1/models/{model}/predictions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A decoded request on its way to storage."""

    version: VersionHandle
    accepted: Accepted
    batch_id: str | None
    body_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A request whose sender may send, to a model there is, with headers that are right; `length` is its body's, if said."""

    model: ModelHandle
    kind: BodyKind
    key: str | None
    length: int | None


class PredictionsEndpoint:
    """The ingest endpoint; `route` is what an application mounts."""

    def __init__(self, port: IngestPort, auth: Authenticator, intake: Intake) -> None:
        self._port = port
        self._auth = auth
        self._intake = intake
        self._limits = intake.limits
        self._counts = CountsIntake(port, intake.limits)

    @property
    def route(self) -> Route:
        return Route(PATH, self.post, methods=["POST"], name="predictions")

    @property
    def intake(self) -> Intake:
        """Where its bodies are counted."""
        return self._intake

    async def post(self, request: Request) -> Response:
        """Answer one POST. Nothing of the body is read before the token, the model and the headers are right."""
        admitted = self.admit(request, request.path_params["model"])
        with refusals():
            async with self._intake.body(request) as body:
                taken = await self.take(admitted, body)
            return await self.store(admitted, taken)

    def admit(self, request: Request, name: str) -> Admitted:
        """Look at everything but the body. ProblemError or IngestError where it is refused."""
        # Scope before existence: a token for one model learns nothing of others.
        self._auth.require(request, ingest_scope(name))
        model = known_model(self._port, name)
        kind = body_kind(request)
        key = idempotency_key(request)
        length = declared_length(request, self._limits.wire_bytes)
        return Admitted(model=model, kind=kind, key=key, length=length)

    def take_at_once(self, admitted: Admitted, body: bytes) -> Taken | None:
        """Decode a body; None where that would hold the event loop. IngestError for what is wrong with it."""
        model, kind = admitted.model, admitted.kind
        if not self._is_light(body, kind):
            return None
        opened = self._open(body, model, kind, admitted.key)
        version = model.versions.get(opened.model_version)
        return None if version is None else self._accept(opened, model, version, kind)

    async def take(self, admitted: Admitted, body: bytes) -> Taken | TakenCounts | Response:
        """Decode a body; an answer where nothing is to be stored of it.

        IngestError for what is wrong with it, PortError for a version that cannot be added.
        """
        model, kind, key = admitted.model, admitted.kind, admitted.key
        if kind.counts:
            return await self._intake.in_thread(lambda: self._counts.take(body, model, kind, key))
        taken = self.take_at_once(admitted, body)
        if taken is None:
            taken = await self._intake.in_thread(lambda: self._decode(body, model, kind, key))
        return taken

    def _is_light(self, body: bytes, kind: BodyKind) -> bool:
        """Whether a body is decoded sooner than a thread would have begun: little JSON, fixed-width binary tensors."""
        # Arrow goes to a thread whatever its size: the first body imports pyarrow.
        if kind.counts or kind.arrow is not None or kind.encoding not in ("", "identity"):
            return False
        if kind.header_length is None or len(body) <= self._limits.inline_bytes:
            return len(body) <= self._limits.inline_bytes
        if kind.header_length > self._limits.inline_bytes or len(body) > self._limits.inline_binary_bytes:
            return False
        return body.find(b"BYTES", 0, kind.header_length) < 0

    def _decode(self, body: bytes, model: ModelHandle, kind: BodyKind, key: str | None) -> Taken:
        opened = self._open(inflate(body, kind.encoding, self._limits.inflated_bytes), model, kind, key)
        version = model.versions.get(opened.model_version)
        if version is None:
            version = self._port.ensure_version(model, opened.model_version)
        return self._accept(opened, model, version, kind)

    def _open(self, body: bytes, model: ModelHandle, kind: BodyKind, key: str | None) -> Opened | OpenedArrow:
        opened: Opened | OpenedArrow
        if kind.arrow is not None:
            opened = open_arrow(
                body,
                is_file=kind.arrow == "file",
                version=kind.version,
                limits=self._limits.decode,
                bytes_limit=self._limits.inflated_bytes,
            )
        else:

            def typed(name: str) -> msgspec.json.Decoder[Any] | None:
                version = model.versions.get(name)
                return None if version is None or version.baseline is None else head_decoder(version.baseline)

            opened = open_body(body, kind.header_length, self._limits.decode, typed)
        return opened if key is None else replace(opened, id=id_of(opened.id, key, self._limits.decode))

    def _accept(
        self, opened: Opened | OpenedArrow, model: ModelHandle, version: VersionHandle, kind: BodyKind
    ) -> Taken:
        decoded = decode_body(opened, version.baseline)
        now, watermark = self._port.now_ns(), self._port.watermark_ns(model.model_id)
        # A batch that is sent again is the same to the byte, so that only the request knows when that was.
        sent = sent_ns(opened.parameters) if kind.sent_ns is None else kind.sent_ns
        accepted = accept(decoded, version, now, watermark, self._port.time_limits(model.name), sent)
        return Taken(version=version, accepted=accepted, batch_id=opened.id, body_sha256=opened.body_sha256)

    def submit(self, admitted: Admitted, taken: Taken) -> Future[SubmitResult] | None:
        """Queue what was taken, to be answered once it is committed; None if there is nothing. PortError where it cannot be."""
        if taken.accepted.batch is None:
            return None
        return self._port.submit(admitted.model, taken.version, taken.accepted)

    async def store(self, admitted: Admitted, taken: Taken | TakenCounts | Response) -> Response:
        """Commit what was taken, and the answer that says so. PortError where it cannot be."""
        if isinstance(taken, Response):
            return taken
        if isinstance(taken, TakenCounts):
            return await self._counts.store(admitted.model, taken)
        model, accepted = admitted.model, taken.accepted
        queued = self.submit(admitted, taken)
        if queued is not None:
            return reply(accepted, await committed(queued), idempotent=taken.batch_id is not None)
        if taken.batch_id is not None:
            # A retry so late that its rows are too old by now is still a retry of something stored.
            batch_id = taken.batch_id
            earlier = await self._intake.in_thread(
                lambda: self._port.find(model, batch_id, taken.body_sha256)
            )
            if earlier is not None:
                return reply(accepted, earlier, idempotent=True)
        return refused(accepted)

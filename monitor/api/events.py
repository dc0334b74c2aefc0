"""POST /v1/models/{model}/cloudevents and /v1/cloudevents: what KServe's inference logger sends.

A request and its response come as two events, in either order. The first is committed and answered 200, the second is
committed together with the batch that both make. KServe's worker sends each event once and logs every status but 200
as an error, so nothing is acknowledged that is not on disk, and nothing good is answered otherwise.
"""

import json
from dataclasses import dataclass, replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitor.api.auth import Authenticator, Principal, ingest_scope
from monitor.api.bodies import content_encoding, declared_length
from monitor.api.intake import Intake, committed, known_model, refusals
from monitor.api.ports import HalvesPort, IngestPort
from monitor.api.problem import ProblemError, issue_list, problem
from monitor.api.replies import reply
from monitor.ingest.accept import Accepted, accept
from monitor.ingest.cloudevents import Half, join, read_half
from monitor.ingest.decode import decode_body
from monitor.ingest.envelope import open_body
from monitor.ingest.errors import IngestError, unprocessable
from monitor.ingest.eventattributes import (
    STRUCTURED,
    Event,
    binary_attributes,
    binary_event,
    structured_event,
)
from monitor.ingest.inflate import inflate
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.instants import from_ns
from storage.halves import Kept, NewHalf, StoredHalf

PATH: Final = "/v1/models/{model}/cloudevents"
PATH_BY_SERVICE: Final = "/v1/cloudevents"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Both halves as one batch, of one version."""

    version: VersionHandle
    accepted: Accepted


class EventsEndpoint:
    """The endpoint of single events; `routes` are what an application mounts."""

    def __init__(self, port: IngestPort, halves: HalvesPort, auth: Authenticator, intake: Intake) -> None:
        self._port = port
        self._halves = halves
        self._auth = auth
        self._intake = intake
        self._limits = intake.limits

    @property
    def routes(self) -> tuple[Route, Route]:
        return (
            Route(PATH, self.post, methods=["POST"], name="cloudevents"),
            Route(PATH_BY_SERVICE, self.post, methods=["POST"], name="cloudevents_by_service"),
        )

    async def post(self, request: Request) -> Response:
        """Answer one event: exactly 200 once it is on disk."""
        # KServe sends no header of ours; a URL such as https://any:TOKEN@host/… makes its client send HTTP Basic.
        who = self._auth.identify(request, basic=True)
        version = _version_asked(request)
        structured = request.headers.get("content-type", "").partition(";")[0].strip().lower() == STRUCTURED
        headers = {name: request.headers.getlist(name) for name in request.headers}
        named = request.path_params.get("model")
        if named is None and not structured:
            named = binary_attributes(headers).get("inferenceservicename")
        # Where the address or the headers say which model, its token is asked for before the body is read.
        model = None if named is None else self._model(who, named)
        encoding = content_encoding(request)
        declared_length(request, self._limits.wire_bytes)
        with refusals():
            async with self._intake.body(request) as raw:
                body = raw
                if encoding not in ("", "identity"):
                    body = await self._intake.in_thread(
                        lambda: inflate(raw, encoding, self._limits.inflated_bytes)
                    )
                decode = self._limits.decode
                event = structured_event(body, decode) if structured else binary_event(headers, body, decode)
                if model is None:
                    if event.service is None:
                        raise unprocessable(
                            "/inferenceservicename", f"no inferenceservicename; post to {PATH} instead"
                        )
                    model = self._model(who, event.service)
                return await self._take(model, event, version)

    def _model(self, who: Principal, name: str) -> ModelHandle:
        if not who.may(ingest_scope(name)):
            raise ProblemError(403, f"the token lacks the scope {ingest_scope(name)!r}")
        return known_model(self._port, name)

    async def _take(self, model: ModelHandle, event: Event, version: str | None) -> Response:
        half = await self._intake.in_thread(lambda: read_half(event.data, event.half, self._limits.decode))
        now_ns = self._port.now_ns()
        new = NewHalf(
            model_id=model.model_id,
            event_id=event.id,
            half=half.name,
            body_sha256=half.sha256,
            at_ns=now_ns if event.time_ns is None else event.time_ns,
            received_at=from_ns(now_ns),
            data=event.data,
        )
        kept = await committed(self._halves.keep(new))
        if kept.partner is None:
            return _alone(event, kept)
        return await self._complete(model, new, half, kept.partner, version)

    async def _complete(
        self, model: ModelHandle, new: NewHalf, half: Half, partner: StoredHalf, version: str | None
    ) -> Response:
        try:
            pair = await self._intake.in_thread(lambda: self._pair(model, new, half, partner, version))
        except IngestError:
            await self._intake.in_thread(lambda: self._halves.lose(model, new.event_id))
            raise
        if pair.accepted.batch is None:
            await self._intake.in_thread(lambda: self._halves.lose(model, new.event_id))
            return problem(
                422,
                f"none of the {pair.accepted.rejected} rows can be taken",
                issues=pair.accepted.errors,
                extra={
                    "accepted": 0,
                    "rejected": pair.accepted.rejected,
                    "warnings": issue_list(pair.accepted.warnings),
                },
            )
        future = self._port.submit(model, pair.version, pair.accepted, completes=partner)
        result = await committed(future)
        if result.status == "stored":
            self._halves.taken(partner)
        elif result.status == "conflict":
            await self._intake.in_thread(lambda: self._halves.lose(model, new.event_id))
        return reply(pair.accepted, result, idempotent=True, extra={"paired": True})

    def _pair(
        self, model: ModelHandle, new: NewHalf, half: Half, partner: StoredHalf, asked: str | None
    ) -> _Pair:
        limits = self._limits.decode
        other = read_half(partner.data, partner.half, limits)
        request, response = (half, other) if half.name == "request" else (other, half)
        name = asked or response.model_version or request.model_version or _only_version(model)
        version = model.versions.get(name) or self._port.ensure_version(model, name)
        at_ns = new.at_ns if half.name == "request" else partner.at_ns
        pair = join(request, response, model_version=name, time_ns=at_ns, baseline=version.baseline)
        opened = replace(
            open_body(pair.body, pair.header_length, limits), id=new.event_id, body_sha256=pair.sha256
        )
        decoded = decode_body(opened, version.baseline)
        now, watermark = self._port.now_ns(), self._port.watermark_ns(model.model_id)
        accepted = accept(decoded, version, now, watermark, self._port.time_limits(model.name))
        return _Pair(version=version, accepted=accepted)


def _alone(event: Event, kept: Kept) -> Response:
    if kept.status == "conflict":
        return problem(422, f"the {event.half} of the event {event.id!r} is stored with another body")
    if kept.status == "late":
        return problem(422, f"the other half of the event {event.id!r} waited too long and was given up")
    body = {"id": event.id, "paired": False, "duplicate": kept.status == "duplicate"}
    return Response(json.dumps(body).encode("ascii"), media_type="application/json")


def _version_asked(request: Request) -> str | None:
    given = request.query_params.multi_items()
    if [name for name, _ in given] not in ([], ["model_version"]):
        raise ProblemError(400, "the only query parameter is model_version, once")
    return given[0][1] or None if given else None


def _only_version(model: ModelHandle) -> str:
    if len(model.versions) == 1:
        return next(iter(model.versions))
    raise unprocessable(
        "/model_version",
        f"nothing says which of the {len(model.versions)} versions of {model.name!r} answered; "
        "add ?model_version=… to the logger's URL",
    )

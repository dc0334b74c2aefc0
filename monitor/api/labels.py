"""POST /v1/models/{model}/labels: what predictions should have been, stored before the answer."""

import json
from contextlib import closing
from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitor.api.auth import Authenticator, ingest_scope
from monitor.api.bodies import BodyKind, body_kind, declared_length, idempotency_key
from monitor.api.intake import Intake, committed, known_model, refusals
from monitor.api.ports import IngestPort, LabelsPort
from monitor.api.problem import ProblemError, issue_list
from monitor.api.replies import refused
from monitor.ingest.envelope import id_of, open_labels, sent_ns
from monitor.ingest.inflate import inflate
from monitor.ingest.labels import AcceptedLabels, accept_labels
from monitor.ingest.schema import ModelHandle

PATH: Final = "/v1/models/{model}/labels"


class LabelsEndpoint:
    """The endpoint of labels; `route` is what an application mounts."""

    def __init__(self, port: IngestPort, labels: LabelsPort, auth: Authenticator, intake: Intake) -> None:
        self._port = port
        self._labels = labels
        self._auth = auth
        self._intake = intake

    @property
    def route(self) -> Route:
        return Route(PATH, self.post, methods=["POST"], name="labels")

    async def post(self, request: Request) -> Response:
        """Answer one POST. Nothing of the body is read before the token, the model and the headers are right."""
        name: str = request.path_params["model"]
        self._auth.require(request, ingest_scope(name))
        model = known_model(self._port, name)
        if self._labels.mature_after(name) is None:
            raise ProblemError(
                422,
                f"labels_mature_after is off for model {name[:100]!r}: nothing would be made of its labels",
            )
        kind = body_kind(request)
        if kind.counts or kind.arrow is not None:
            raise ProblemError(
                415, "labels come as application/json, or application/octet-stream for OIP binary"
            )
        key = idempotency_key(request)
        declared_length(request, self._intake.limits.wire_bytes)
        with refusals():
            async with self._intake.body(request) as body:
                accepted = await self._intake.in_thread(lambda: self._take(body, model, kind, key))
            if not accepted.labels:
                return refused(accepted)
            with closing(self._labels.submit(model, accepted)) as writes:
                for written in writes:
                    await committed(written)
        return _reply(accepted)

    def _take(self, body: bytes, model: ModelHandle, kind: BodyKind, key: str | None) -> AcceptedLabels:
        limits = self._intake.limits
        opened = open_labels(
            inflate(body, kind.encoding, limits.inflated_bytes), kind.header_length, limits.decode
        )
        if key is not None:
            opened = replace(opened, id=id_of(opened.id, key, limits.decode))
        return accept_labels(
            opened,
            [v.baseline for v in model.versions.values() if v.baseline is not None],
            now_ns=self._port.now_ns(),
            future_ns=self._port.time_limits(model.name).future_ns,
            sent_ns=sent_ns(opened.parameters) if kind.sent_ns is None else kind.sent_ns,
        )


def _reply(accepted: AcceptedLabels) -> Response:
    """A repeated body changes nothing, so that every answer may be asked for again."""
    body = {
        "id": accepted.id,
        "accepted": accepted.accepted,
        "rejected": accepted.rejected,
        "errors": issue_list(accepted.errors),
        "warnings": issue_list(accepted.warnings),
    }
    return Response(json.dumps(body).encode("ascii"), media_type="application/json")

"""Counts in place of rows: the cells to count on, and batches of panes that were counted on them."""

import gzip
from dataclasses import dataclass, replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from detectors.profile import Baseline
from monitor.api.auth import Authenticator, ingest_scope
from monitor.api.bodies import BodyKind
from monitor.api.intake import IngestLimits, Intake, committed, known_model
from monitor.api.ports import IngestPort
from monitor.api.problem import ProblemError, problem
from monitor.api.replies import refused, reply
from monitor.ingest.accept_counts import AcceptedCounts, accept_counts
from monitor.ingest.cell_document import MEDIA_TYPE, cells_tag, encode_cells
from monitor.ingest.envelope import id_of, sent_ns
from monitor.ingest.inflate import inflate
from monitor.ingest.posted_counts import OpenedCounts, open_counts
from monitor.ingest.schema import ModelHandle, VersionHandle

PATH: Final = "/v1/models/{model}/versions/{version}/cells"
_KEPT_DOCUMENTS: Final = 32


class CellsEndpoint:
    """What rows of a version are counted on, for whoever may send them; `route` is what an application mounts."""

    def __init__(self, port: IngestPort, auth: Authenticator, intake: Intake) -> None:
        self._port = port
        self._auth = auth
        self._intake = intake
        self._packed: dict[str, bytes] = {}

    @property
    def route(self) -> Route:
        return Route(PATH, self.get, methods=["GET"], name="cells")

    async def get(self, request: Request) -> Response:
        """The document, or 304 for who has it; 404 while the version has no baseline."""
        name: str = request.path_params["model"]
        named: str = request.path_params["version"]
        self._auth.require(request, ingest_scope(name))
        model = known_model(self._port, name)
        version = model.versions.get(named)
        baseline = None if version is None else version.baseline
        if baseline is None:
            raise ProblemError(404, f"version {named[:100]!r} of model {name[:100]!r} has no baseline yet")
        keys = self._port.segment_keys(name)
        tag = cells_tag(baseline, keys)
        headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if headers["ETag"] in _tags(request):
            return Response(status_code=304, headers=headers)
        if "gzip" not in request.headers.get("accept-encoding", "").lower():
            document = await self._intake.in_thread(lambda: encode_cells(baseline, keys))
            return Response(document, headers=headers, media_type=MEDIA_TYPE)
        packed = self._packed.get(tag)
        if packed is None:
            packed = await self._intake.in_thread(lambda: _pack(baseline, keys))
            if len(self._packed) == _KEPT_DOCUMENTS:
                self._packed.clear()
            self._packed[tag] = packed
        headers["Content-Encoding"] = "gzip"
        return Response(packed, headers=headers, media_type=MEDIA_TYPE)


def _pack(baseline: Baseline, keys: tuple[str, ...]) -> bytes:
    return gzip.compress(encode_cells(baseline, keys), 6, mtime=0)


def _tags(request: Request) -> list[str]:
    given = ",".join(request.headers.getlist("if-none-match"))
    return [tag.strip().removeprefix("W/") for tag in given.split(",")]


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenCounts:
    """A body of counts on its way to storage."""

    version: VersionHandle
    accepted: AcceptedCounts


class CountsIntake:
    """Takes bodies of counts for the endpoint of predictions."""

    def __init__(self, port: IngestPort, limits: IngestLimits) -> None:
        self._port = port
        self._limits = limits

    async def store(self, model: ModelHandle, taken: TakenCounts) -> Response:
        """Commit counts, and the answer that says so. PortError where they cannot be."""
        result = await committed(self._port.submit_counts(model, taken.version, taken.accepted))
        return reply(taken.accepted, result, idempotent=taken.accepted.id is not None)

    def take(
        self, body: bytes, model: ModelHandle, kind: BodyKind, key: str | None
    ) -> Response | TakenCounts:
        """What is to be stored, or the answer where nothing is. IngestError for what is wrong with it."""
        opened = open_counts(inflate(body, kind.encoding, self._limits.inflated_bytes), self._limits.decode)
        if key is not None:
            opened = replace(opened, id=id_of(opened.id, key, self._limits.decode))
        version = model.versions.get(opened.model_version)
        baseline = None if version is None else version.baseline
        if version is None or baseline is None or baseline.fingerprint != opened.fingerprint:
            return self._earlier(model, opened) or _replaced(opened, baseline)
        sent = sent_ns(opened.parameters) if kind.sent_ns is None else kind.sent_ns
        accepted = accept_counts(
            opened,
            baseline,
            self._port.segment_keys(model.name),
            self._port.now_ns(),
            self._port.watermark_ns(model.model_id),
            self._port.time_limits(model.name),
            sent,
        )
        if accepted.counts is None:
            return self._earlier(model, opened) or refused(accepted)
        return TakenCounts(version=version, accepted=accepted)

    def _earlier(self, model: ModelHandle, opened: OpenedCounts) -> Response | None:
        """The answer to a retry of something stored, however late: what it was counted on may be gone by now."""
        if opened.id is None:
            return None
        result = self._port.find(model, opened.id, opened.body_sha256)
        if result is None:
            return None
        nothing = AcceptedCounts(
            id=opened.id,
            body_sha256=opened.body_sha256,
            parameters=opened.parameters,
            counts=None,
            accepted=0,
            rejected=0,
        )
        return reply(nothing, result, idempotent=True)


def _replaced(opened: OpenedCounts, baseline: Baseline | None) -> Response:
    """Counts add up on the cells of one baseline only, so those of another are for their sender to give up."""
    name = opened.model_version[:100]
    if baseline is None:
        detail = f"version {name!r} has no baseline that could be counted on"
    else:
        detail = (
            f"the rows were counted on the baseline {opened.fingerprint[:64]!r}, version {name!r} is compared with "
            f"{baseline.fingerprint!r}; fetch its cells and count on those"
        )
    return problem(409, detail, extra={"fingerprint": None if baseline is None else baseline.fingerprint})

"""A daemon for the API to talk to, and a client that talks ASGI to it without a socket."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitor.api.auth import Authenticator, Token
from monitor.api.counts import CellsEndpoint
from monitor.api.intake import IngestLimits, Intake
from monitor.api.ports import SubmitResult, TooManyVersionsError
from monitor.api.predictions import PredictionsEndpoint
from monitor.api.problem import EXCEPTION_HANDLERS
from monitor.ingest.accept import Accepted
from monitor.ingest.accept_counts import AcceptedCounts
from monitor.ingest.batch import Batch
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.ingest.times import TimeLimits
from storage.halves import StoredHalf
from tests.monitor.ingest.bodies import NOW, VERSION

URL = "/v1/models/credit/predictions"


@dataclass
class MemoryPort:
    """The daemon's side of ingest in memory: batches by id, as storage keeps them."""

    stored: dict[str, Batch] = field(default_factory=dict)
    counted: dict[str, AcceptedCounts] = field(default_factory=dict)
    outcomes: dict[str, SubmitResult] = field(default_factory=dict)
    versions: dict[str, VersionHandle] = field(default_factory=lambda: {"3": VERSION})
    fail: Exception | None = None
    fail_later: Exception | None = None
    watermark: int | None = None
    version_cap: int = 3

    def model(self, name: str) -> ModelHandle | None:
        return ModelHandle(model_id=1, name=name, versions=self.versions) if name == "credit" else None

    def watermark_ns(self, model_id: int) -> int | None:
        assert model_id == 1
        return self.watermark

    def now_ns(self) -> int:
        return NOW

    def time_limits(self, model: str) -> TimeLimits:
        assert model == "credit"
        return TimeLimits()

    def ensure_version(self, model: ModelHandle, version: str) -> VersionHandle:
        if len(self.versions) >= self.version_cap:
            raise TooManyVersionsError(f"{model.name} has {self.version_cap} versions already")
        handle = VersionHandle(version_id=len(self.versions) + 1, version=version, baseline=None)
        self.versions[version] = handle
        return handle

    def find(self, model: ModelHandle, batch_id: str, body_sha256: str) -> SubmitResult | None:
        assert model.model_id == 1
        found = self.outcomes.get(batch_id)
        if found is None:
            return None
        kept = self.counted[batch_id] if batch_id in self.counted else self.stored[batch_id]
        same = kept.body_sha256 == body_sha256
        return SubmitResult(
            status="duplicate" if same else "conflict",
            batch_key=batch_id,
            accepted=found.accepted,
            rejected=found.rejected,
        )

    def submit(
        self,
        model: ModelHandle,
        version: VersionHandle,
        accepted: Accepted,
        *,
        completes: StoredHalf | None = None,
    ) -> "Future[SubmitResult]":
        if self.fail is not None:
            raise self.fail
        batch = accepted.batch
        assert batch is not None
        assert version.version == batch.model_version
        return self._keep(model, batch.id, batch, accepted)

    def segment_keys(self, model: str) -> tuple[str, ...]:
        assert model == "credit"
        return ()

    def submit_counts(
        self, model: ModelHandle, version: VersionHandle, accepted: AcceptedCounts
    ) -> "Future[SubmitResult]":
        if self.fail is not None:
            raise self.fail
        assert accepted.counts is not None
        return self._keep(model, accepted.id, accepted, accepted)

    def _keep(
        self,
        model: ModelHandle,
        batch_id: str | None,
        batch: Batch | AcceptedCounts,
        accepted: Accepted | AcceptedCounts,
    ) -> "Future[SubmitResult]":
        future: Future[SubmitResult] = Future()
        if self.fail_later is not None:
            future.set_exception(self.fail_later)
            return future
        key = batch_id or f"anon-{len(self.stored) + len(self.counted)}"
        result = self.find(model, key, batch.body_sha256)
        if result is None:
            if isinstance(batch, Batch):
                self.stored[key] = batch
            else:
                self.counted[key] = batch
            result = SubmitResult(
                status="stored", batch_key=key, accepted=accepted.accepted, rejected=accepted.rejected
            )
            self.outcomes[key] = result
        future.set_result(result)
        return future


async def _boom(_: Request) -> Response:
    raise RuntimeError("the secret is swordfish")


async def _teapot(_: Request) -> Response:
    raise HTTPException(418, "short and stout")


@dataclass
class Daemon:
    """One application around a MemoryPort."""

    port: MemoryPort = field(default_factory=MemoryPort)
    tokens: Sequence[Token] = ()
    limits: IngestLimits = field(default_factory=IngestLimits)
    client: tuple[str, int] = ("127.0.0.1", 5000)

    def __post_init__(self) -> None:
        self.intake = Intake(self.limits)
        auth = Authenticator(lambda: self.tokens)
        endpoint = PredictionsEndpoint(self.port, auth, self.intake)
        cells = CellsEndpoint(self.port, auth, self.intake)
        self.app = Starlette(
            routes=[endpoint.route, cells.route, Route("/boom", _boom), Route("/teapot", _teapot)],
            exception_handlers=EXCEPTION_HANDLERS,
        )

    def request(
        self,
        method: str,
        url: str,
        body: bytes | AsyncIterator[bytes] = b"",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False, client=self.client)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                raw = headers.items() if isinstance(headers, Mapping) else headers
                listed = [(name.encode(), value.encode("latin-1")) for name, value in raw]
                return await client.request(method, url, content=body, headers=listed)

        return asyncio.run(send())

    def post(self, body: bytes | AsyncIterator[bytes], url: str = URL, /, **headers: str) -> httpx.Response:
        """POST a body; header names with _ for -."""
        named = {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        return self.request("POST", url, body, {name: value for name, value in named.items() if value != "-"})

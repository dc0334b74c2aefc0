"""The HTTP application: every route of the daemon, and how each refusal is told."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from monitor.api import alerts, models, performance, silences, traffic
from monitor.api.auth import OPERATE, READ, Authenticator
from monitor.api.counts import CellsEndpoint
from monitor.api.endpoint import Call, endpoint
from monitor.api.events import EventsEndpoint
from monitor.api.health import Metrics, health, readiness
from monitor.api.intake import IngestLimits, Intake
from monitor.api.labels import LabelsEndpoint
from monitor.api.predictions import PredictionsEndpoint
from monitor.api.problem import EXCEPTION_HANDLERS, problem
from monitor.api.reload import reload_config
from monitor.app import Service, read_tokens
from monitor.ingest.errors import Issue
from monitor.operations import Conflicting, Invalid, NotKnown, OperationError
from storage.errors import NotFound, StorageError


def create_app(service: Service, *, authenticator: Authenticator | None = None) -> Starlette:
    """The application over a service, started or not. Raises SecretError where a token cannot be read.

    `authenticator` replaces the configured tokens: for a command that holds the database itself.
    """
    # The pages import jinja2; nothing that only ingests should wait for it.
    from monitor.web.pages import Pages

    if authenticator is None:
        service.tokens = read_tokens(service.config)
    auth = authenticator or Authenticator(lambda: service.tokens)
    server = service.config.server
    intake = Intake(
        IngestLimits(
            wire_bytes=server.max_body,
            inflated_bytes=server.max_inflated_body,
            read_seconds=server.body_timeout.total_seconds(),
        )
    )
    predictions = PredictionsEndpoint(service.ingestion, auth, intake)
    cells = CellsEndpoint(service.ingestion, auth, intake)
    labels = LabelsEndpoint(service.ingestion, service.labelling, auth, intake)
    events = EventsEndpoint(service.ingestion, service.halves, auth, intake)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(intake.close)

    app = Starlette(
        routes=[
            predictions.route,
            cells.route,
            labels.route,
            *events.routes,
            *_health(service, auth),
            *_operations(service, auth),
            *Pages(service, auth).routes(),
        ],
        exception_handlers=_HANDLERS,
        lifespan=lifespan,
    )
    app.state.predictions = predictions
    return app


def refuse(request: Request, error: Exception) -> Response:
    """What the application answers where an endpoint raises `error`."""
    return next(_HANDLERS[kind] for kind in type(error).__mro__ if kind in _HANDLERS)(request, error)


def _health(service: Service, auth: Authenticator) -> Sequence[BaseRoute]:
    metrics = Metrics(service)

    async def healthz(_: Request) -> Response:
        return health(service)

    async def readyz(_: Request) -> Response:
        return readiness(service)

    async def page(request: Request) -> Response:
        auth.require(request, READ)
        return await run_in_threadpool(metrics.page)

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", page)]


def _operations(service: Service, auth: Authenticator) -> Sequence[BaseRoute]:
    def route(
        method: str, path: str, scope: str, work: Callable[[Call], Response], **limits: int
    ) -> tuple[str, str, Callable[[Request], Awaitable[Response]]]:
        return method, path, endpoint(service, auth, scope, work, **limits)

    baseline = "/v1/models/{model}/versions/{version}/baseline"
    table = [
        route("GET", "/v1/status", READ, models.show_status),
        route("GET", "/v1/models", READ, models.list_models),
        route("GET", "/v1/models/{model}", READ, models.show_model),
        route("GET", "/v1/models/{model}/performance", READ, performance.show_performance),
        route("GET", "/v1/baselines", READ, models.show_baselines),
        route("GET", baseline, READ, models.get_baseline),
        route("PUT", baseline, OPERATE, models.put_baseline, body_bytes=models.BASELINE_BYTES),
        route("GET", f"{baseline}/calibration", READ, models.get_calibration),
        route("POST", f"{baseline}/from-traffic", OPERATE, traffic.build_from_traffic),
        route("GET", "/v1/alerts", READ, alerts.list_alerts),
        route("GET", "/v1/alerts/{id}", READ, alerts.show_alert),
        route("GET", "/v1/alerts/{id}/explanation", READ, alerts.explain_alert),
        route("POST", "/v1/alerts/{id}/ack", OPERATE, alerts.ack_alert),
        route("POST", "/v1/alerts/{id}/accept", OPERATE, alerts.accept_alert),
        route("GET", "/v1/silences", READ, silences.show_silences),
        route("POST", "/v1/silences", OPERATE, silences.create_silence),
        route("DELETE", "/v1/silences/{id}", OPERATE, silences.delete_silence),
        route("POST", "/v1/receivers/{name}/test", OPERATE, alerts.try_one),
        route("POST", "/v1/reload", OPERATE, reload_config),
    ]
    return [_by_method(path, table) for path in dict.fromkeys(path for _, path, _ in table)]


def _by_method(
    path: str, table: Sequence[tuple[str, str, Callable[[Request], Awaitable[Response]]]]
) -> Route:
    """One route per address, so that a wrong method is told all that the address takes."""
    handlers = {method: handler for method, at, handler in table if at == path}

    async def dispatch(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, dispatch, methods=list(handlers))


def _refused(_: Request, error: Exception) -> Response:
    if isinstance(error, NotKnown):
        return problem(404, str(error))
    if isinstance(error, Invalid):
        issues = (Issue(pointer=error.pointer, detail=str(error)),) if error.pointer else ()
        return problem(422, str(error), issues=issues)
    return problem(409 if isinstance(error, Conflicting) else 422, str(error))


def _not_stored(_: Request, error: Exception) -> Response:
    if isinstance(error, NotFound):
        return problem(404, str(error))
    return problem(503, str(error), headers={"Retry-After": "1"})


_HANDLERS: Final[Mapping[Any, Callable[[Request, Exception], Response]]] = {
    **EXCEPTION_HANDLERS,
    OperationError: _refused,
    StorageError: _not_stored,
}

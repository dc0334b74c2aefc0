"""The web page: HTML made by the server, useful without script, closed to anything from elsewhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from monitor.api.auth import READ, Authenticator
from monitor.app import Service
from monitor.ingest.schema import ModelHandle
from monitor.version import VERSION
from monitor.web import views
from storage.errors import NotFound

_HERE: Final = Path(__file__).parent
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Pages:
    """The routes of the web page."""

    def __init__(self, service: Service, auth: Authenticator) -> None:
        self._service = service
        self._auth = auth
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["words"] = lambda state: str(state).replace("_", " ")
        self._script = (_HERE / "static" / "driftd.js").read_bytes()

    def routes(self) -> list[Route]:
        """Everything to mount."""
        # Plain functions run in Starlette's thread pool: reading SQL must not hold the event loop.
        return [
            Route("/", self._guarded(lambda _: self._models())),
            Route("/models/{model:path}/columns/{column:path}", self._guarded(self._column)),
            Route("/models/{model:path}", self._guarded(self._model)),
            Route("/alerts", self._guarded(lambda _: self._alerts())),
            Route("/alerts/{alert:int}", self._guarded(self._alert)),
            Route("/static/driftd.js", lambda _: self._static()),
        ]

    def _guarded(self, page: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            self._auth.require(request, READ, basic=True)
            return page(request)

        return answer

    def _static(self) -> Response:
        headers = HEADERS | {"Cache-Control": "max-age=3600"}
        return Response(self._script, media_type="text/javascript", headers=headers)

    def _models(self) -> Response:
        return self._page("models.html", {"models": views.overview(self._service)})

    def _model(self, request: Request) -> Response:
        model = self._named(request)
        if model is None:
            return self._missing("no such model")
        shown = views.model_page(self._service, model, request.query_params.get("version"))
        return self._page("model.html", shown)

    def _column(self, request: Request) -> Response:
        model = self._named(request)
        window = request.query_params.get("window", "")
        shown = model and views.column_page(
            self._service,
            model,
            request.query_params.get("version"),
            request.path_params["column"],
            int(window) if window.isascii() and window.isdigit() and len(window) < 12 else None,
        )
        return (
            self._page("column.html", shown)
            if shown
            else self._missing("no such column, or nothing evaluated yet")
        )

    def _alerts(self) -> Response:
        return self._page("alerts.html", views.alert_list(self._service))

    def _alert(self, request: Request) -> Response:
        try:
            shown = views.alert_page(self._service, request.path_params["alert"])
        except NotFound:
            return self._missing("no such alert")
        return self._page("alert.html", shown)

    def _named(self, request: Request) -> ModelHandle | None:
        return self._service.catalog.model(request.path_params["model"])

    def _missing(self, what: str) -> Response:
        return self._page("missing.html", {"what": what}, status=404)

    def _page(self, template: str, shown: dict[str, Any], status: int = 200) -> Response:
        now = self._service.clock.now().strftime("%Y-%m-%d %H:%M:%S")
        html = self._templates.get_template(template).render(
            shown | {"now": now, "version_of_driftd": VERSION}
        )
        return HTMLResponse(html, status, headers=HEADERS)

"""The web page: HTML made by the server, useful without script, closed to anything from elsewhere."""

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from monitor.api.auth import READ, Authenticator
from monitor.app import Service
from monitor.version import VERSION
from monitor.web import columns, incidents, views
from monitor.web.filters import COLUMN_PARAMETER, FILTERS
from storage.errors import NotFound

_HERE: Final = Path(__file__).parent
LARGEST_ID: Final = 2**62
_STYLE: Final = (_HERE / "static" / "driftd.css").read_text()
_SCRIPT: Final = (_HERE / "static" / "driftd.js").read_bytes()
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final = {
    # The one style sheet is named by its hash: not even a style may come from a name that slipped through.
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; script-src 'self'; connect-src 'self'; img-src data:; "
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
        self._templates.filters.update(FILTERS)
        self._templates.globals["style"] = Markup(_STYLE)  # noqa: S704  # a file of ours

    def routes(self) -> list[Route]:
        """Everything to mount."""
        # Plain functions run in Starlette's thread pool: reading SQL must not hold the event loop.
        return [
            Route("/", self._guarded(lambda _: self._models())),
            Route("/models/{model:path}/columns/{column:path}", self._guarded(self._column)),
            Route("/models/{model:path}", self._guarded(self._model)),
            Route("/alerts", self._guarded(self._alerts)),
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
        return Response(_SCRIPT, media_type="text/javascript", headers=headers)

    def _models(self) -> Response:
        return self._page("models.html", {"models": views.overview(self._service)}, here="models")

    def _model(self, request: Request) -> Response:
        model = self._service.catalog.model(request.path_params["model"])
        if model is None:
            return self._missing("no such model")
        version = request.query_params.get("version")
        if version and version not in model.versions:
            return self._missing("no such version of this model")
        shown = views.model_page(self._service, model, version, request.query_params.get("segment", ""))
        if shown is None:
            return self._missing("no such segment of this version, or nothing of it has been evaluated yet")
        return self._page("model.html", shown, here="models")

    def _column(self, request: Request) -> Response:
        window = _number(request, "window")
        for model_name, column in _splits(request):
            model = self._service.catalog.model(model_name)
            shown = model and columns.column_page(
                self._service,
                model,
                request.query_params.get("version"),
                column,
                window,
                request.query_params.get("segment", ""),
            )
            if shown:
                return self._page("column.html", shown, here="models")
        return self._missing("no such column, or nothing of it has been evaluated yet")

    def _alerts(self, request: Request) -> Response:
        before = _number(request, "before")
        shown = incidents.alert_list(self._service, request.query_params.get("model"), before)
        return self._page("alerts.html", shown, here="alerts")

    def _alert(self, request: Request) -> Response:
        alert: int = request.path_params["alert"]
        try:
            shown = incidents.alert_page(self._service, alert) if alert < LARGEST_ID else None
        except NotFound:
            shown = None
        return self._page("alert.html", shown, here="alerts") if shown else self._missing("no such alert")

    def _missing(self, what: str) -> Response:
        return self._page("missing.html", {"what": what}, status=404)

    def _page(self, template: str, shown: Mapping[str, Any], status: int = 200, here: str = "") -> Response:
        common = {"now": self._service.clock.now(), "version_of_driftd": VERSION, "here": here}
        html = self._templates.get_template(template).render({**shown, **common})
        return HTMLResponse(html, status, headers=HEADERS)


def _number(request: Request, name: str) -> int | None:
    """A number of the query; whatever else is there counts as nothing."""
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else None


def _splits(request: Request) -> Iterator[tuple[str, str]]:
    """The ways to read a path as model and column: either name may hold `/columns/` itself."""
    named = request.query_params.get(COLUMN_PARAMETER)
    if named is not None and not request.path_params["column"]:
        yield request.path_params["model"], named
    parts = f"{request.path_params['model']}/columns/{request.path_params['column']}".split("/columns/")
    for at in range(1, min(len(parts), 10)):
        yield "/columns/".join(parts[:at]), "/columns/".join(parts[at:])

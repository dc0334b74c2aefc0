"""`/healthz`, `/readyz` and `/metrics`: for machines that watch the watcher."""

import threading
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from monitor import overview
from monitor.api.endpoint import answer
from monitor.app import Service
from monitor.ingest.schema import VersionHandle
from monitor.performance import Performance, of_production
from monitor.telemetry import OTHER
from storage import alerts, batches, outbox

HEARTBEAT: Final = timedelta(seconds=60)


def health(service: Service) -> Response:
    """200 while the evaluation loop completes its rounds, else 503 with the reasons."""
    return _verdict(stuck(service))


def readiness(service: Service) -> Response:
    """200 once predictions can be stored and evaluated, else 503 with the reasons."""
    reasons = stuck(service)
    if not service.database.healthy:
        reasons.append(f"database: {service.database.last_error or 'the writing thread has ended'}")
    if not service.started:
        reasons.append("the loops have not started")
    return _verdict(reasons)


def stuck(service: Service) -> list[str]:
    """Why the evaluation loop seems dead; nothing while it lives, or was never started."""
    silent = service.silent_for()
    if silent is None or silent < HEARTBEAT:
        return []
    return [f"the evaluation loop has completed no round for {silent.total_seconds():.0f} s"]


class Metrics:
    """The metrics page: what only the database knows is read when somebody asks."""

    def __init__(self, service: Service) -> None:
        self._service = service
        # Two scrapes at once would see each other's half-cleared gauges.
        self._lock = threading.Lock()

    def page(self) -> Response:
        """The text exposition format."""
        with self._lock:
            self._refresh()
            return Response(
                self._service.telemetry.render(),
                headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"},
            )

    def _refresh(self) -> None:
        service, telemetry = self._service, self._service.telemetry
        with service.database.read() as conn:
            open_alerts = Counter((row.kind, row.state) for row in alerts.active(conn))
            waiting = batches.unfolded_by_version(conn)
            queues = {stat.receiver: stat.pending + stat.leased for stat in outbox.stats(conn)}
            columns = overview.columns_by_state(service, conn)
            now = service.clock.now()
            realised = [
                (model.name, version, day)
                for model in service.catalog.models()
                for version, day in of_production(conn, model, service.config.settings(model.name), now)
            ]
        telemetry.fold_backlog.set(sum(count for count, _ in waiting.values()))
        telemetry.alerts.clear()
        for (kind, state), count in open_alerts.items():
            telemetry.alerts.labels(kind=kind, state=state).set(count)
        telemetry.waiting.clear()
        for name in service.receivers:
            telemetry.waiting.labels(receiver=name).set(queues.get(name, 0))
        telemetry.columns.clear()
        for (model, state), count in columns.items():
            telemetry.columns.labels(model=telemetry.label(model), state=state).inc(count)
        self._realised(realised)

    def _realised(self, found: Sequence[tuple[str, VersionHandle, Performance]]) -> None:
        """How right predictions turned out to be. A mean of what is left of others would say nothing: they are left out."""
        telemetry = self._service.telemetry
        gauges = (telemetry.realised_accuracy, telemetry.realised_error, telemetry.label_coverage)
        for gauge in gauges:
            gauge.clear()
        for model, version, day in found:
            labels = [telemetry.label(name) for name in (model, version.version, day.column)]
            if OTHER in labels:
                continue
            for gauge, value in zip(
                gauges, (day.accuracy, day.mean_absolute_error, day.coverage), strict=True
            ):
                if value is not None:
                    gauge.labels(*labels).set(value)


def _verdict(reasons: list[str]) -> Response:
    return answer({"ok": not reasons, "reasons": reasons}, 503 if reasons else 200)

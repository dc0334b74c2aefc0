"""A whole daemon in a temporary directory on a clock that stands still: no HTTP, no threads, no sleeping."""

from collections.abc import Mapping
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alerts.ports import Reply, Request
from detectors.codec import encode_baseline
from detectors.profile import Baseline
from monitor.api.ports import SubmitResult
from monitor.app import Service
from monitor.clock import ManualClock
from monitor.config import Config, parse
from monitor.ingest.accept import Accepted
from monitor.ingest.batch import Batch, Tensor, text_tensor
from monitor.instants import to_ns
from storage import alerts, baselines, batches, models, outbox
from storage.alerts import AlertRow, TransitionRow
from storage.engine import Address, Connection, Database
from storage.outbox import NotificationRow
from tests.monitor import frames
from tests.states import new_state

START = datetime(2026, 3, 2, tzinfo=UTC)
MODEL = "credit"

CONFIG = """
[models.credit]
pane = "1m"
windows = ["15m", "1h"]
evidence_block = "1m"
learning = false
lateness = "0s"
false_pages_per_year = 1.0
keep_firing_for = "10m"

[alerts]
group_wait = "0s"
group_interval = "1m"

[receivers.hook]
type = "webhook"
url = "https://hook.example/x"
"""


class Wire:
    """A transport that keeps what it was asked to send, and answers as it is told."""

    def __init__(self) -> None:
        self.sent: list[Request] = []
        self.status = 200

    def send(self, request: Request) -> Reply:
        self.sent.append(request)
        return Reply(status=self.status, body=b"ok")


def tensor(name: str, values: npt.NDArray[Any]) -> Tensor:
    """One column as it would arrive: texts and nulls, or float32."""
    if values.dtype.kind == "O":
        return text_tensor(name, values.tolist())
    return Tensor(
        name=name, datatype="FP32", shape=values.shape, data=values.astype(np.float32, copy=False).tobytes()
    )


class World:
    """One daemon; `restart` closes it and opens the next on the same files."""

    def __init__(
        self,
        where: Path | Address,
        *,
        config: str = CONFIG,
        start: datetime = START,
        clock: ManualClock | None = None,
    ) -> None:
        self.where = where
        self.clock = clock or ManualClock(start)
        self.wire = Wire()
        self.config: Config = parse(config)
        self._sent = 0
        self.service = self._open()

    def restart(self, config: str | None = None) -> None:
        """Stop as a kill would, without a last look, and start again."""
        self.service.database.close()
        if config is not None:
            self.config = parse(config)
        self.service = self._open()

    def close(self) -> None:
        self.service.database.close()

    def register(
        self,
        baseline: Baseline | None,
        version: str = "1",
        stage: str = "production",
        *,
        model_name: str = MODEL,
    ) -> int:
        """Make `version` known, with its baseline if there is one; returns the version's id."""

        def write(conn: Connection) -> int:
            now = self.clock.now()
            model = models.ensure_model(conn, model_name, now=now)
            row = models.ensure_version(conn, model.id, version, now=now, stage=stage)
            if baseline is not None:
                baseline_id = baselines.add(
                    conn,
                    version_id=row.id,
                    blob=encode_baseline(baseline),
                    fingerprint=baseline.fingerprint,
                    source=baseline.source,
                    rows=baseline.profile.rows,
                    pane_seconds=baseline.pane_seconds,
                    now=now,
                )
                models.set_baseline(conn, row.id, baseline_id)
            return row.id

        version_id = self.service.database.write(write).result()
        self.service.catalog.reload()
        return version_id

    def send(
        self,
        at: datetime,
        rows: Mapping[str, npt.NDArray[Any]],
        *,
        version: str = "1",
        spread: timedelta = timedelta(0),
        batch_id: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        tags: Mapping[str, list[str | None]] | None = None,
        model_name: str = MODEL,
    ) -> str:
        """Commit one batch whose rows happened from `at` on, evenly over `spread`; returns stored, duplicate, conflict."""
        return (
            self.offer(
                at,
                rows,
                version=version,
                spread=spread,
                batch_id=batch_id,
                parameters=parameters,
                tags=tags,
                model_name=model_name,
            )
            .result()
            .status
        )

    def offer(
        self,
        at: datetime,
        rows: Mapping[str, npt.NDArray[Any]],
        *,
        version: str = "1",
        spread: timedelta = timedelta(0),
        batch_id: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        tags: Mapping[str, list[str | None]] | None = None,
        model_name: str = MODEL,
    ) -> Future[SubmitResult]:
        """Queue such a batch, and do not wait for it."""
        self._sent += 1
        count = len(next(iter(rows.values())))
        offsets = np.linspace(0, spread.total_seconds() * 1e9, count, endpoint=False).astype(np.int64)
        batch = Batch(
            id=batch_id or f"batch-{self._sent}",
            model_version=version,
            parameters=dict(parameters or {}),
            rows=count,
            times_ns=to_ns(at) + offsets,
            tensors=tuple(tensor(name, values) for name, values in rows.items()),
            tags={key: text_tensor(key, values) for key, values in (tags or {}).items()},
            row_ids=None,
            body_sha256=f"{batch_id or self._sent}-{hash(tuple(next(iter(rows.values())).tolist()))}",
        )
        model = self.service.catalog.model(model_name)
        assert model is not None
        handle = model.versions.get(version) or self.service.ingestion.ensure_version(model, version)
        accepted = Accepted(batch=batch, accepted=count, rejected=0)
        return self.service.ingestion.submit(model, handle, accepted)

    def minute(self, seed: int, *, rows: int = 60, shift: float = 0.0, version: str = "1") -> int:
        """A minute of traffic passes, then one look; returns boundaries evaluated."""
        at = self.clock.now()
        self.clock.advance(timedelta(minutes=1))
        self.send(at, frames.rows(seed, rows, shift=shift), version=version, spread=timedelta(seconds=59))
        return self.look()

    def look(self) -> int:
        """One look, with the facts, and everything that is due is sent."""
        boundaries = self.service.pipeline.run_once()
        for courier in self.service.couriers.values():
            courier.run_once()
        return boundaries

    def alerts(self) -> list[AlertRow]:
        """Every alert there was, oldest first."""
        with self.service.database.read() as conn:
            return alerts.list_alerts(conn)[::-1]

    def history(self, alert_id: int) -> list[TransitionRow]:
        with self.service.database.read() as conn:
            return alerts.history(conn, alert_id)

    def notifications(self) -> list[NotificationRow]:
        with self.service.database.read() as conn:
            return outbox.list_notifications(conn)[::-1]

    def unfolded(self) -> int:
        with self.service.database.read() as conn:
            return len(batches.unfolded(conn, limit=1000))

    def _open(self) -> Service:
        database = Database.open(new_state(self.where) if isinstance(self.where, Path) else self.where)
        return Service(self.config, database, clock=self.clock, transport=self.wire)

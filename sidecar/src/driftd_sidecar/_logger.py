"""PredictionLogger: for applications that call it themselves, and the engine under MonitoredSession."""

import os
import random
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote, urlsplit

import numpy as np
import numpy.typing as npt

from driftd_sidecar._buffer import Buffer
from driftd_sidecar._calls import CallRecipe, Texts, capture
from driftd_sidecar._cellstore import CellStore
from driftd_sidecar._labels import LabelLog
from driftd_sidecar._notices import Notices
from driftd_sidecar._process import enrol
from driftd_sidecar._request import Target
from driftd_sidecar._ship import Limits, Shipper
from driftd_sidecar._spool import Spool
from driftd_sidecar._stats import Stats
from driftd_sidecar._transport import HttpTransport, Transport
from driftd_sidecar._version import __version__
from driftd_sidecar._wide import Allowance, WideLimits

MEBIBYTE = 1 << 20
Times = int | Sequence[int] | npt.NDArray[np.int64] | npt.NDArray[np.datetime64]


class PredictionLogger:
    """Ships predictions to driftd from a background thread. No method raises once it is constructed.

    Args:
        model: the name the daemon knows the model by.
        version: the version of the model that makes these predictions.
        endpoint: base URL of the daemon, such as `http://127.0.0.1:8787`.
        token: bearer token with the scope `ingest:<model>`; None where the daemon asks for none.
        clock: returns the event time of a call in nanoseconds since 1970 UTC; called once per call without `time_ns`.
        tags: segment tags of every row, such as `{"region": "eu"}`; `log(tags=)` overrides them key by key.
        transport: replaces the HTTP client, for tests and for unusual networks.
        ca_bundle: file of certificates to trust instead of those of the operating system.
        buffer_bytes: bound of everything kept in memory, overhead included; beyond half of it rows are sampled.
        batch_rows, batch_bytes, flush_seconds: a batch leaves when it reaches one of them.
        timeout_seconds: wall-clock deadline of one request.
        spool_dir: folder in which batches wait while the daemon does not answer, across restarts; None: in memory only.
        spool_bytes: bound of this process's files there.
        wide_row_bytes: a tensor with more bytes per row, such as an image, ships for a uniform sample of rows only.
        wide_bytes_per_second: what the wide tensors of all those rows may come to; 0: none are shipped.
        mode: "rows" ships rows. "edge" counts them here on the cells of the baseline, which it asks the daemon for,
            and ships the counts of each pane `flush_seconds` after the pane is over; batch_rows plays no part.
    """

    def __init__(
        self,
        *,
        model: str,
        version: str,
        endpoint: str,
        token: str | None = None,
        clock: Callable[[], int] = time.time_ns,
        tags: Mapping[str, str] | None = None,
        transport: Transport | None = None,
        ca_bundle: str | None = None,
        buffer_bytes: int = 16 * MEBIBYTE,
        batch_rows: int = 1000,
        batch_bytes: int = MEBIBYTE,
        flush_seconds: float = 1.0,
        timeout_seconds: float = 10.0,
        spool_dir: str | os.PathLike[str] | None = None,
        spool_bytes: int = 256 * MEBIBYTE,
        wide_row_bytes: int = 16_384,
        wide_bytes_per_second: int = 262_144,
        mode: Literal["rows", "edge"] = "rows",
    ) -> None:
        for name, value, least in (
            ("buffer_bytes", buffer_bytes, 65_536),
            ("batch_rows", batch_rows, 1),
            ("batch_bytes", batch_bytes, 1),
            ("flush_seconds", flush_seconds, 0.01),
            ("timeout_seconds", timeout_seconds, 0.01),
            ("spool_bytes", spool_bytes, 65_536),
            ("wide_row_bytes", wide_row_bytes, 1),
            ("wide_bytes_per_second", wide_bytes_per_second, 0),
        ):
            if not value >= least:
                raise ValueError(f"{name} must be at least {least}, not {value!r}")
        if mode not in ("rows", "edge"):
            raise ValueError(f"mode must be 'rows' or 'edge', not {mode!r}")
        if transport is None:
            transport = HttpTransport(ca_bundle=ca_bundle)
        if mode == "edge" and not callable(getattr(transport, "fetch", None)):
            raise ValueError(
                "mode 'edge' needs a transport with a method fetch, to ask the daemon for its cells"
            )
        folder = None if spool_dir is None else Path(spool_dir) / quote(model, safe="").replace(".", "%2E")
        self.notices = Notices()
        self.tags = dict(tags or {})
        self.clock = clock
        target = _target(model, version, endpoint, token)
        self._shipper = Shipper(
            buffer_bytes=buffer_bytes,
            transport=transport,
            target=target,
            limits=Limits(
                batch_rows=batch_rows,
                batch_bytes=min(batch_bytes, buffer_bytes // 4),
                flush_seconds=flush_seconds,
                timeout_seconds=timeout_seconds,
            ),
            notices=self.notices,
            rng=random.Random(),  # noqa: S311 (samples rows and spreads retries; nothing secret)
            spool=None if folder is None else Spool(folder, spool_bytes, self.notices),
            edge=mode == "edge",
            cell_store=None if folder is None else CellStore(folder, version),
        )
        self.buffer: Buffer = self._shipper.buffer
        self._lane = self.buffer.lane(CallRecipe(notices=self.notices, tags=self.tags))
        self._labels = LabelLog(buffer=self.buffer, notices=self.notices, clock=clock, joined=mode == "rows")
        self.wide_row_bytes = wide_row_bytes
        self._wide = Allowance(
            WideLimits(row_bytes=wide_row_bytes, bytes_per_second=wide_bytes_per_second),
            rng=random.Random(),  # noqa: S311 (samples rows; nothing secret)
            monotonic=time.monotonic,
        )
        enrol(self._shipper)
        self._finalizer = weakref.finalize(self, self._shipper.close_soon)
        self._finalizer.atexit = False  # the exit hook flushes, with a deadline

    def log(
        self,
        inputs: Mapping[str, object],
        outputs: Mapping[str, object],
        *,
        time_ns: Times | None = None,
        request_id: Texts | None = None,
        tags: Mapping[str, Texts] | None = None,
    ) -> None:
        """Appends one call of N rows: tensors by name, each with N as its first dimension.

        `time_ns`: one time for all rows or one per row; `request_id` and every tag likewise. The arrays may be
        changed as soon as this returns.
        """
        self.record(inputs, outputs, time_ns=time_ns, request_id=request_id, tags=tags)

    def log_labels(self, request_id: Texts, labels: object, *, time_ns: Times | None = None) -> None:
        """Appends what turned out to be true of N predictions, by the `request_id` of each: one text, or N of them.

        `labels` are N values by the name of the prediction's column, or N values alone where the model has one such
        column: numbers, truth values or texts, one per request id. `time_ns` is when they became known, one time for
        all or one per label; absent: now. In edge mode there is nothing to join them to: they are dropped and counted.
        """
        self._labels.log(request_id, labels, time_ns)

    def record(
        self,
        inputs: Mapping[str, object],
        outputs: Mapping[str, object],
        *,
        time_ns: object = None,
        request_id: Texts | None = None,
        tags: Mapping[str, Texts] | None = None,
        dtypes: Mapping[str, np.dtype[np.generic]] | None = None,
    ) -> None:
        """As `log`, with the dtypes a model declares for inputs that came as Python lists."""
        try:
            calls = capture(
                inputs,
                outputs,
                time_ns=self.clock() if time_ns is None else time_ns,
                request_id=request_id,
                tags=tags,
                dtypes=dtypes,
                wide=self._wide,
            )
            for call in calls:
                self.buffer.offer(self._lane, (call,))
        except Exception as error:  # nothing of ours may reach the caller
            self.count_lost(inputs, error)

    def count_lost(self, inputs: Mapping[str, object], error: Exception) -> None:
        """Books a call that could not be captured, by the length of its first input, and warns once."""
        try:
            rows = len(next(iter(inputs.values())))  # type: ignore[arg-type]  # not everything has a length: see below
        except Exception:  # a value without length is one row
            rows = 1
        self.buffer.count_error(rows, admitted=False)
        self.notices.once(f"capture {type(error).__name__}", "a call could not be captured: %s", error)

    def flush(self, timeout: float = 5.0) -> bool:
        """Waits until every row and label that waits now was acknowledged. False: not within `timeout`, or not all."""
        return self._shipper.flush(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Flushes for at most `timeout` seconds and ends the thread. Later calls are dropped and counted."""
        if self._finalizer.detach() is not None:
            self._shipper.close(timeout)

    def stats(self) -> Stats:
        """The books, exact at this moment."""
        return self.buffer.stats()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _target(model: str, version: str, endpoint: str, token: str | None) -> Target:
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"endpoint must be the http or https base URL of the daemon, not {endpoint!r}")
    if not model:
        raise ValueError("model must be the name the daemon knows the model by, not an empty text")
    if not version:
        raise ValueError("version must name the version of the model, not be an empty text")
    headers = {"User-Agent": f"driftd-sidecar/{__version__}"}
    if token is not None:
        if not token.isascii() or not token.isprintable() or not token.strip():
            raise ValueError("token must be printable ASCII without line breaks")
        headers["Authorization"] = f"Bearer {token.strip()}"
    base = f"{endpoint.rstrip('/')}/v1/models/{quote(model, safe='')}"
    return Target(base=base, model_version=version, headers=headers)

"""A daemon of edge mode without a network, and a shipper of counts on a clock turned by hand."""

import gzip
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors.profile import Baseline, Profile
from driftd_sidecar import Response
from driftd_sidecar._calls import CallRecipe, capture
from driftd_sidecar._cellstore import CellStore
from driftd_sidecar._notices import Notices
from driftd_sidecar._request import Target
from driftd_sidecar._ship import Limits, Shipper
from driftd_sidecar._spool import Spool
from monitor.ingest.cell_document import encode_cells
from tests.sidecar.fakes import Clock, ok

MEBIBYTE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Posted:
    """A body of counts as it was sent."""

    url: str
    headers: Mapping[str, str]
    raw: bytes
    body: dict[str, Any]

    @property
    def rows(self) -> int:
        return sum(pane["rows"] for pane in self.body["panes"] if "segment" not in pane)

    def profile(self, baseline: Baseline, number: int = 0) -> Profile:
        """One of its panes, read by the description of the format alone."""
        pane = self.body["panes"][number]
        profile = Profile.zeros(baseline.layout)
        for position, column in enumerate(pane["columns"]):
            assert column["name"] == baseline.columns[position].name
            slots = profile.counts[baseline.layout.slices[position]]
            at = 0
            for gap, count in zip(column["gaps"], column["counts"], strict=True):
                at += gap
                slots[at] = count
            present = pane["rows"] - profile.counts[baseline.layout.missing[position]]
            if "mean" in column:
                infinite = slots[
                    baseline.layout.missing[position] - baseline.layout.slices[position].start + 1
                ]
                profile.moments[position] = present - infinite, column["mean"], column["m2"]
        return Profile(rows=pane["rows"], counts=profile.counts, moments=profile.moments)


class EdgeDaemon:
    """A transport that serves cells and takes counts on them; `answer` replaces its answers to posts."""

    def __init__(self, baseline: Baseline | None, segment_keys: tuple[str, ...] = ()) -> None:
        self.baseline = baseline
        self.segment_keys = segment_keys
        self.online = True
        self.fetched: list[Mapping[str, str]] = []
        self.urls: list[str] = []
        self.posted: list[Posted] = []
        self.taken: list[Posted] = []
        self.answer: Callable[[Posted], Response | Exception] = self.take
        self.document: Callable[[Mapping[str, str]], Response] = self.cells

    def fetch(self, url: str, headers: Mapping[str, str], timeout: float, most_bytes: int) -> Response:
        self.fetched.append(dict(headers))
        self.urls.append(url)
        if not self.online:
            raise OSError("no route")
        return self.document(headers)

    def cells(self, headers: Mapping[str, str]) -> Response:
        if self.baseline is None:
            return Response(status=404)
        tag = f'"{self.baseline.fingerprint}"'
        if headers.get("If-None-Match") == tag:
            return Response(status=304)
        body = gzip.compress(encode_cells(self.baseline, self.segment_keys))
        return Response(status=200, headers={"etag": tag, "Content-Encoding": "gzip"}, body=body)

    def send(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Response:
        if not self.online:
            raise OSError("no route")
        posted = Posted(url=url, headers=dict(headers), raw=body, body=json.loads(gzip.decompress(body)))
        self.posted.append(posted)
        answer = self.answer(posted)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def take(self, posted: Posted) -> Response:
        """As the daemon: counts of another baseline than the one in force are refused, with its fingerprint."""
        current = None if self.baseline is None else self.baseline.fingerprint
        if posted.body["fingerprint"] != current:
            return Response(status=409, body=json.dumps({"status": 409, "fingerprint": current}).encode())
        self.taken.append(posted)
        return ok(posted.rows)

    @property
    def rows(self) -> int:
        return sum(posted.rows for posted in self.taken)


class EdgeBench:
    """A shipper in edge mode without a thread."""

    def __init__(
        self,
        daemon: EdgeDaemon,
        *,
        clock: Clock | None = None,
        buffer_bytes: int = 16 * MEBIBYTE,
        batch_bytes: int = MEBIBYTE,
        spool: Spool | None = None,
        cell_store: CellStore | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.daemon = daemon
        self.clock = clock or Clock()
        self.notices = Notices()
        self.shipper = Shipper(
            buffer_bytes=buffer_bytes,
            transport=daemon,
            target=Target(base="http://daemon", model_version="v7", headers={"Authorization": "Bearer t"}),
            limits=Limits(batch_rows=1000, batch_bytes=batch_bytes, flush_seconds=1.0, timeout_seconds=4.0),
            notices=self.notices,
            rng=random.Random(3),
            monotonic=self.clock.monotonic,
            wall_ns=self.clock.wall_ns,
            threaded=False,
            spool=spool,
            edge=True,
            cell_store=cell_store,
        )
        self.buffer = self.shipper.buffer
        self.lane = self.buffer.lane(CallRecipe(notices=self.notices, tags=tags or {}))

    def log(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any], **labels: Any) -> None:
        for call in capture(inputs, outputs, **{"time_ns": self.clock.wall_ns(), **labels}):
            self.buffer.offer(self.lane, (call,))

    def run(self, seconds: float) -> None:
        """Steps as the thread would, until the clock has moved on by `seconds`."""
        self.clock.pass_time(seconds, self.shipper.step)

    def hop(self, seconds: float, steps: int = 3) -> None:
        """The clock moves on at once, then a few steps: for hours in which nothing else happens."""
        self.clock.forward(seconds)
        for _ in range(steps):
            self.shipper.step()

    def check_books(self) -> None:
        stats = self.buffer.stats()
        assert stats.seen == stats.kept + stats.dropped
        assert stats.kept == stats.sent + stats.pending


def numbers(rows: int, seed: int = 1) -> dict[str, Any]:
    """The inputs of `simple`."""
    return {"x": np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)}

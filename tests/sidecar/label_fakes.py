"""A shipper that also takes labels, on a clock turned by hand, and the books of labels."""

from pathlib import Path
from typing import Any

from driftd_sidecar import Response, Stats
from driftd_sidecar._kind import Kind
from driftd_sidecar._labels import LabelLog
from driftd_sidecar._notices import Notices
from driftd_sidecar._spool import Spool
from tests.sidecar.fakes import Sent
from tests.sidecar.test_shipping import Bench

MEBIBYTE = 1 << 20
PATHS = {kind: f"http://daemon/v1/models/m/{kind}" for kind in Kind}


class LabelBench(Bench):
    """A shipper without a thread that also takes labels."""

    def __init__(self, *answers: Response | Exception, **options: Any) -> None:
        super().__init__(*answers, **options)
        self.labels = LabelLog(
            buffer=self.buffer, notices=self.notices, clock=self.clock.wall_ns, joined=True
        )

    def label(self, request_id: Any, labels: Any, time_ns: Any = None) -> None:
        self.labels.log(request_id, labels, time_ns)

    def sent_to(self, kind: Kind) -> list[Sent]:
        return [sent for sent in self.transport.sent if sent.url == PATHS[kind]]

    def check_books(self) -> None:
        super().check_books()
        check_labels(self.buffer.stats())


def check_labels(stats: Stats) -> None:
    assert stats.labels_seen == stats.labels_sent + stats.labels_pending + stats.labels_dropped
    assert min(stats.labels_sent, stats.labels_pending, stats.labels_dropped) >= 0


def books(stats: Stats) -> tuple[int, int, int, int]:
    return stats.labels_seen, stats.labels_sent, stats.labels_pending, stats.labels_dropped


def down(_: Any) -> Exception:
    """What a daemon that is down answers."""
    return OSError("down")


def spooling(folder: Path, **options: Any) -> LabelBench:
    return LabelBench(spool=Spool(folder, 1 << 24, Notices()), **options)

"""Many incidents at once go out no faster than the vendor asks for."""

import time
from datetime import UTC, datetime
from pathlib import Path

from alerts.ports import Reply, Request
from alerts.receivers.slack import SlackReceiver
from monitor.app import Service
from monitor.config import parse
from monitor.ids import message_id
from storage import outbox
from storage.engine import Connection, Database

CONFIG = '[receivers.chat]\ntype = "slack"\nurl = "https://hooks.slack.com/services/T0/B0/x"\n'


class Stopwatch:
    """A transport that notes when it was asked."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def send(self, request: Request) -> Reply:
        self.at.append(time.monotonic())
        return Reply(status=200, body=b"ok")


def test_a_burst_to_slack_is_spread(tmp_path: Path) -> None:
    wire, now = Stopwatch(), datetime.now(UTC)
    service = Service(parse(CONFIG), Database.open(tmp_path), transport=wire)

    def queue(conn: Connection) -> None:
        for group in ("a", "b", "c"):
            outbox.add(
                conn,
                outbox.NewNotification(
                    id=message_id(now),
                    receiver="chat",
                    group_key=group,
                    kind="firing",
                    severity="critical",
                    body=b"{}",
                    content_type="application/json",
                    next_attempt_at=now,
                    created_at=now,
                ),
            )

    try:
        service.database.write(queue).result()
        service.start()
        deadline = time.monotonic() + 20
        while len(wire.at) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        service.stop()
    gaps = [later - earlier for earlier, later in zip(wire.at, wire.at[1:], strict=False)]
    assert len(gaps) == 2
    assert min(gaps) >= SlackReceiver.spacing_seconds

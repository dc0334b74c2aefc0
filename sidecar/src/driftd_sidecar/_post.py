"""The post: one batch of the outbox at a time becomes one request, and the answer decides what becomes of the batch."""

import json
import random
from collections.abc import Callable

from driftd_sidecar._buffer import Buffer
from driftd_sidecar._kind import Kind
from driftd_sidecar._notices import Notices
from driftd_sidecar._outbox import REPLACED, Batch, Outbox
from driftd_sidecar._pace import Pace
from driftd_sidecar._request import Target, detail, headers_of, in_force
from driftd_sidecar._retry import Delivered, Retry, decide
from driftd_sidecar._spool import Frame
from driftd_sidecar._transport import Response, Transport

_CONFLICT = 409


class Post:
    """Sends what is due, each kind of batch in its order and at its pace. Only the thread of the logger may use it.

    `replaced` is told of a baseline that counts were refused for, by the fingerprint of the one in force; None where
    nothing is counted.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        buffer: Buffer,
        transport: Transport,
        target: Target,
        timeout_seconds: float,
        notices: Notices,
        rng: random.Random,
        monotonic: Callable[[], float],
        wall_ns: Callable[[], int],
        replaced: Callable[[str | None], None] | None,
    ) -> None:
        self._outbox = outbox
        self._buffer = buffer
        self._transport = transport
        self._target = target
        self._timeout = timeout_seconds
        self._notices = notices
        self._rng = rng
        self._monotonic = monotonic
        self._wall_ns = wall_ns
        self._replaced = replaced
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """A child makes its own experience."""
        self._paces = {kind: Pace() for kind in Kind}

    @property
    def failing(self) -> list[Kind]:
        """The kinds that the daemon does not take now."""
        return [kind for kind, pace in self._paces.items() if pace.failures]

    @property
    def next_attempt(self) -> float | None:
        """When something is due, in monotonic seconds; None: nothing waits."""
        return min((self._paces[head.kind].not_before for head in self._outbox.heads), default=None)

    def hurry(self) -> None:
        """Somebody waits."""
        for pace in self._paces.values():
            pace.hurry()

    def send_one(self, now: float) -> None:
        """Sends the oldest of what is due at `now`, if anything is."""
        due = [head for head in self._outbox.heads if now >= self._paces[head.kind].not_before]
        if due:
            self._attempt(min(due, key=lambda batch: batch.number))

    def _attempt(self, batch: Batch) -> None:
        frame = self._outbox.frame(batch)
        if frame is None:
            return
        pace = self._paces[batch.kind]
        response = self._send(frame)
        body = b"" if response is None else response.body
        decision = decide(
            None if response is None else response.status,
            {} if response is None else response.headers,
            body,
            attempt=pace.failures,
            jitter=self._rng.random(),
            now_seconds=self._wall_ns() / 1e9,
        )
        if isinstance(decision, Retry):
            self._put_off(pace, decision, response)
            return
        pace.settled()
        if isinstance(decision, Delivered):
            self._outbox.delivered(batch, self._rejected(body, frame))
        else:
            self._refused(batch, decision.reason, response)

    def _send(self, frame: Frame) -> Response | None:
        headers = headers_of(frame, self._target, self._wall_ns())
        try:
            response = self._transport.send(self._target.url(frame.kind), frame.body, headers, self._timeout)
        except Exception as error:  # a transport may fail in any way; each means: no answer
            self._notices.once(
                "no answer", "the daemon does not answer, rows are kept: %s", type(error).__name__
            )
            return None
        for pace in self._paces.values():
            pace.reached()
        return response

    def _put_off(self, pace: Pace, retry: Retry, response: Response | None) -> None:
        self._buffer.count_retry()
        now = self._monotonic()
        if response is None:
            for each in self._paces.values():
                each.silent(retry, now)
            return
        pace.failed(retry, now)
        self._notices.once(
            f"retry {response.status}",
            "the daemon acknowledges nothing, rows are kept: HTTP %d",
            response.status,
        )

    def _refused(self, batch: Batch, reason: str, response: Response | None) -> None:
        if self._replaced is None or response is None or response.status != _CONFLICT:
            self._outbox.give_up(batch, reason, "" if response is None else detail(response.body))
            return
        self._outbox.give_up(batch, REPLACED)
        self._replaced(in_force(response.body))

    def _rejected(self, body: bytes, frame: Frame) -> int:
        try:
            reply = json.loads(body)
            rejected = min(frame.rows, max(0, int(reply["rejected"])))
        except (ValueError, TypeError, KeyError):
            return 0
        if rejected:
            self._notices.once(
                f"rejected {frame.kind}",
                "the daemon rejected %d %s: %.200s",
                rejected,
                frame.kind.unit,
                reply.get("errors"),
            )
        return rejected

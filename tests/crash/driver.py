"""`driftd`, with one place in it where it dies as kill -9 would have it: `driver.py POINT NTH serve --config …`.

The daemon itself has no switch for this: here its functions are wrapped before it is started.
"""

import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

Moment = Literal["inside", "before commit", "after commit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """In or around the transaction in which `function` (of `module`, perhaps of a class there) is called."""

    module: str
    function: str
    moment: Moment


def _around(name: str, module: str, function: str) -> dict[str, Point]:
    moments: tuple[Moment, ...] = ("inside", "before commit", "after commit")
    return {f"{name}: {moment}": Point(module=module, function=function, moment=moment) for moment in moments}


INGEST: Final = {
    **_around("ingest", "storage.batches", "append"),
    **_around("fold", "storage.panes", "upsert"),
}
RETENTION: Final = _around("retention", "storage.retention", "thin_payloads")
ROLL_UP: Final = _around("roll-up", "storage.panes", "mark_rolled")
REFOLD: Final = _around("re-fold", "storage.batches", "mark_refolded")
SCORING: Final = _around("score", "storage.performances", "add")
LABELLING: Final = _around("label", "storage.labels", "put")
MIGRATION: Final = _around("migration", "storage.schema", "upgrade")
DELIVERY: Final = {
    **_around("decide", "storage.outbox", "add"),
    **_around("claim", "storage.outbox", "claim_due"),
    "sent, not marked": Point(module="alerts.transport", function="HttpTransport.send", moment="inside"),
    **_around("mark", "storage.outbox", "finish"),
}
NOWHERE: Final = "nowhere"
POINTS: Final[Mapping[str, Point]] = (
    INGEST | ROLL_UP | REFOLD | SCORING | LABELLING | RETENTION | MIGRATION | DELIVERY
)


class Death:
    """Comes at the `nth` time."""

    def __init__(self, point: Point, nth: int) -> None:
        self._point, self._left, self._armed = point, nth, False

    def lay(self) -> None:
        """Wrap the function of the point, and every COMMIT."""
        from sqlalchemy.engine import Transaction

        *path, name = self._point.function.split(".")
        place: Any = importlib.import_module(self._point.module)
        for part in path:
            place = getattr(place, part)
        setattr(place, name, self._inside(getattr(place, name)))
        if self._point.moment != "inside":
            setattr(Transaction, "commit", self._commit(Transaction.commit))  # noqa: B010  # mypy forbids to assign it

    def _inside(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            # Looking for work that is not there is no moment to die at.
            if result is None or result:
                self._left -= 1
                self._armed = self._left <= 0
                if self._armed and self._point.moment == "inside":
                    die()
            return result

        return wrapped

    def _commit(self, commit: Callable[[Any], None]) -> Callable[[Any], None]:
        def wrapped(transaction: Any) -> None:
            if self._armed and self._point.moment == "before commit":
                die()
            commit(transaction)
            if self._armed:
                die()

        return wrapped


def die() -> None:
    """No handler, no flush, no goodbye."""
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Lay the trap and be driftd."""
    gc.disable()  # as `driftd serve` does while it imports
    point, nth, *arguments = sys.argv[1:]
    from monitor import app, facts, storagewatch
    from monitor.cli import main as driftd

    # Finals, whose lengths are of no matter here, but of how long a test takes.
    for place, name, value in (
        (app, "RETENTION_INTERVAL", timedelta(seconds=0.2)),
        (app, "TICK", timedelta(seconds=0.1)),
        (facts, "FACTS_SECONDS", 0.0),
        (storagewatch, "FAILING_AFTER", timedelta(seconds=0.5)),
        (storagewatch, "WHOLE_AFTER", timedelta(seconds=1)),
    ):
        setattr(place, name, value)
    if point != NOWHERE:
        Death(POINTS[point], int(nth)).lay()
    sys.argv = ["driftd", *arguments]
    driftd()


if __name__ == "__main__":
    main()

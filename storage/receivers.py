"""What is known of each receiver as a destination: whether it is on hold, and whether it is broken."""

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select, update

from storage.rows import many, one
from storage.tables import receiver_states
from storage.upsert import upsert


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverState:
    """`hold_until`: nothing is claimed for it before then. `broken_since`: its endpoint said that it is gone.

    Broken with a `hold_until` means that it is tried again after that; broken without one, that it waits for an
    operator or a changed configuration.
    """

    receiver: str
    broken_since: datetime | None = None
    hold_until: datetime | None = None
    reason: str | None = None


def get(conn: Connection, receiver: str) -> ReceiverState:
    """The state of one receiver; all None if nothing was ever noted."""
    return one(
        conn, select(receiver_states).where(receiver_states.c.receiver == receiver), ReceiverState
    ) or ReceiverState(receiver=receiver)


_ALL = select(receiver_states).order_by(receiver_states.c.receiver)


def list_states(conn: Connection) -> list[ReceiverState]:
    """Every receiver that has a state, by name."""
    return many(conn, _ALL, ReceiverState)


def put(conn: Connection, state: ReceiverState) -> None:
    """Write the state of one receiver, whatever it was."""
    upsert(conn, receiver_states, [asdict(state)], update=("broken_since", "hold_until", "reason"))


def try_again(conn: Connection, *, at: datetime) -> None:
    """Let every broken receiver be tried once more from `at` on: a success makes it whole."""
    broken = receiver_states.c.broken_since.is_not(None) & receiver_states.c.hold_until.is_(None)
    conn.execute(update(receiver_states).where(broken).values(hold_until=at))


def clear(conn: Connection, receiver: str) -> bool:
    """Forget hold and breakage; False if there was nothing to forget."""
    return conn.execute(delete(receiver_states).where(receiver_states.c.receiver == receiver)).rowcount == 1

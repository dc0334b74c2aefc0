"""One act of an operator: what is written and its audit entry, in one transaction."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from monitor.app import Service
from monitor.operations.errors import Conflicting, Invalid, NotKnown
from storage.engine import Connection
from storage.errors import Immutable, NotFound
from storage.operations import AuditEntry, record_audit

T = TypeVar("T")

LONGEST_TEXT = 2000


def perform(
    service: Service,
    write: Callable[[Connection], T],
    *,
    actor: str,
    action: str,
    target: Callable[[T], str],
    detail: Mapping[str, Any],
) -> T:
    """Run `write` and record it; its result. StorageError where nothing could be committed.

    `target` names in the audit trail what was acted on, from the result: an id may not exist before.
    """

    def both(conn: Connection) -> T:
        done = write(conn)
        entry = AuditEntry(
            at=service.clock.now(), actor=actor, action=action, target=target(done), detail=dict(detail)
        )
        record_audit(conn, entry)
        return done

    try:
        return service.database.write(both).result()
    except NotFound as error:
        raise NotKnown(str(error)) from None
    except Immutable as error:
        raise Conflicting(str(error)) from None


def speak(service: Service, conn: Connection) -> None:
    """Plan anew what every group has to say, after an act that mutes or unmutes."""
    now = service.clock.now()
    service.notifier.announce(conn, service.notifier.groups_to_watch(conn, now), now)


def text(name: str, value: str, *, required: bool = False) -> str:
    """An operator's words: bounded, and without what no terminal or database should be given."""
    value = value.strip()
    if required and not value:
        raise Invalid(f"{name}: say something", f"/{name}")
    if len(value) > LONGEST_TEXT:
        raise Invalid(f"{name}: at most {LONGEST_TEXT} characters", f"/{name}")
    if any(ord(c) < 32 and c not in "\n\t" for c in value) or any(0xD800 <= ord(c) < 0xE000 for c in value):
        raise Invalid(f"{name}: control characters and lone surrogates are not text", f"/{name}")
    return value

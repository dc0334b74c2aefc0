"""Silences: what nobody wants to hear of, for a time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from alerts.errors import AlertError
from alerts.identity import LABELS
from alerts.routing import Matcher, parse_matcher
from alerts.silences import Silence
from alerts.times import rfc3339
from monitor.app import Service
from monitor.operations.acts import perform, speak, text
from monitor.operations.errors import Conflicting, Invalid
from storage import silences
from storage.engine import Connection
from storage.silences import SilenceRow

LONGEST: Final = timedelta(days=366)
MOST_MATCHERS: Final = 20

State = Literal["pending", "active", "expired"]


def add_silence(
    service: Service,
    matchers: Sequence[str],
    *,
    starts_at: datetime | None = None,
    ends_at: datetime,
    author: str,
    comment: str = "",
    actor: str,
) -> SilenceRow:
    """Mute what matches all `matchers` (texts such as `model="a"`) until `ends_at`, from now on if not said else."""
    author, comment = text("author", author, required=True), text("comment", comment)
    now = service.clock.now()
    parsed = _parsed(matchers)
    starts_at = now if starts_at is None else starts_at
    _check_span(starts_at, ends_at, now)
    try:
        Silence(
            id="new",
            matchers=tuple(parsed),
            starts_at=starts_at,
            ends_at=ends_at,
            author=author,
            comment=comment,
        )
    except AlertError as error:
        raise Invalid(str(error), "/matchers") from None

    def write(conn: Connection) -> SilenceRow:
        silence_id = silences.add(
            conn,
            matchers=[{"name": m.name, "op": m.op.value, "value": m.value} for m in parsed],
            starts_at=starts_at,
            ends_at=ends_at,
            author=author,
            comment=comment,
            now=now,
        )
        speak(service, conn)
        return silences.get(conn, silence_id)

    return perform(
        service,
        write,
        actor=actor,
        action="silence.add",
        target=lambda row: f"silence/{row.id}",
        detail={
            "matchers": [str(m) for m in parsed],
            "ends_at": rfc3339(ends_at),
            "author": author,
            "comment": comment,
        },
    )


def expire_silence(service: Service, silence_id: int, *, actor: str) -> SilenceRow:
    """End a silence now. NotKnown; Conflicting where it has ended already."""
    now = service.clock.now()

    def write(conn: Connection) -> SilenceRow:
        if not silences.expire(conn, silence_id, now=now):
            raise Conflicting(f"silence {silence_id} has ended already")
        speak(service, conn)
        return silences.get(conn, silence_id)

    return perform(
        service,
        write,
        actor=actor,
        action="silence.expire",
        target=lambda _: f"silence/{silence_id}",
        detail={},
    )


def list_silences(service: Service, *, limit: int = 100) -> list[SilenceRow]:
    """All silences, ended ones too, newest first."""
    with service.database.read() as conn:
        return silences.list_silences(conn, limit=limit)


def state_of(row: SilenceRow, now: datetime) -> State:
    """Whether a silence mutes at `now`, will, or no longer does."""
    if row.expired_at is not None or row.ends_at <= now:
        return "expired"
    return "pending" if row.starts_at > now else "active"


def _parsed(texts: Sequence[str]) -> list[Matcher]:
    if not 1 <= len(texts) <= MOST_MATCHERS:
        raise Invalid(
            f'matchers: give 1 to {MOST_MATCHERS}, such as model="fraud" or column=~"amount.*"', "/matchers"
        )
    parsed = []
    for position, given in enumerate(texts):
        pointer = f"/matchers/{position}"
        try:
            matcher = parse_matcher(text("matchers", given))
        except AlertError as error:
            raise Invalid(str(error), pointer) from None
        if matcher.name not in LABELS:
            raise Invalid(
                f"matchers: no alert has a label {matcher.name!r}; they are {', '.join(LABELS)}", pointer
            )
        parsed.append(matcher)
    return parsed


def _check_span(starts_at: datetime, ends_at: datetime, now: datetime) -> None:
    if ends_at <= max(starts_at, now):
        raise Invalid("ends_at: a silence ends after it has begun, and not in the past", "/ends_at")
    if ends_at - starts_at > LONGEST:
        raise Invalid(
            f"ends_at: a silence lasts at most {LONGEST.days} days; what is normal now is accepted",
            "/ends_at",
        )

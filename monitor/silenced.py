"""Stored silences, as the matching code knows them."""

from alerts.routing import Matcher, MatchOp
from alerts.silences import Silence
from storage.silences import SilenceRow


def silence_of(row: SilenceRow) -> Silence:
    """A stored silence, as the matching code knows it."""
    return Silence(
        id=str(row.id),
        matchers=tuple(Matcher(m["name"], MatchOp(m["op"]), m["value"]) for m in row.matchers),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        author=row.author,
        comment=row.comment,
    )

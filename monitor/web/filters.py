"""How values become text in the templates: names from outside, addresses, and times."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from alerts.times import rfc3339

COLUMN_PARAMETER: Final = "column"
_AGO: Final = ((172_800, 86_400, "d"), (5_400, 3_600, "h"), (90, 60, "min"), (0, 1, "s"))
"""From how many seconds on a unit is used, and its length."""
_BREAKS: Final = re.compile(r"([_./:\-])(?=\w)")


def name(text: object) -> Markup:
    """A name or a sentence from outside: set apart from the direction of the page, and broken at its own joints."""
    return Markup("<bdi>{}</bdi>").format(  # `format` escapes what it is given
        Markup(_BREAKS.sub(r"\1<wbr>", str(escape(text))))  # noqa: S704  # escaped; entities hold none of the joints
    )


def part(text: object) -> str:
    """One segment of a path, or one value of a query: nothing in it means anything to the URL."""
    return quote(str(text), safe="")


def column_of(column: str, model: str, version: str, window: int | None = None, segment: str = "") -> str:
    """The address of a column's page. Browsers swallow the segments `.` and `..`: such a name goes into the query."""
    query: dict[str, Any] = {"version": version} if version else {}
    if segment:
        query["segment"] = segment
    if window is not None:
        query["window"] = window
    place = part(column)
    if column in ("", ".", ".."):
        place, query = "", {COLUMN_PARAMETER: column, **query}
    return f"/models/{part(model)}/columns/{place}{_ending(query)}"


def model_of(model: str, version: str = "", segment: str = "") -> str:
    """The address of a model's page, or of one of its segments."""
    query = {name: value for name, value in (("version", version), ("segment", segment)) if value}
    return f"/models/{part(model)}{_ending(query)}"


def _ending(query: Mapping[str, Any]) -> str:
    return f"?{urlencode(query, quote_via=quote, safe='')}" if query else ""


def minute(instant: datetime) -> Markup:
    """An instant to the minute."""
    shown = instant.strftime("%Y-%m-%d %H:%M")
    return Markup('<time datetime="{}">{}</time>').format(rfc3339(instant.replace(microsecond=0)), shown)


@pass_context
def when(context: Context, instant: datetime) -> Markup:
    """An instant to the minute, and how long ago that was; nothing of the latter for one still to come."""
    past = _past(context, instant)
    return minute(instant) + (f" ({past} ago)" if past else "")


@pass_context
def ago(context: Context, instant: datetime, ended: str = "") -> Markup:
    """The same for lists, where the eye looks for how long; `ended` says how, of what is over."""
    past = _past(context, instant)
    return Markup("{}{}").format(f"{ended} {past} ago · ".lstrip() if past else "", minute(instant))


def _past(context: Context, instant: datetime) -> str:
    seconds = (context["now"] - instant).total_seconds()
    if seconds < 0:
        return ""
    size, unit = next((size, unit) for least, size, unit in _AGO if seconds >= least)
    return f"{int(seconds // size)} {unit}"


def words(state: object) -> str:
    """A stored word as people write it."""
    return str(state).replace("_", " ")


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "name": name,
    "part": part,
    "column_of": column_of,
    "model_of": model_of,
    "minute": minute,
    "when": when,
    "ago": ago,
    "words": words,
}

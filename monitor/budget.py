"""Which versions and segments of a model may page by now, and what part of its budget each of them has."""

from collections.abc import Mapping, Sequence

from alerts.identity import AlertKind, about_values
from monitor.config import ModelSettings
from monitor.ingest.schema import ModelHandle, VersionHandle
from monitor.segments import Segments
from storage import alerts, models
from storage.engine import Connection

TrackKey = tuple[int, str]
"""Baseline id and segment."""


def serving(
    conn: Connection, model: ModelHandle, settings: ModelSettings, evaluated_upto: int | None
) -> list[VersionHandle]:
    """The versions with a baseline that answered within the longest window, or have an alert of their values open."""
    longest = int(settings.windows[-1].total_seconds())
    since = -(2**62) if evaluated_upto is None else evaluated_upto - longest - 3600
    served = {s.version_id for s in models.list_servings(conn, model.model_id, start=since, end=2**62)}
    alerted = {row.version for row in alerts.active(conn, model.name) if about_values(AlertKind(row.kind))}
    return [
        v
        for v in model.versions.values()
        if v.baseline is not None and (v.version_id in served or v.version in alerted)
    ]


def shares(
    answering: Sequence[VersionHandle], segments: Segments, settings: ModelSettings
) -> Mapping[TrackKey, tuple[VersionHandle, float]]:
    """The part of the budget, 0 to 1, of each version and segment; the parts add up to at most 1.

    In equal parts over the versions in production; where there are segments the whole has half of it and the segments
    share the other half.
    """
    paging = [v for v in answering if v.stage == "production"]
    found: dict[TrackKey, tuple[VersionHandle, float]] = {}
    for version in answering:
        assert version.baseline_id is not None
        share = 1.0 / len(paging) if version in paging else 0.0
        known = segments.of(version.baseline_id) if settings.segments else ()
        found[version.baseline_id, ""] = (version, share / 2 if known else share)
        for segment in known:
            found[version.baseline_id, segment] = (version, share / 2 / len(known))
    return found

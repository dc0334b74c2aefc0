"""Coverage: whether the labels of a model still come. A floor without labels pages nobody, however wrong predictions are."""

from collections.abc import Iterator
from typing import Final

from alerts.identity import AlertKind, Severity, alert_labels
from alerts.lifecycle import Condition, LifecycleRule
from alerts.times import for_readers
from detectors.performance import MIN_LABELLED
from monitor.config import ModelSettings
from monitor.ingest.schema import ModelHandle
from monitor.instants import from_seconds
from monitor.liveness import Fact
from monitor.performance import DAY, by_column
from storage import performances
from storage.engine import Connection

USUAL: Final = 30 * DAY
"""How far back labels are looked for, to know that the column is one that has them."""


def missing_labels(
    conn: Connection, model: ModelHandle, settings: ModelSettings, upto: int
) -> Iterator[Fact]:
    """Per column that was labelled in the 30 days before: whether nothing of the last mature day, which ended at `upto`, is.

    Of all versions together, for labels know no versions. While no prediction with a request id matures nothing is known.
    """
    version_ids = [version.version_id for version in model.versions.values()]
    rows = performances.list_rows(conn, version_ids, start=upto - USUAL, end=upto, segment="")
    for column, found in sorted(by_column(rows).items()):
        day = [row for row in found if row.start >= upto - DAY]
        before = sum(row.labelled for row in found if row.start < upto - DAY)
        identified, labelled = sum(row.identified for row in day), sum(row.labelled for row in day)
        if settings.labels_mature_after is None or labelled:
            condition = Condition.FALSE
        elif identified >= MIN_LABELLED and before >= MIN_LABELLED:
            condition = Condition.TRUE
        else:
            condition = Condition.UNKNOWN
        yield Fact(
            labels=alert_labels(AlertKind.LABELS_MISSING, model.name, "", "", column),
            condition=condition,
            rule=LifecycleRule(severity=Severity.WARNING),
            detail={
                "summary": f"{labelled:,} of {identified:,} predictions with a request id, 24 h up to "
                f"{for_readers(from_seconds(upto))}, are labelled, and {before:,} of the 30 days before: has their source "
                "stopped, or do labels come later than labels_mature_after?"
            },
        )

"""Every table of driftd, as SQLAlchemy metadata; `migrations/` makes a database look like this file.

Event time is an int64: `*_ns` are nanoseconds since the epoch (rows), `start`, `boundary` and `upto` are whole
seconds (panes, blocks, evaluations). Wall time is an aware UTC datetime. `segment` is `''` for all rows.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from storage.column_types import BigIntegerKey, SortedJson, UtcDateTime

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    condition = text(where)
    return Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


models = Table(
    "models",
    metadata,
    Column("id", BigIntegerKey, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
)

model_versions = Table(
    "model_versions",
    metadata,
    Column("id", BigIntegerKey, primary_key=True),
    Column("model_id", BigInteger, ForeignKey("models.id"), nullable=False),
    Column("version", Text, nullable=False),
    Column("artefact_sha256", Text),
    Column("run", Text),
    Column("dataset", Text),
    Column("commit", Text),
    Column("stage", Text, nullable=False),
    Column("registered_at", UtcDateTime, nullable=False),
    # No foreign key: baselines refer to versions, and two tables that refer to each other cannot be dropped or
    # restored in any order. `models.set_baseline` checks that the baseline exists and is this version's.
    Column("baseline_id", BigInteger),
    UniqueConstraint("model_id", "version"),
)

servings = Table(
    "servings",
    metadata,
    Column("model_id", BigInteger, ForeignKey("models.id"), primary_key=True),
    Column("version_id", BigInteger, ForeignKey("model_versions.id"), primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("rows", BigInteger, nullable=False),
)

baselines = Table(
    "baselines",
    metadata,
    Column("id", BigIntegerKey, primary_key=True),
    Column("version_id", BigInteger, ForeignKey("model_versions.id"), nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("pane_seconds", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("blob", LargeBinary, nullable=False),
    UniqueConstraint("version_id", "fingerprint"),
)

calibrations = Table(
    "calibrations",
    metadata,
    Column("id", BigIntegerKey, primary_key=True),
    Column("version_id", BigInteger, ForeignKey("model_versions.id"), nullable=False),
    Column("baseline_id", BigInteger, ForeignKey("baselines.id"), nullable=False),
    Column("segment", Text, nullable=False, server_default=text("''")),
    Column("valid_from", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("span_start", BigInteger, nullable=False),
    Column("span_end", BigInteger, nullable=False),
    Column("blob", LargeBinary, nullable=False),
    Index(None, "baseline_id", "segment", "valid_from"),
)

batches = Table(
    "batches",
    metadata,
    Column("id", BigIntegerKey, primary_key=True),
    Column("model_id", BigInteger, ForeignKey("models.id"), nullable=False),
    Column("version_id", BigInteger, ForeignKey("model_versions.id"), nullable=False),
    Column("batch_key", Text, nullable=False),
    Column("body_sha256", Text, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("t_first_ns", BigInteger, nullable=False),
    Column("t_last_ns", BigInteger, nullable=False),
    Column("accepted", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    Column("seen", BigInteger),
    Column("kept", BigInteger),
    Column("dropped", BigInteger),
    Column("sample_rate", Float),
    Column("writer", Text, nullable=False),
    # 0 not yet, 1 counted in panes, 2 set aside because the payload cannot be read.
    Column("folded", Integer, nullable=False),
    # The newest baseline its rows are counted on: what keeps a fold onto the next one from counting them twice.
    Column("folded_on", BigInteger),
    # Beyond the payload's own row, so that retention can add up and choose without touching the blobs' pages:
    # 0 once the payload is gone, and a uniform hash of the batch key that orders the thinning.
    Column("payload_bytes", BigInteger, nullable=False),
    Column("thin_rank", BigInteger, nullable=False),
    UniqueConstraint("model_id", "batch_key"),
    _partial("ix_batches_unfolded", "model_id", "t_first_ns", where="folded = 0"),
    Index("ix_batches_received_at", "received_at"),
    Index("ix_batches_version_id_t_first_ns", "version_id", "t_first_ns"),
    _partial("ix_batches_thinning", "thin_rank", "payload_bytes", where="payload_bytes > 0"),
    # An id is never given out twice, even after retention has emptied the table.
    sqlite_autoincrement=True,
)

payloads = Table(
    "payloads",
    metadata,
    Column(
        "batch_id",
        BigIntegerKey,
        ForeignKey("batches.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("codec", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

event_halves = Table(
    "event_halves",
    metadata,
    Column("model_id", BigInteger, ForeignKey("models.id"), primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("half", Text, nullable=False),
    Column("body_sha256", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("data_bytes", BigInteger, nullable=False),
    Column("lost_at", UtcDateTime),
    Index("ix_event_halves_lost_at_received_at", "lost_at", "received_at"),
)

labels = Table(
    "labels",
    metadata,
    # What a prediction should have been: told by the id of its request, of one column, the last word each.
    Column("model_id", BigInteger, ForeignKey("models.id"), primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("column", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Index("ix_labels_model_id_received_at", "model_id", "received_at"),
    # The key is all there is to look up, so on SQLite it is the table.
    sqlite_with_rowid=False,
)

scorings = Table(
    "scorings",
    metadata,
    # Batches of the model up to this id have met their labels, or were there before labels were asked for.
    Column("model_id", BigIntegerKey, ForeignKey("models.id"), primary_key=True, autoincrement=False),
    Column("after_id", BigInteger, nullable=False),
)

performances = Table(
    "performances",
    metadata,
    Column("version_id", BigInteger, ForeignKey("model_versions.id"), primary_key=True),
    Column("segment", Text, primary_key=True, server_default=text("''")),
    Column("column", Text, primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("identified", BigInteger, nullable=False),
    Column("labelled", BigInteger, nullable=False),
    Column("correct", BigInteger, nullable=False),
    Column("error", Float, nullable=False),
    Column("absolute_error", Float, nullable=False),
    Column("squared_error", Float, nullable=False),
    Column("confident", BigInteger, nullable=False),
    Column("confidence", Float, nullable=False),
    Index("ix_performances_start", "start"),
)

panes = Table(
    "panes",
    metadata,
    # A baseline belongs to one version, so version_id is carried along but is not part of the key.
    Column("baseline_id", BigInteger, ForeignKey("baselines.id"), primary_key=True),
    Column("segment", Text, primary_key=True, server_default=text("''")),
    Column("resolution", Integer, primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("writer", Text, primary_key=True),
    Column("version_id", BigInteger, ForeignKey("model_versions.id"), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("rows_seen", BigInteger, nullable=False),
    Column("profile", LargeBinary, nullable=False),
    # 1 once the pane is part of the next longer one (hour, day): what comes later must be added there as well.
    Column("rolled", Integer, nullable=False),
    Index("ix_panes_resolution_start", "resolution", "start"),
    _partial("ix_panes_unrolled", "writer", "version_id", "start", where="rolled = 0"),
)

blocks = Table(
    "blocks",
    metadata,
    Column("baseline_id", BigInteger, ForeignKey("baselines.id"), primary_key=True),
    Column("segment", Text, primary_key=True, server_default=text("''")),
    Column("length", Integer, primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("writer", Text, primary_key=True),
    Column("version_id", BigInteger, ForeignKey("model_versions.id"), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("events", LargeBinary, nullable=False),
    Column("closed", Boolean, nullable=False),
    Index("ix_blocks_start", "start"),
)

evidence = Table(
    "evidence",
    metadata,
    Column("baseline_id", BigInteger, ForeignKey("baselines.id"), primary_key=True),
    Column("segment", Text, primary_key=True, server_default=text("''")),
    Column("version_id", BigInteger, ForeignKey("model_versions.id"), nullable=False),
    Column("upto", BigInteger, nullable=False),
    Column("state", LargeBinary, nullable=False),
    # The lengths of the columns' blocks and since when they hold: a row is bet on in blocks of one length.
    Column("terms", LargeBinary, nullable=False),
    # What the windows have shown since learning began; NULL where nothing is to be learned.
    Column("peaks", LargeBinary),
    Column("peaks_since", BigInteger),
)

refolds = Table(
    "refolds",
    metadata,
    Column("baseline_id", BigIntegerKey, ForeignKey("baselines.id"), primary_key=True, autoincrement=False),
    Column("version_id", BigInteger, ForeignKey("model_versions.id"), nullable=False),
    Column("start", BigInteger),
    Column("after_id", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("kept_share", Float),
    Column("first", BigInteger),
    Column("last", BigInteger),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
)

cursors = Table(
    "cursors",
    metadata,
    Column("model_id", BigIntegerKey, ForeignKey("models.id"), primary_key=True, autoincrement=False),
    Column("watermark_ns", BigInteger),
    Column("evaluated_upto", BigInteger),
    Column("newest_event_ns", BigInteger),
    Column("last_arrival_at", UtcDateTime),
    Column("busy_since", UtcDateTime),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("baseline_id", BigInteger, ForeignKey("baselines.id"), primary_key=True),
    Column("segment", Text, primary_key=True, server_default=text("''")),
    Column("boundary", BigInteger, primary_key=True),
    Column("version_id", BigInteger, ForeignKey("model_versions.id"), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("states", LargeBinary, nullable=False),
    Column("scores", LargeBinary, nullable=False),
    Index("ix_evaluations_boundary", "boundary"),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", BigIntegerKey, primary_key=True),
    Column("key", Text, nullable=False),
    Column("labels", SortedJson, nullable=False),
    Column("kind", Text, nullable=False),
    Column("group_key", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("segment", Text, nullable=False, server_default=text("''")),
    Column("column", Text, nullable=False, server_default=text("''")),
    Column("severity", Text, nullable=False),
    Column("state", Text, nullable=False),
    # Event time, except `fired_at`: the wall time at which the firing was recorded.
    Column("since", UtcDateTime, nullable=False),
    Column("active_since", UtcDateTime, nullable=False),
    Column("firing_since", UtcDateTime),
    Column("fired_at", UtcDateTime),
    Column("false_since", UtcDateTime),
    Column("last_true", UtcDateTime, nullable=False),
    Column("resolved_at", UtcDateTime),
    Column("resolution", Text),
    Column("detail", SortedJson, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    # At most one open alert per identity; the history of resolved ones has no limit.
    _partial("uq_alerts_open_key", "key", where="state != 'resolved'", unique=True),
    Index("ix_alerts_model_id", "model", "id"),
    Index("ix_alerts_group_key", "group_key"),
)

transitions = Table(
    "transitions",
    metadata,
    Column("id", BigIntegerKey, primary_key=True),
    Column("alert_id", BigInteger, ForeignKey("alerts.id"), nullable=False, index=True),
    Column("from_state", Text, nullable=False),
    Column("to_state", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", SortedJson, nullable=False),
    # What it was decided from, encoded; NULL where no statistic decided it.
    Column("ground", LargeBinary),
    Column("baseline_id", BigInteger, ForeignKey("baselines.id")),
)

acks = Table(
    "acks",
    metadata,
    Column("id", BigIntegerKey, primary_key=True),
    Column("alert_id", BigInteger, ForeignKey("alerts.id"), nullable=False, index=True),
    Column("at", UtcDateTime, nullable=False),
    Column("author", Text, nullable=False),
    Column("comment", Text, nullable=False),
)

notifications = Table(
    "notifications",
    metadata,
    # `seq` is the order of the queue; `id` is what the receiver sees, the same over all retries.
    Column("seq", BigIntegerKey, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("receiver", Text, nullable=False),
    Column("group_key", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("headers", SortedJson, nullable=False),
    Column("alert_ids", SortedJson, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("leased_by", Text),
    Column("leased_until", UtcDateTime),
    # `created_at` is when the oldest news in it, that nobody has received, came up; `written_at` is that of the content.
    Column("created_at", UtcDateTime, nullable=False),
    Column("written_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("reason", Text),
    Index("ix_notifications_receiver_group_key_seq", "receiver", "group_key", "seq"),
    # The due scan must not grow with the history, so it has an index of the undelivered rows alone.
    _partial(
        "ix_notifications_undelivered",
        "receiver",
        "group_key",
        "seq",
        where="status IN ('pending', 'leased')",
    ),
    Index("ix_notifications_created_at", "created_at"),
    sqlite_autoincrement=True,
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", BigIntegerKey, primary_key=True),
    Column(
        "notification_id",
        Text,
        ForeignKey("notifications.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("at", UtcDateTime, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("http_status", Integer),
    Column("detail", Text, nullable=False),
    Column("duration_ms", Integer, nullable=False),
)

receiver_states = Table(
    "receiver_states",
    metadata,
    Column("receiver", Text, primary_key=True),
    Column("broken_since", UtcDateTime),
    Column("hold_until", UtcDateTime),
    Column("reason", Text),
)

silences = Table(
    "silences",
    metadata,
    Column("id", BigIntegerKey, primary_key=True),
    Column("matchers", SortedJson, nullable=False),
    Column("starts_at", UtcDateTime, nullable=False),
    Column("ends_at", UtcDateTime, nullable=False),
    Column("author", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expired_at", UtcDateTime),
)

writers = Table(
    "writers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("lease_until", UtcDateTime, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", BigIntegerKey, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", Text, nullable=False, unique=True),
    Column("scopes", SortedJson, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigIntegerKey, primary_key=True),
    Column("at", UtcDateTime, nullable=False, index=True),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("detail", SortedJson, nullable=False),
)

job_runs = Table(
    "job_runs",
    metadata,
    Column("job", Text, primary_key=True),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("ok", Boolean),
    Column("detail", Text, nullable=False),
)

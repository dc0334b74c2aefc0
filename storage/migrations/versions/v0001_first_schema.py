"""The first schema: every table as it was when driftd was first released.

Written out in full and never imported from `storage.tables`, which moves on while this file stays as it is.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table, parents before children."""
    _alerts()
    _audit()
    _job_runs()
    _models()
    _notifications()
    _receiver_states()
    _silences()
    _tokens()
    _writers()
    _acks()
    _attempts()
    _cursors()
    _model_versions()
    _baselines()
    _batches()
    _event_halves()
    _servings()
    _blocks()
    _calibrations()
    _evaluations()
    _evidence()
    _labels()
    _panes()
    _payloads()
    _performances()
    _refolds()
    _scorings()
    _transitions()


def downgrade() -> None:
    """Refused: a backup is the way back, for dropping tables would drop what they hold."""
    raise NotImplementedError(
        "driftd never downgrades a database: restore a backup made by the older version"
    )


def _alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", KEY, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("group_key", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("segment", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("column", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("active_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("firing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("false_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_true", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
    )
    op.create_index("ix_alerts_group_key", "alerts", ["group_key"], unique=False)
    op.create_index("ix_alerts_model_id", "alerts", ["model", "id"], unique=False)
    op.create_index(
        "uq_alerts_open_key",
        "alerts",
        ["key"],
        unique=True,
        sqlite_where=sa.text("state != 'resolved'"),
        postgresql_where=sa.text("state != 'resolved'"),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", KEY, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_at"), "audit", ["at"], unique=False)


def _job_runs() -> None:
    op.create_table(
        "job_runs",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ok", sa.Boolean(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_job_runs")),
    )


def _models() -> None:
    op.create_table(
        "models",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.UniqueConstraint("name", name=op.f("uq_models_name")),
    )


def _notifications() -> None:
    op.create_table(
        "notifications",
        sa.Column("seq", KEY, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("group_key", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("alert_ids", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("leased_by", sa.Text(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_notifications")),
        sa.UniqueConstraint("id", name=op.f("uq_notifications_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_notifications_created_at", "notifications", ["created_at"], unique=False)
    op.create_index(
        "ix_notifications_receiver_group_key_seq",
        "notifications",
        ["receiver", "group_key", "seq"],
        unique=False,
    )
    op.create_index(
        "ix_notifications_undelivered",
        "notifications",
        ["receiver", "group_key", "seq"],
        unique=False,
        sqlite_where=sa.text("status IN ('pending', 'leased')"),
        postgresql_where=sa.text("status IN ('pending', 'leased')"),
    )


def _receiver_states() -> None:
    op.create_table(
        "receiver_states",
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("broken_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("hold_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("receiver", name=op.f("pk_receiver_states")),
    )


def _silences() -> None:
    op.create_table(
        "silences",
        sa.Column("id", KEY, nullable=False),
        sa.Column("matchers", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expired_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_silences")),
    )


def _tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
    )


def _writers() -> None:
    op.create_table(
        "writers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_writers")),
    )


def _acks() -> None:
    op.create_table(
        "acks",
        sa.Column("id", KEY, nullable=False),
        sa.Column("alert_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name=op.f("fk_acks_alert_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_acks")),
    )
    op.create_index(op.f("ix_acks_alert_id"), "acks", ["alert_id"], unique=False)


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", KEY, nullable=False),
        sa.Column("notification_id", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["notification_id"],
            ["notifications.id"],
            name=op.f("fk_attempts_notification_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
    )
    op.create_index(op.f("ix_attempts_notification_id"), "attempts", ["notification_id"], unique=False)


def _cursors() -> None:
    op.create_table(
        "cursors",
        sa.Column("model_id", KEY, autoincrement=False, nullable=False),
        sa.Column("watermark_ns", sa.BigInteger(), nullable=True),
        sa.Column("evaluated_upto", sa.BigInteger(), nullable=True),
        sa.Column("newest_event_ns", sa.BigInteger(), nullable=True),
        sa.Column("last_arrival_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("busy_since", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_cursors_model_id")),
        sa.PrimaryKeyConstraint("model_id", name=op.f("pk_cursors")),
    )


def _model_versions() -> None:
    op.create_table(
        "model_versions",
        sa.Column("id", KEY, nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("artefact_sha256", sa.Text(), nullable=True),
        sa.Column("run", sa.Text(), nullable=True),
        sa.Column("dataset", sa.Text(), nullable=True),
        sa.Column("commit", sa.Text(), nullable=True),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("baseline_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_model_versions_model_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_versions")),
        sa.UniqueConstraint("model_id", "version", name=op.f("uq_model_versions_model_id_version")),
    )


def _baselines() -> None:
    op.create_table(
        "baselines",
        sa.Column("id", KEY, nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("pane_seconds", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["model_versions.id"], name=op.f("fk_baselines_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_baselines")),
        sa.UniqueConstraint("version_id", "fingerprint", name=op.f("uq_baselines_version_id_fingerprint")),
    )


def _event_halves() -> None:
    op.create_table(
        "event_halves",
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("half", sa.Text(), nullable=False),
        sa.Column("body_sha256", sa.Text(), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("data_bytes", sa.BigInteger(), nullable=False),
        sa.Column("lost_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_event_halves_model_id")),
        sa.PrimaryKeyConstraint("model_id", "event_id", name=op.f("pk_event_halves")),
    )
    op.create_index(
        "ix_event_halves_lost_at_received_at", "event_halves", ["lost_at", "received_at"], unique=False
    )


def _batches() -> None:
    op.create_table(
        "batches",
        sa.Column("id", KEY, nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("batch_key", sa.Text(), nullable=False),
        sa.Column("body_sha256", sa.Text(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("t_first_ns", sa.BigInteger(), nullable=False),
        sa.Column("t_last_ns", sa.BigInteger(), nullable=False),
        sa.Column("accepted", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=True),
        sa.Column("kept", sa.BigInteger(), nullable=True),
        sa.Column("dropped", sa.BigInteger(), nullable=True),
        sa.Column("sample_rate", sa.Float(), nullable=True),
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("folded", sa.Integer(), nullable=False),
        sa.Column("folded_on", sa.BigInteger(), nullable=True),
        sa.Column("payload_bytes", sa.BigInteger(), nullable=False),
        sa.Column("thin_rank", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_batches_model_id")),
        sa.ForeignKeyConstraint(["version_id"], ["model_versions.id"], name=op.f("fk_batches_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
        sa.UniqueConstraint("model_id", "batch_key", name=op.f("uq_batches_model_id_batch_key")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_batches_received_at", "batches", ["received_at"], unique=False)
    op.create_index(
        "ix_batches_thinning",
        "batches",
        ["thin_rank", "payload_bytes"],
        unique=False,
        sqlite_where=sa.text("payload_bytes > 0"),
        postgresql_where=sa.text("payload_bytes > 0"),
    )
    op.create_index(
        "ix_batches_unfolded",
        "batches",
        ["model_id", "t_first_ns"],
        unique=False,
        sqlite_where=sa.text("folded = 0"),
        postgresql_where=sa.text("folded = 0"),
    )
    op.create_index("ix_batches_version_id_t_first_ns", "batches", ["version_id", "t_first_ns"], unique=False)


def _servings() -> None:
    op.create_table(
        "servings",
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_servings_model_id")),
        sa.ForeignKeyConstraint(["version_id"], ["model_versions.id"], name=op.f("fk_servings_version_id")),
        sa.PrimaryKeyConstraint("model_id", "version_id", "start", name=op.f("pk_servings")),
    )


def _blocks() -> None:
    op.create_table(
        "blocks",
        sa.Column("baseline_id", sa.BigInteger(), nullable=False),
        sa.Column("segment", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.LargeBinary(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["baseline_id"], ["baselines.id"], name=op.f("fk_blocks_baseline_id")),
        sa.ForeignKeyConstraint(["version_id"], ["model_versions.id"], name=op.f("fk_blocks_version_id")),
        sa.PrimaryKeyConstraint(
            "baseline_id", "segment", "length", "start", "writer", name=op.f("pk_blocks")
        ),
    )
    op.create_index("ix_blocks_start", "blocks", ["start"], unique=False)


def _calibrations() -> None:
    op.create_table(
        "calibrations",
        sa.Column("id", KEY, nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("baseline_id", sa.BigInteger(), nullable=False),
        sa.Column("segment", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("span_start", sa.BigInteger(), nullable=False),
        sa.Column("span_end", sa.BigInteger(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["baseline_id"], ["baselines.id"], name=op.f("fk_calibrations_baseline_id")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_versions.id"], name=op.f("fk_calibrations_version_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calibrations")),
    )
    op.create_index(
        op.f("ix_calibrations_baseline_id_segment_valid_from"),
        "calibrations",
        ["baseline_id", "segment", "valid_from"],
        unique=False,
    )


def _evaluations() -> None:
    op.create_table(
        "evaluations",
        sa.Column("baseline_id", sa.BigInteger(), nullable=False),
        sa.Column("segment", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("boundary", sa.BigInteger(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("states", sa.LargeBinary(), nullable=False),
        sa.Column("scores", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["baseline_id"], ["baselines.id"], name=op.f("fk_evaluations_baseline_id")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_versions.id"], name=op.f("fk_evaluations_version_id")
        ),
        sa.PrimaryKeyConstraint("baseline_id", "segment", "boundary", name=op.f("pk_evaluations")),
    )
    op.create_index("ix_evaluations_boundary", "evaluations", ["boundary"], unique=False)


def _evidence() -> None:
    op.create_table(
        "evidence",
        sa.Column("baseline_id", sa.BigInteger(), nullable=False),
        sa.Column("segment", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("upto", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("terms", sa.LargeBinary(), nullable=False),
        sa.Column("peaks", sa.LargeBinary(), nullable=True),
        sa.Column("peaks_since", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["baseline_id"], ["baselines.id"], name=op.f("fk_evidence_baseline_id")),
        sa.ForeignKeyConstraint(["version_id"], ["model_versions.id"], name=op.f("fk_evidence_version_id")),
        sa.PrimaryKeyConstraint("baseline_id", "segment", name=op.f("pk_evidence")),
    )


def _panes() -> None:
    op.create_table(
        "panes",
        sa.Column("baseline_id", sa.BigInteger(), nullable=False),
        sa.Column("segment", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("resolution", sa.Integer(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("rows_seen", sa.BigInteger(), nullable=False),
        sa.Column("profile", sa.LargeBinary(), nullable=False),
        sa.Column("rolled", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["baseline_id"], ["baselines.id"], name=op.f("fk_panes_baseline_id")),
        sa.ForeignKeyConstraint(["version_id"], ["model_versions.id"], name=op.f("fk_panes_version_id")),
        sa.PrimaryKeyConstraint(
            "baseline_id", "segment", "resolution", "start", "writer", name=op.f("pk_panes")
        ),
    )
    op.create_index("ix_panes_resolution_start", "panes", ["resolution", "start"], unique=False)
    op.create_index(
        "ix_panes_unrolled",
        "panes",
        ["writer", "version_id", "start"],
        unique=False,
        sqlite_where=sa.text("rolled = 0"),
        postgresql_where=sa.text("rolled = 0"),
    )


def _refolds() -> None:
    op.create_table(
        "refolds",
        sa.Column("baseline_id", KEY, autoincrement=False, nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=True),
        sa.Column("after_id", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("kept_share", sa.Float(), nullable=True),
        sa.Column("first", sa.BigInteger(), nullable=True),
        sa.Column("last", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["baseline_id"], ["baselines.id"], name=op.f("fk_refolds_baseline_id")),
        sa.ForeignKeyConstraint(["version_id"], ["model_versions.id"], name=op.f("fk_refolds_version_id")),
        sa.PrimaryKeyConstraint("baseline_id", name=op.f("pk_refolds")),
    )


def _labels() -> None:
    op.create_table(
        "labels",
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("column", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_labels_model_id")),
        sa.PrimaryKeyConstraint("model_id", "request_id", "column", name=op.f("pk_labels")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_labels_model_id_received_at", "labels", ["model_id", "received_at"])


def _scorings() -> None:
    op.create_table(
        "scorings",
        sa.Column("model_id", KEY, autoincrement=False, nullable=False),
        sa.Column("after_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_scorings_model_id")),
        sa.PrimaryKeyConstraint("model_id", name=op.f("pk_scorings")),
    )


def _performances() -> None:
    op.create_table(
        "performances",
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("segment", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("column", sa.Text(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("identified", sa.BigInteger(), nullable=False),
        sa.Column("labelled", sa.BigInteger(), nullable=False),
        sa.Column("correct", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Float(), nullable=False),
        sa.Column("absolute_error", sa.Float(), nullable=False),
        sa.Column("squared_error", sa.Float(), nullable=False),
        sa.Column("confident", sa.BigInteger(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_versions.id"], name=op.f("fk_performances_version_id")
        ),
        sa.PrimaryKeyConstraint("version_id", "segment", "column", "start", name=op.f("pk_performances")),
    )
    op.create_index("ix_performances_start", "performances", ["start"])


def _payloads() -> None:
    op.create_table(
        "payloads",
        sa.Column("batch_id", KEY, autoincrement=False, nullable=False),
        sa.Column("codec", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batches.id"], name=op.f("fk_payloads_batch_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("batch_id", name=op.f("pk_payloads")),
    )


def _transitions() -> None:
    op.create_table(
        "transitions",
        sa.Column("id", KEY, nullable=False),
        sa.Column("alert_id", sa.BigInteger(), nullable=False),
        sa.Column("from_state", sa.Text(), nullable=False),
        sa.Column("to_state", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("ground", sa.LargeBinary(), nullable=True),
        sa.Column("baseline_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name=op.f("fk_transitions_alert_id")),
        sa.ForeignKeyConstraint(["baseline_id"], ["baselines.id"], name=op.f("fk_transitions_baseline_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transitions")),
    )
    op.create_index(op.f("ix_transitions_alert_id"), "transitions", ["alert_id"], unique=False)

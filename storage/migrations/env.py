"""What alembic runs: the missing migrations on the connection it is given, inside the caller's transaction."""

from alembic import context

from storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite's DDL is transactional, but only where BEGIN is sent by hand, as `storage.sqlite` does.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()

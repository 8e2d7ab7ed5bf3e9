"""Runs the migrations on the connection that `jobs.database.migrate` opened."""

from alembic import context

from jobs.tables import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, transactional_ddl=True
)
with context.begin_transaction():
    context.run_migrations()

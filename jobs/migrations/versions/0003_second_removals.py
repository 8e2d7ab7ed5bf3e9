"""When objects were removed for the first time: they are removed once more, a day later."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column."""
    op.add_column("removals", sa.Column("removed_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    """Drop the column, and the rows of objects that were removed."""
    op.execute("DELETE FROM removals WHERE removed_at IS NOT NULL")
    op.drop_column("removals", "removed_at")

"""A dataset may have a column that says which rows train."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. The datasets that are there have no such column."""
    op.add_column("dataset_versions", sa.Column("split_column", sa.String(), nullable=True))
    op.add_column("dataset_versions", sa.Column("splits", sa.JSON(), nullable=True))
    op.execute("UPDATE dataset_versions SET splits = '{}'")
    with op.batch_alter_table("dataset_versions") as table:
        table.alter_column("splits", existing_type=sa.JSON(), nullable=False)


def downgrade() -> None:
    """Take back. A dataset that has one is left without a word of it, and its file can no longer be read."""
    op.drop_column("dataset_versions", "splits")
    op.drop_column("dataset_versions", "split_column")

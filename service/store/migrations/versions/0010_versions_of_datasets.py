"""A dataset has versions, one for each content, and says what its rows are."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

NAMES = ["name", "path", "digest", "rows", "features", "classes", "label", "source", "created_at"]
datasets = sa.table("datasets", *map(sa.column, NAMES))
versions = sa.table("dataset_versions", *map(sa.column, [*NAMES, "version"]))


def upgrade() -> None:
    """Apply. Each dataset that is there is its own first version."""
    op.create_table(
        "dataset_versions",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("features", sa.Integer(), nullable=False),
        sa.Column("classes", sa.JSON(), nullable=False),
        sa.Column("dtype", sa.String(), nullable=False, server_default="float32"),
        sa.Column("shape", sa.JSON(), nullable=True),
        sa.Column("targets", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("label", sa.String(), nullable=True),
        sa.Column("format", sa.String(), nullable=False, server_default="parquet"),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("profile", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", "version", name="pk_dataset_versions"),
    )
    first = sa.select(*datasets.c, sa.literal(1))
    op.execute(versions.insert().from_select([*NAMES, "version"], first))
    op.drop_table("datasets")


def downgrade() -> None:
    """Take back. The newest version of each dataset stays, with an empty name for a label where it has targets."""
    op.create_table(
        "datasets",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("features", sa.Integer(), nullable=False),
        sa.Column("classes", sa.JSON(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_datasets"),
    )
    other = versions.alias()
    newest = sa.select(sa.func.max(other.c.version)).where(other.c.name == versions.c.name).scalar_subquery()
    columns = [versions.c[name] if name != "label" else sa.func.coalesce(versions.c.label, "") for name in NAMES]
    op.execute(datasets.insert().from_select(NAMES, sa.select(*columns).where(versions.c.version == newest)))
    op.drop_table("dataset_versions")

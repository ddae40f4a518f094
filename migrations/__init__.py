"""The database schema, from empty to head, as Alembic revisions."""

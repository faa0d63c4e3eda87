"""The command `pooler`, which operates PgBouncer on a machine without Juju."""

"""PgBouncer: its configuration files and its console."""

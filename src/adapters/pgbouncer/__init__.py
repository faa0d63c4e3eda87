"""The configuration files and the consoles of PgBouncer."""

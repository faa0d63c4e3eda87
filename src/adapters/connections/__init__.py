"""Connections of the charm's own to PostgreSQL and PgBouncer: login, deadlines, messages of servers."""

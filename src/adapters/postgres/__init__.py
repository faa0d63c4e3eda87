"""PostgreSQL, over psycopg, which is imported on first use: most hooks never reach it."""

from adapters.postgres.databases import PsycopgDatabases

__all__ = ["PsycopgDatabases"]

"""PostgreSQL, over psycopg."""

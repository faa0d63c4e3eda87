"""The environment variables that the command `pooler` reads."""

VARIABLES = {
    "POOLER_HOME": (
        "directory of the state: ~/.local/state/pgbouncer-k8s, for root /var/lib/pgbouncer-k8s"
    ),
    "POOLER_CACHE": (
        "directory of fetched programs: ~/.cache/pgbouncer-k8s, for root /var/cache/pgbouncer-k8s"
    ),
    "PGBOUNCER": "path of the PgBouncer to run, 1.21 or later",
    "PGBOUNCER_EXPORTER": "path of the exporter of `up --metrics` to run",
    "PG_BIN_DIR": "directory with initdb and postgres of PostgreSQL 14 or later",
    "PGPASSWORD": "password of the user in `up --backend`",
    "PGSSLMODE": "sslmode of `up --backend`, if the address has none",
    "PGSSLROOTCERT": "sslrootcert of `up --backend`, if the address has none",
    "NO_COLOR": "set it to any value to turn colours off",
}

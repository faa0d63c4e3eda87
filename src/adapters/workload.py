"""Where PgBouncer is to be found on Juju. Light to import, as are the names of the relations."""

CONTAINER = "pgbouncer"  #: as in metadata.yaml
ROOT = "/var/lib/pgbouncer"

# The memory of the last configuration that was applied in full: written after all else.
APPLIED = f"{ROOT}/applied.json"

"""The names of the endpoints in metadata.yaml. Every hook imports this module, so it imports nothing."""

PEERS = "pgb-peers"
BACKEND = "backend-database"
CLIENTS = "database"
# The endpoints of the interface pgsql.
LEGACY = ("db", "db-admin")
CERTIFICATES = "certificates"
AUTHORITIES = "receive-ca-certs"
METRICS = "metrics-endpoint"
DASHBOARDS = "grafana-dashboard"
LOGGING = "logging"
SLO = "sloth"
OBSERVERS = (METRICS, DASHBOARDS, LOGGING, SLO)
TRACING = "tracing"

# The key in the databags of a unit that is being removed.
LEAVING = "departing"

# On the charm's disk: where the traces of hooks go. The file is there while the relation `tracing` is there.
TRACES = ".traces.json"


def certificates_label(unit: str) -> str:
    """Return the label of the secret of a unit with its certificate and keys."""
    return f"{CERTIFICATES}.{unit.replace('/', '-')}"

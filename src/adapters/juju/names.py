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

# The peer relation that only the charm that this charm replaces needs, and its keys in the databags of PEERS.
UPGRADE = "upgrade"
REFERENCE_APP_KEYS = frozenset(
    {"pgb_dbs_config", "current_port", "readonly_dbs", "leader_hostname", "auth_file", "cfg_file",
     "monitoring_password"}
)  # fmt: skip
REFERENCE_UNIT_KEYS = frozenset(
    {"container_initialised", "pgb_dbs", "userlist_nonce", "auth_file_set", "auth-user"}
)

# On the charm's disk: where the traces of hooks go. The file is there while the relation `tracing` is there.
TRACES = ".traces.json"


def certificates_label(unit: str) -> str:
    """Return the label of the secret of a unit with its certificate and keys."""
    return f"{CERTIFICATES}.{unit.replace('/', '-')}"

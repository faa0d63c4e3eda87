"""Every sentence of the status that the domain and the application decide, with what to do about it.

docs/reference.md has a row for each of them. `domain.failures` has the sentences of errors of adapters.
"""

from domain.problems import Kind, Level

# Options

UNKNOWN_OPTION = Kind(
    Level.BLOCKED,
    "unknown option {name}: there are {known}",
    "remove the option",
)
INVALID_OPTION = Kind(
    Level.BLOCKED,
    "option {name} must be {accepts}, not {value}",
    "set the option to a value that the sentence names; until then the value before stays",
)
INVALID_VALUE = Kind(
    Level.BLOCKED,
    "option {name}: {reason}",
    "correct the text; the sentence names the place in it",
)
USERS_NOT_SUPPORTED = Kind(
    Level.BLOCKED,
    "option overrides: users need PgBouncer {needed} or later: {version} runs here",
    "refresh to an image with that version, or remove `users`. Overrides of databases work",
)
RESET_NOT_SUPPORTED = Kind(
    Level.BLOCKED,
    "option server_reset_query_always needs PgBouncer {needed} or later: {version} runs"
    " here, and works as with false",
    "refresh to an image with that version, or set the option to false. Until then the"
    " option works as false",
)
RESET_IN_MIXED_MODES = Kind(
    Level.BLOCKED,
    "option server_reset_query_always cannot be true while pools in session mode run beside"
    " pools in another mode, and works as with false: set it to false, or give all pools"
    " the same pool_mode",
    "set it to false, or give all pools the mode of `pool_mode`",
)
SYSTEM_USERS_UNREADABLE = Kind(
    Level.BLOCKED,
    "option system-users: the application cannot read {secret}: run `juju grant-secret {secret} {application}`",
    "run the command; if the secret does not exist, set the option to the ID of another secret. Until then the"
    " passwords stay",
)
SYSTEM_USERS_INVALID = Kind(
    Level.BLOCKED,
    "option system-users: {secret} {reason}",
    "correct the secret by `juju update-secret`. Until then the passwords stay",
)
TOO_FEW_CONNECTIONS = Kind(
    Level.BLOCKED,
    "max_db_connections {total} is too few for {units} units: raise it, or remove units",
    "raise the option, or remove units; until then some units serve no clients",
)
TOO_FEW_FOR_READ_ONLY = Kind(
    Level.BLOCKED,
    "max_db_connections {total} is too few for read-only pools of {units} units: {needed}"
    " are needed",
    "raise the option; until then there are no read-only pools",
)
OVER_CAPACITY = Kind(
    Level.ACTIVE,
    "the pools may open {needed} connections and PostgreSQL accepts {capacity}: {cure}"
    " max_connections of PostgreSQL",
    "lower `max_db_connections` to the number in the sentence, or raise PostgreSQL's"
    " `max_connections`. Until then PostgreSQL may refuse connections, and clients wait",
)

# PostgreSQL

NO_BACKEND = Kind(
    Level.BLOCKED,
    "missing relation: backend-database",
    "`juju integrate pgbouncer-k8s:backend-database postgresql-k8s:database`",
)
SETTING_UP_USERS = Kind(
    Level.BLOCKED,
    "backend-database: setting up users in PostgreSQL",
    "wait. If it stays, run `juju debug-log --include pgbouncer-k8s`",
)
POSTGRESQL_SILENT = Kind(
    Level.BLOCKED,
    "PostgreSQL at {endpoints} does not answer: {cure}",
    "check that PostgreSQL runs, and the network. Every hook tries again",
)
VERIFICATION_REQUIRED = Kind(
    Level.BLOCKED,
    "PostgreSQL must be verified, and {reason}: {cure}, or run `{command}`",
    "follow the sentence. Until then no connection to PostgreSQL is made without verification",
)
NOT_VERIFIED = Kind(
    Level.ACTIVE,
    "connections to PostgreSQL are encrypted and not verified, because {reason}: {cure}",
    "give the root by `receive-ca-certs`: see how-to/encrypt.md",
)
SERVER_NOT_VERIFIED = Kind(
    Level.BLOCKED,
    "PostgreSQL at {endpoint} is not verified: {reason}",
    "check that the address leads to PostgreSQL. Let its certificate hold the address, and give its"
    " authority by `receive-ca-certs`. No password was sent. The unit tries again soon",
)
SINGLE_REPLICAS = Kind(
    Level.ACTIVE,
    "PgBouncer {version} verifies a single host of a pool: each process uses one of {count} replicas",
    "refresh to an image with PgBouncer 1.25 or later, which uses every replica",
)
REFERENCE_RUNS = Kind(
    Level.ACTIVE,
    "{units} still run Canonical's charm: applications that come or go wait until every unit is refreshed",
    "go on with the refresh: see how-to/replace.md",
)
AUTH_USER_STAYS = Kind(
    Level.WAITING,
    "superuser {user} of Canonical's charm cannot log in any more, and is still in PostgreSQL: {reason}",
    "see the reason in the sentence. Every hook tries again",
)
STILL_LOGS_IN = Kind(
    Level.BLOCKED,
    "{username} has left and can still log in to PostgreSQL: {reason}",
    "end the transaction that locks the role. Every hook tries again",
)
STILL_IN_POSTGRESQL = Kind(
    Level.WAITING,
    "{username} cannot log in any more, and is still in PostgreSQL: {reason}",
    "see the reason in the sentence. The user has no login and no session",
)

NEXT_AUTH_USER = Kind(
    Level.BLOCKED,
    "passwords of PgBouncer's own users: user {user} goes on to look passwords up: {reason}",
    "do what the rest of the sentence says. Clients log in meanwhile. Every hook tries again",
)
NEXT_AUTH_USER_WAITS = Kind(
    Level.ACTIVE,
    "PgBouncer's own users get new passwords: waiting until PostgreSQL lets in {user}",
    "wait. If it stays, check that `pg_hba.conf` of PostgreSQL has rules for the user. Clients log in meanwhile",
)
NEW_NAMES_WAIT = Kind(
    Level.ACTIVE,
    "clients get new credentials: waiting until PostgreSQL and every unit let in {users}",
    "wait. If it stays, check that `pg_hba.conf` of PostgreSQL has rules for these users. Clients log in"
    " meanwhile",
)
OWN_USERS_CHANGE = Kind(
    Level.ACTIVE,
    "PgBouncer's own users get new passwords: waiting for {units}",
    "wait until these units apply the new passwords. If a unit stays in the sentence, look at its"
    " status, or remove it. Units of an earlier release follow when they are refreshed",
)

# Applications

REFUSED = Kind(
    Level.BLOCKED,
    "{application} (relation {relation}) {reason}",
    "change what the application asks for; the sentence says what is allowed",
)

LEGACY = Kind(
    Level.ACTIVE,
    "{application} (relation {relation}) uses {endpoint}, which is deprecated: relate it to"
    " database if it can",
    "relate the application to `database` if its charm has such an endpoint, and then remove"
    " the relation to `db` or `db-admin`",
)

NO_CERTIFICATE_LOGIN = Kind(
    Level.BLOCKED,
    "{application} (relation {relation}) cannot log in by its certificate, {reason}. Its password works",
    "follow the sentence. See [log in by certificate](how-to/encrypt.md#log-in-by-certificate)",
)

# Certificates

CERTIFICATE_AWAITED = Kind(
    Level.WAITING,
    "certificates: waiting for {authority} to issue a certificate",
    "wait. With manual-tls-certificates sign the request of each unit; else look at the log of"
    " the authority",
)
RENEWAL_AWAITED = Kind(
    Level.ACTIVE,
    "certificates: waiting for {authority} to issue another certificate: that of this unit"
    " expires on {end}",
    "look at the log of the authority. Until that time the unit serves the certificate that it has",
)
CERTIFICATE_EXPIRED = Kind(
    Level.BLOCKED,
    "certificates: the certificate expired on {end} and {authority} has issued no other:"
    " clients that verify it cannot connect",
    "let the authority issue a certificate. The unit still serves the certificate that it has",
)
REQUEST_REFUSED = Kind(
    Level.BLOCKED,
    "certificates: {authority} refuses the request with error {code}: {reason}",
    "change the rules of the authority, or the names in `tls-extra-sans`. A unit that has a"
    " certificate serves it meanwhile",
)
CERTIFICATE_NOT_USED = Kind(
    Level.BLOCKED,
    "certificates: what {authority} issued is not used: {reason}",
    "let the authority issue the certificate again. A unit that has a certificate serves it"
    " meanwhile",
)
ADDRESSES_NOT_SIGNED = Kind(
    Level.ACTIVE,
    "certificates: {authority} signs no IP addresses, so clients cannot verify units at"
    " {addresses}: put a host name that leads there into tls-extra-sans",
    "set `tls-extra-sans` to a host name and let clients use it, or let the authority sign IP"
    " addresses and relate it again",
)
NAMES_NOT_SIGNED = Kind(
    Level.ACTIVE,
    "certificates: the certificate lacks {names}, so clients cannot verify units by these names",
    "let the authority sign all names of the request",
)
NO_ROOT = Kind(
    Level.ACTIVE,
    "certificates: {authority} gave no root, so clients cannot verify its certificates: relate"
    " receive-ca-certs to the application that has the root",
    "`juju integrate pgbouncer-k8s:receive-ca-certs ROOT-AUTHORITY`",
)
AUTHORITIES_NOT_READABLE = Kind(
    Level.BLOCKED,
    "receive-ca-certs: what {application} wrote is not used: {reason}",
    "let the application write certificates in PEM",
)
WAITING_FOR_CLIENTS = Kind(
    Level.WAITING,
    "certificates: waiting until clients know the new authority",
    "wait: the leader tells clients, and then the unit serves the new certificate",
)

# PgBouncer and its container

TOO_OLD = Kind(
    Level.BLOCKED,
    "PgBouncer {version} is too old: {needed} or later is needed",
    "refresh to an image with that version",
)
FEW_FILES = Kind(
    Level.BLOCKED,
    "PgBouncer may open {files} files, enough for {clients} clients of each process: raise"
    " the limit of open files, or lower max_db_connections",
    "raise the container's limit of open files, or lower `max_db_connections`",
)
NO_CONTAINER = Kind(
    Level.WAITING,
    "waiting for the pgbouncer container",
    "wait for Kubernetes: `kubectl describe pod`",
)
NOT_RUNNING = Kind(
    Level.WAITING,
    "waiting for PgBouncer to run",
    "look at `juju ssh --container pgbouncer pgbouncer-k8s/0 /charm/bin/pebble logs`",
)
RESTARTING = Kind(
    Level.WAITING,
    "PgBouncer process {index} does not answer: it is being restarted",
    "wait. If it happens often, refresh to an image with a newer version",
)
RESTART_NEEDED = Kind(
    Level.WAITING,
    "PgBouncer process {index} does not answer: restart it with `pooler up`",
    "run `./pooler up`",
)
VULNERABLE = Kind(
    Level.ACTIVE,
    "PgBouncer {version} has known vulnerabilities, the worst is {cve} ({text}): use an"
    " image with PgBouncer {safe} or later",
    "refresh to an image with PgBouncer 1.26.1 or later",
)

# Metrics

NO_EXPORTER = Kind(
    Level.ACTIVE,
    "Prometheus gets no metrics: the image has no pgbouncer_exporter",
    "refresh to an image with pgbouncer_exporter 0.12 or later. Clients are not affected",
)
OLD_EXPORTER = Kind(
    Level.ACTIVE,
    "pgbouncer_exporter {version} has no metrics of {missing}: use an image with {needed} or later",
    "refresh to an image with pgbouncer_exporter 0.12 or later. Until then panels and alerts about these"
    " metrics have no data",
)
PORT_OF_EXPORTER = Kind(
    Level.ACTIVE,
    "Prometheus gets no metrics of process {index}: listen_port is {port}, the port of its exporter",
    "set `listen_port` to a port outside of 9127 to 9158",
)
EXPORTERS_FAILED = Kind(
    Level.ACTIVE,
    "exporters of metrics did not change: {reason}",
    "see the reason. Every hook tries again. Clients are not affected",
)

# TLS for clients

TLS_REQUIRED = Kind(
    Level.BLOCKED,
    "option client_tls_sslmode is require and there is no relation certificates: no client"
    " can log in over the network",
    "`juju integrate pgbouncer-k8s:certificates self-signed-certificates:certificates`, or"
    " another authority; or set the option to prefer",
)
NO_CERTIFICATE_YET = Kind(
    Level.WAITING,
    "waiting for a certificate: option client_tls_sslmode is require, so no client can log"
    " in over the network",
    "look at the status of the authority. To let clients log in without TLS, set the option"
    " to prefer",
)
TLS_EXPECTED = Kind(
    Level.WAITING,
    "waiting for a certificate: clients expect TLS of every unit, so this unit takes no new"
    " configuration",
    "look at the status of the authority. To end TLS, set `client_tls_sslmode` to disable",
)
NOT_RENEWED = Kind(
    Level.ACTIVE,
    "option client_tls_sslmode is require and there is no relation certificates: the"
    " certificate is served until it expires",
    "relate an authority again, or set the option to prefer, which ends TLS",
)

# Observers

REFUSED_BY_OBSERVER = Kind(
    Level.ACTIVE,
    "{endpoint}: {application} refuses {what}: {reason}",
    "refresh this charm, or the charm of the observer, and report the sentence if it stays. Clients are served,"
    " and what the observer accepts still works",
)
OBSERVER_NOT_READABLE = Kind(
    Level.ACTIVE,
    "{endpoint}: what {application} wrote is not used: {reason}",
    "look at the application that the sentence names. Clients are served",
)
LOGS_NOT_SENT = Kind(
    Level.ACTIVE,
    "logging: log lines are not sent to Loki: {reason}",
    "look at the rest of the sentence. Every hook tries again",
)

# Units and Kubernetes

UNREADABLE = Kind(
    Level.BLOCKED,
    "{what} was written by another release and this release cannot read it: refresh all"
    " units to the same release with `juju refresh {application}`; until then this unit"
    " keeps what it serves",
    "refresh all units to one release: `juju refresh pgbouncer-k8s`. Until then the unit"
    " keeps its configuration",
)
NO_LOAD_BALANCER = Kind(
    Level.WAITING,
    "the load balancer has no address yet: clients keep their endpoints. See `kubectl describe"
    " service {service}`",
    "wait. If it stays, look at the events of the Service, and check that the cluster has a"
    " controller for load balancers",
)
NO_NODE = Kind(
    Level.WAITING,
    "Kubernetes names no node with a ready unit for Service {service}: clients keep their"
    " endpoints",
    "wait until a unit is ready. Every hook looks again",
)
NO_TRUST = Kind(
    Level.ACTIVE,
    "without trust the charm can neither create a Service, nor read nodes, nor limit"
    " evictions: run `juju trust {application} --scope=cluster`",
    "run the command in the sentence, or see [what works without"
    " trust](how-to/expose.md#without-trust)",
)
REFRESH_WAITS = Kind(
    Level.WAITING,
    "a refresh may wait for this unit: {reason}. If it stays, run `{command}`",
    "see the reason. Every hook tries again. If the action fails, too, [lower the partition by"
    " `kubectl`](how-to/refresh.md#when-kubernetes-does-not-answer)",
)
NO_CONFIGURATION = Kind(
    Level.WAITING,
    "waiting for the leader's configuration",
    "wait",
)
NO_SHARE_YET = Kind(
    Level.WAITING,
    "waiting for other units to give up connections",
    "wait until transactions, or sessions, end. `./pooler top` or `show pools` shows whose",
)

KINDS = tuple(value for value in dict(globals()).values() if isinstance(value, Kind))

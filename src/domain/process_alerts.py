"""The alerts on the processes of PgBouncer, and on what Prometheus knows of them."""

from domain.rules import Alert

_MINUTE, _HOUR = 60, 3600

# Labels that differ between the processes of a unit.
PROCESS = "instance, job, process"

# Since PgBouncer 1.24 the clients of a single user or database get at most three quarters of a process.
# The alert fires at 80 % of these.
SLOTS = 0.6
BUSY = 0.9
RESTARTS = 2
# The kernel spreads connections at random: 100 clients at two processes are 75 and 25 once in 3 million times.
UNEVEN, UNEVEN_CLIENTS = 3, 50

_WHICH = "process {{ $labels.process }} of unit {{ $labels.juju_unit }}"

DOWN = Alert(
    name="PgBouncerDown",
    expression="max without (instance, job) (pgbouncer_up) == 0",
    seconds=_MINUTE,
    severity="critical",
    summary="A PgBouncer process does not answer",
    description=f"PgBouncer does not answer the exporter: {_WHICH}. Its clients cannot connect.",
    meaning="The exporter runs, and a PgBouncer process does not answer it. Clients that the kernel sends to"
    " this process cannot connect.",
    steps=(
        "Read the status of the unit: `juju status`, or `./pooler status`.",
        "Read the log of the process: `juju ssh --container pgbouncer UNIT /charm/bin/pebble logs pgbouncer-0`, or"
        " `./pooler logs`.",
        "If the process runs and does not answer, PgBouncer is killed and started again by its check"
        " within half a minute.",
    ),
)

RESTART_LOOP = Alert(
    name="PgBouncerRestartLoop",
    expression="max without (instance, job)"
    f" (changes(pgbouncer_process_start_time_seconds[15m])) > {RESTARTS}",
    seconds=0,
    severity="critical",
    summary="A PgBouncer process restarts again and again",
    description=f"PgBouncer started {{{{ $value }}}} times in 15 minutes: {_WHICH}. Each time its"
    " clients lose their connections.",
    meaning="A PgBouncer process has started more than twice in 15 minutes. Each end of the process closes the"
    " connections of its clients.",
    steps=(
        "Read the last lines before each start in the log: a `FATAL` line of PgBouncer, or nothing, if the"
        " process was killed.",
        "`kubectl describe pod` shows whether the container was killed because it has used its memory.",
        "If PgBouncer is older than 1.26.1, use an image with a later release: a packet of a client can end"
        " older releases. See SECURITY.md.",
    ),
)

CLIENT_SLOTS = Alert(
    name="PgBouncerClientSlots",
    expression=f"max without ({PROCESS})"
    f" (pgbouncer_used_clients / pgbouncer_config_max_client_connections) > {SLOTS}",
    seconds=5 * _MINUTE,
    severity="warning",
    summary="A process soon refuses clients",
    description="{{ $value | humanizePercentage }} of the client connections of a process of unit"
    " {{ $labels.juju_unit }} are in use. Clients of a single user or database are refused at 75 %,"
    " all clients at 100 %.",
    meaning="A process has more clients than 60 % of `max_client_conn`. PgBouncer 1.24 and later refuses further"
    " clients of a user or a database at 75 %, and every PgBouncer refuses all clients at 100 %.",
    steps=(
        "Find the application that opens connections and does not close them: `./pooler top --all`, or"
        " `SHOW CLIENTS` in the console.",
        "Limit the connection pool of the application, or set `client_idle_timeout`.",
        "Add a unit.",
        "`max_client_conn` is 10,000, or less if the process may open fewer files: then raise the limit of"
        " open files of the container.",
    ),
)

ONE_CORE = Alert(
    name="PgBouncerOneCore",
    expression="max without (instance, job)"
    f" (rate(pgbouncer_process_cpu_seconds_total[5m])) > {BUSY}",
    seconds=10 * _MINUTE,
    severity="warning",
    summary="A PgBouncer process uses a whole processor",
    description=f"The {_WHICH} uses {{{{ $value | humanizePercentage }}}} of a processor. PgBouncer has a single"
    " thread, so its clients get slower.",
    meaning="A PgBouncer process has a single thread. For ten minutes this process has used a whole processor, and"
    " every query waits for it.",
    steps=(
        "Give the container more processors: a unit runs a process for each processor.",
        "Add a unit.",
        "Look for clients that connect for every query: a login with SCRAM and TLS costs more than a query.",
    ),
)


def _of_unit(operator: str) -> str:
    return f"{operator} without ({PROCESS}) (pgbouncer_used_clients)"


IMBALANCE = Alert(
    name="PgBouncerImbalance",
    expression=(
        f"{_of_unit('max')} > {UNEVEN} * {_of_unit('min')}\n"
        f"and {_of_unit('max')} - {_of_unit('min')} > {UNEVEN_CLIENTS}"
    ),
    seconds=15 * _MINUTE,
    severity="info",
    summary="A process has most of the clients of its unit",
    description="A process of unit {{ $labels.juju_unit }} has {{ $value }} clients, more than"
    f" {UNEVEN} times as many as another process of the unit. The processes share the connections to"
    " PostgreSQL evenly.",
    meaning="The kernel spreads new connections at random and evenly, but connections that stay open"
    " are not moved: a"
    " process that has restarted has few clients. The processes of a unit share its connections to PostgreSQL"
    " evenly, so clients wait at a process while another has free connections.",
    steps=(
        "Let the applications open their connections again, for example by a restart, or by a maximal"
        " lifetime in their connection pool.",
        "Clients that connect by a Unix socket reach a single process: use the network.",
    ),
)

VERSION_SKEW = Alert(
    name="PgBouncerVersionSkew",
    expression="count without (juju_unit, instance, job, process, version)"
    " (group without (juju_unit, instance, job, process) (pgbouncer_version_info)) > 1",
    seconds=_HOUR,
    severity="warning",
    summary="The processes run different versions of PgBouncer",
    description="The processes of {{ $labels.juju_application }} have run {{ $value }} versions of"
    " PgBouncer for an"
    " hour.",
    meaning="The processes of the application run different versions of PgBouncer. During a refresh"
    " this is normal; an"
    " hour later a unit has not been refreshed, or could not start.",
    steps=(
        "Read the version of each unit: `pgbouncer_version_info`, or `juju status`.",
        "Finish the refresh, or bring the application back to a single image.",
    ),
)

# These rules have the names and thresholds that charms for Prometheus send.
HOST_DOWN = Alert(
    name="HostDown",
    expression="up < 1",
    seconds=5 * _MINUTE,
    severity="critical",
    summary="Prometheus cannot read the metrics of a process",
    description="The exporter of process {{ $labels.process }} of unit {{ $labels.juju_unit }} does not answer"
    " Prometheus at {{ $labels.instance }}.",
    meaning="Prometheus gets no answer from an exporter: the unit is gone, or its network, or the"
    " exporter does not"
    " run. PgBouncer may run without it.",
    steps=(
        "Read the status of the unit: `juju status` names an exporter that is missing in the image.",
        "If the unit is active, look at the log of the exporter:"
        " `juju ssh --container pgbouncer UNIT /charm/bin/pebble logs exporter-0`.",
    ),
)
HOST_METRICS_MISSING = Alert(
    name="HostMetricsMissing",
    expression="absent(up)",
    seconds=5 * _MINUTE,
    severity="warning",
    summary="Prometheus knows no process of the application",
    description="Prometheus reads metrics of no process of {{ $labels.juju_application }}.",
    meaning="Prometheus has no process of the application among its targets. None of the other"
    " alerts on metrics can"
    " fire.",
    steps=(
        "Look at the relation `metrics-endpoint`: `juju status --relations`.",
        "Look at the targets of Prometheus for the jobs `pgbouncer-0` and so on.",
    ),
)


PGBOUNCER = (DOWN, RESTART_LOOP, CLIENT_SLOTS, ONE_CORE, IMBALANCE, VERSION_SKEW)
# Charms that Prometheus reads send these with these names.
HOST = (HOST_DOWN, HOST_METRICS_MISSING)

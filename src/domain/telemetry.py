"""What observers such as Prometheus, Grafana and Loki are told, and what they answer."""

from domain.endpoints import Address
from domain.value import Count, Shown, Value


class LogTarget(Value):
    """A Loki unit that gets the log lines of the container."""

    # The name of the Loki unit, e.g. `loki/0`.
    name: str
    # The address to which log lines are pushed.
    url: str


class TelemetryFacts(Value):
    """The relations with observers, as this unit sees them."""

    # Prometheus is related: exporters run, and are scraped.
    metrics: bool = False
    # Grafana is related.
    dashboards: bool = False
    # Sloth is related.
    slo: bool = False
    # Loki is related. It may have no unit with an address yet.
    logs: bool = False
    loki: tuple[LogTarget, ...] = ()
    # The numbers of all of these relations.
    relations: tuple[int, ...] = ()
    # Sentences on what an observer refuses, or wrote and cannot be used. Only the leader reads the answers of
    # applications.
    answers: tuple[Shown, ...] = ()


class ScrapeTarget(Value):
    """A unit whose exporter of a process is scraped."""

    unit: str
    address: Address


class ScrapeJob(Value):
    """What Prometheus scrapes for a process number: its exporter on each unit that runs such a process."""

    process: Count
    port: Count
    # The units that run the process; () if every unit does.
    targets: tuple[ScrapeTarget, ...] = ()


# A group of rules, in the shape of a group in a rule file of Prometheus.
RuleGroup = dict[str, object]


class Told(Value):
    """What the leader tells the observers for the application."""

    jobs: tuple[ScrapeJob, ...] = ()
    metric_rules: tuple[RuleGroup, ...] = ()
    log_rules: tuple[RuleGroup, ...] = ()
    # The JSON of the dashboard for Grafana; {} if Grafana is not related.
    dashboard: dict[str, object] = {}
    # The specifications of service level objectives for Sloth.
    slos: tuple[dict[str, object], ...] = ()

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
    # Grafana is related. Only the leader reads whether Grafana and Sloth are.
    dashboards: bool = False
    slo: bool = False
    # Loki is related. It may have no unit with an address yet.
    logs: bool = False
    loki: tuple[LogTarget, ...] = ()
    # The Loki units that the container sends its log lines to now.
    forwarded: tuple[LogTarget, ...] = ()
    # The labels by which the series of this application are found, with their values.
    labels: tuple[tuple[str, str], ...] = ()
    # The numbers of the relations that the leader writes to.
    relations: tuple[int, ...] = ()
    # Sentences on what an observer refuses, or wrote and cannot be used. Only the leader reads the answers of
    # applications.
    answers: tuple[Shown, ...] = ()

    def measured(self, *, metrics: bool) -> "TelemetryFacts":
        """Return these relations with or without Prometheus."""
        return self.model_copy(update={"metrics": metrics})

    def forwarding(self, targets: tuple[LogTarget, ...]) -> "TelemetryFacts":
        """Return these relations after the container was told to send its log lines to these targets."""
        return self.model_copy(update={"forwarded": targets})


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


# An object that becomes JSON: a group of rules, a dashboard, or a specification of service level objectives.
Document = dict[str, object]


class Told(Value):
    """What the leader tells the observers for the application. What no related observer reads is left out."""

    # The unit with the lowest number, which consumers use as the source of what they are told.
    unit: str
    jobs: tuple[ScrapeJob, ...] = ()
    # Groups in the shape of a rule file of Prometheus or Loki.
    metric_rules: tuple[Document, ...] = ()
    log_rules: tuple[Document, ...] = ()
    # The dashboard as Grafana's JSON; None if Grafana is not related.
    dashboard: Document | None = None
    # Specifications in the format `prometheus/v1` of Sloth.
    slos: tuple[Document, ...] = ()

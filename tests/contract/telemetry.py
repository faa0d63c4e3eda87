"""What the application relies on in the relations with observers."""

from __future__ import annotations

from typing import Protocol

ONE, OTHER = "http://10.2.0.1:3100/loki/api/v1/push", "http://10.2.0.2:3100/loki/api/v1/push"


class Observed(Protocol):
    """A unit with two processes, and its observers."""

    def relate(self, endpoint: str) -> int:
        """Relate an observer, run the hook of the relation, and return its number."""
        ...

    def unrelate(self, number: int) -> None:
        """End a relation, and run its hooks."""
        ...

    def loki(self, number: int, urls: dict[str, str]) -> None:
        """Let exactly these units of Loki write their addresses, and run the hook of the relation."""
        ...

    def lead(self, *, leads: bool) -> None:
        """Let the unit lead, or another unit."""
        ...

    def jobs(self, number: int) -> list[tuple[int, int]]:
        """Return the process and the port of each scrape job that a relation was told."""
        ...

    def address(self) -> str:
        """Return the address that the unit told Prometheus; '' if it told none."""
        ...

    def targets(self) -> dict[str, str]:
        """Return the address of each Loki unit that gets log lines of the unit."""
        ...


JOBS = [(0, 9127), (1, 9128)]


class TelemetryContract:
    """The port `Telemetry`. A subclass has the fixture `observed`."""

    def test_each_prometheus_reads_the_processes_and_the_address_of_the_unit(self, observed):
        first = observed.relate("metrics-endpoint")
        assert (observed.jobs(first), observed.address()) == (JOBS, "10.0.0.1")
        second = observed.relate("metrics-endpoint")
        assert observed.jobs(second) == JOBS
        observed.unrelate(first)
        assert (observed.jobs(second), observed.address()) == (JOBS, "10.0.0.1")

    def test_a_follower_tells_only_its_own_address(self, observed):
        observed.lead(leads=False)
        number = observed.relate("metrics-endpoint")
        assert (observed.jobs(number), observed.address()) == ([], "10.0.0.1")
        observed.lead(leads=True)
        assert observed.jobs(number) == JOBS

    def test_log_lines_go_to_the_units_of_loki_that_are_there(self, observed):
        number = observed.relate("logging")
        assert observed.targets() == {}
        for urls in ({"0": ONE}, {"0": ONE, "1": OTHER}, {"0": OTHER, "1": OTHER}, {"1": ONE}):
            observed.loki(number, urls)
            assert sorted(observed.targets().values()) == sorted(urls.values())
        observed.unrelate(number)
        assert observed.targets() == {}

    def test_log_lines_of_a_follower_go_to_loki_too(self, observed):
        observed.lead(leads=False)
        observed.loki(observed.relate("logging"), {"0": ONE})
        assert list(observed.targets().values()) == [ONE]

"""The actions show and report: what this unit is, and what its processes show."""

import dataclasses

from app.errors import ConsoleFailed
from app.ports import Consoles, FactsSource
from domain.change import next_change
from domain.facts import Facts
from domain.inspection import ProcessView, bundle, sections
from domain.instances import PoolerConfig
from domain.process import Process
from domain.tls_told import plan_to_apply


@dataclasses.dataclass(frozen=True, slots=True)
class Inspect:
    """Asks every console of this unit, and changes nothing. It works on every unit."""

    source: FactsSource
    consoles: Consoles

    def show(self) -> dict[str, str]:
        """Return operations, drift, pools, clients, server connections and statistics, each as a text."""
        facts = self.source.read()
        return sections(facts, self._views(facts), _wanted(facts))

    def report(self) -> dict[str, str]:
        """Return a support bundle by sections, without secrets."""
        facts = self.source.read()
        secrets = _secrets(facts)
        return bundle(facts, self._views(facts), _wanted(facts), secrets)

    def _views(self, facts: Facts) -> tuple[ProcessView, ...]:
        record = facts.container.applied
        return tuple(
            self._view(facts, process) for process in (record.instances if record else ())
        )

    def _view(self, facts: Facts, process: Process) -> ProcessView:
        if facts.auth is None:
            return ProcessView(process=process, failure="PgBouncer has no users yet")
        try:
            with self.consoles.open(process.index, process.port, facts.auth) as console:
                return ProcessView(
                    process=process,
                    settings=tuple(console.settings().items()),
                    paused=console.paused(),
                    databases=console.databases(),
                    pools=console.pools(),
                    sessions=console.sessions(),
                    servers=console.servers(),
                    stats=console.stats(),
                )
        except ConsoleFailed as error:
            return ProcessView(process=process, failure=str(error))


def _wanted(facts: Facts) -> PoolerConfig | None:
    """Return the configuration that the plan decides for this unit."""
    plan, program = plan_to_apply(facts), facts.container.program
    if plan is None or program is None:
        return None
    return next_change(facts, plan, program).config


def _secrets(facts: Facts) -> frozenset[str]:
    """Return every secret that the facts have."""
    auth, login = facts.auth, facts.backend.credentials
    known = [auth.auth_password, auth.stats_password, auth.admin_password] if auth else []
    if auth:
        # While passwords are rotated, there are two of each.
        logins = (*auth.clients, auth.next_auth, auth.former_auth)
        known += [login.password for login in logins if login]
        known += [auth.former_admin_password] if auth.former_admin_password else []
    known += [login.password] if login else []
    return frozenset(secret.get_secret_value() for secret in known)

"""Check the applications: whether each can log in and gets an answer, and whether clients wait."""

from __future__ import annotations

from adapters.connections import ping
from domain.value import number_of
from pooler.checks.explained import explained
from pooler.checks.subject import CLIENT_ERRORS, NO_CREDENTIALS, SLOW, Findings, Results, Subject
from pooler.platform import LocalPlatform
from pooler.survey import Application, Consoles, applications, in_parallel, processes_of, query
from pooler.views.status import Load, load_of
from pooler.views.text import duration

_FOUND = Findings("applications")

# The name of the check whether applications can log in.
LOGIN = "login"

# A client that waits longer than this for a server connection is worth a warning, in seconds.
_LONG_WAIT = 1.0

_PING_SECONDS = 1.0


def check_applications(subject: Subject) -> Results:
    """Check that each application can log in through a unit, and that its clients do not wait long."""
    platform = subject.platform
    if platform is None:
        return
    related = applications(platform)
    if not related:
        yield _FOUND.ok("applications", "none is related: `pooler relate NAME` gives access")
        return
    backend = platform.model.backend.credentials
    places = [(place.host, place.port) for place in backend.endpoints] if backend else []
    if not ping.answers(places, _PING_SECONDS):
        # Each login would only wait for PostgreSQL.
        yield _FOUND.warning(
            LOGIN, "no application was asked, since PostgreSQL does not answer", CLIENT_ERRORS
        )
        return
    states = Consoles().ask(platform, processes_of(platform, platform.in_order()))
    pools = [pool for state in states for pool in state.pools]
    loads = {
        application.user: load_of(pool for pool in pools if pool.user == application.user)
        for application in related
    }
    found = in_parallel(
        lambda application: _login(platform, application, loads[application.user]), related
    )
    for application, results in zip(related, found, strict=True):
        yield from results
        yield from _waits(application, loads[application.user])


def _login(platform: LocalPlatform, application: Application, load: Load) -> Results:
    record, name = application.record, application.name
    if record.told is None or record.password is None:
        return [
            _FOUND.failure(
                "credentials", f"{name} has no credentials yet", NO_CREDENTIALS, "pooler status"
            )
        ]
    serving = [
        (unit.address, unit.serving.port)
        for _, unit in sorted(platform.model.units.items(), key=lambda item: number_of(item[0]))
        if unit.serving
    ]
    if platform.state.paused or not serving:
        return []
    answer = query(platform.store.home, *serving[0], application)
    if not answer.error:
        text = f"{name} logs in and gets an answer after {duration(answer.seconds)}"
        return [_FOUND.ok(LOGIN, text)]
    if answer.late and load.waiting:
        text = f"{name} had {answer.error}: its clients wait for server connections"
        return [_FOUND.warning(LOGIN, text, SLOW, "pooler top")]
    page = explained(answer.error, CLIENT_ERRORS)
    return [_FOUND.failure(LOGIN, f"{name}: {answer.error}", page, "pooler logs")]


def _waits(application: Application, load: Load) -> Results:
    if load.longest_wait > _LONG_WAIT:
        yield _FOUND.warning(
            "waiting",
            f"{load.waiting} clients of {application.name} wait, the first for"
            f" {duration(load.longest_wait)}",
            SLOW,
            "pooler top",
        )

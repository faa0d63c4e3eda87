"""Every sentence about a unit that is true now, for the operator."""

import datetime
from collections.abc import Iterator, Sequence

from domain import operation_sentences, sentences, verification
from domain.capabilities import CERTIFICATE_LOGINS, OLDEST
from domain.capacity import demand
from domain.certificates import certificate_sentences
from domain.exporters import COMPLETE, FIRST_PORT, exporters_of
from domain.facts import Facts
from domain.ini_lines import most_clients
from domain.instances import MIN_CLIENTS
from domain.orders import first_holder, held_by, named, shortened
from domain.overrides import unsupported_by
from domain.own_users import is_changing, units_behind
from domain.planning import certificate_logins
from domain.pools import has_read_only_pools, least_for_read_only_pools
from domain.problems import REFRESH, Level, Problem, Sentence
from domain.reset import reset_problem
from domain.supported import verifies_single_hosts
from domain.tls_told import lacks_pair
from domain.vulnerabilities import warning


def assess(facts: Facts, problems: Sequence[Problem] = ()) -> tuple[Sentence, ...]:
    """Return all sentences about a unit, worst level first, each level in the order of things to do.

    `problems` are those that the last hook met on this unit. If nothing is wrong, the only sentence has
    level active. Its text has the notes for the operator, or is ''.
    """
    asked = tuple(_operations(facts))
    known = (
        *_unreadable(facts),
        *_options(facts),
        *_budget(facts),
        *_backend(facts),
        *verification.problems(facts),
        *_single_replicas(facts),
        *_tls(facts),
        *_container(facts),
        *asked,
        *_refusals(facts),
        *_replaced(facts),
        *_legacy(facts),
        *_certificate_logins(facts),
        *_exporters(facts),
        *_capacity(facts),
        *certificate_sentences(facts),
        *_own_users(facts),
        *_new_names(facts),
        *(Sentence(level=Level.ACTIVE, text=text) for text in facts.telemetry.answers),
        *(
            Sentence(level=problem.level, text=problem.text)
            # A refresh that may wait matters less than what clients notice.
            for problem in sorted((*problems, *facts.ledger.problems), key=_waits_for_refresh)
        ),
    )
    order = list(Level)
    ranked = sorted(known, key=lambda sentence: order.index(sentence.level))
    wrong = tuple(sentence for sentence in ranked if sentence.level is not Level.ACTIVE)
    if wrong:
        return wrong
    # Juju shows a single sentence of the worst level. What an operator asked for comes first.
    rest = (sentence for sentence in ranked if sentence not in asked)
    notes = [sentence.text for sentence in (*asked, *_version(facts), *rest)]
    return (Sentence(level=Level.ACTIVE, text="; ".join(notes)),)


def _waits_for_refresh(problem: Problem) -> bool:
    return problem.topic == REFRESH


def _version(facts: Facts) -> Iterator[Sentence]:
    version = facts.container.version
    if version and (text := warning(version)):
        yield Sentence(level=Level.ACTIVE, text=text)


_SHARED = {
    "plan": "the plan in the peer databag",
    "ledger": "the ledger in the peer databag",
    "secret": "the secret of PgBouncer's own users",
}


def _unreadable(facts: Facts) -> Iterator[Sentence]:
    for name in facts.unreadable:
        yield sentences.UNREADABLE.sentence(what=_SHARED[name], application=facts.application)


def _options(facts: Facts) -> Iterator[Sentence]:
    """Yield the options that are not valid, or that this PgBouncer does not support."""
    texts = [*facts.settings_problems, facts.system_users_problem]
    version = facts.container.version
    if facts.plan and version:
        settings = facts.plan.settings
        texts += [reset_problem(settings, version), *unsupported_by(settings.overrides, version)]
    for text in filter(None, texts):
        yield Sentence(level=Level.BLOCKED, text=text)


def _budget(facts: Facts) -> Iterator[Sentence]:
    """Yield what is wrong with the share of this unit of max_db_connections."""
    plan = facts.plan
    if plan is None or not plan.settings.max_db_connections:
        return
    total, units = plan.settings.max_db_connections, len(plan.members)
    if total < units:
        yield sentences.TOO_FEW_CONNECTIONS.sentence(total=total, units=units)
        return
    if plan.upstream and plan.upstream.read_only and not has_read_only_pools(plan):
        needed = least_for_read_only_pools(plan)
        yield sentences.TOO_FEW_FOR_READ_ONLY.sentence(total=total, units=units, needed=needed)
    if not plan.serves_by(facts.unit):
        yield sentences.NO_SHARE_YET.sentence()


def _backend(facts: Facts) -> Iterator[Sentence]:
    if not facts.backend.related:
        yield sentences.NO_BACKEND.sentence()
    elif facts.backend_ready or facts.ledger.has("database") or facts.unreadable:
        return
    elif facts.backend.problem:
        yield Sentence(level=Level.BLOCKED, text=facts.backend.problem)
    elif facts.backend.credentials is None or verification.verified_login(facts):
        yield sentences.SETTING_UP_USERS.sentence()


def _single_replicas(facts: Facts) -> Iterator[Sentence]:
    """Yield a note if each process uses a single replica, because PgBouncer verifies a single host of a pool."""
    plan, version = facts.plan, facts.container.version
    if plan is None or plan.upstream is None or version is None:
        return
    count = len(plan.upstream.read_only)
    if count > 1 and verifies_single_hosts(plan, version):
        yield sentences.SINGLE_REPLICAS.sentence(version=version, count=count)


def _container(facts: Facts) -> Iterator[Sentence]:
    """Yield the first reason why PgBouncer does not run in the container, or every hung process."""
    version, few = facts.container.version, _too_few_files(facts)
    if not facts.container.reachable:
        yield sentences.NO_CONTAINER.sentence()
    elif version and not facts.supported:
        needed = f"{OLDEST.major}.{OLDEST.minor}"
        yield sentences.TOO_OLD.sentence(version=version, needed=needed)
    elif few:
        yield few
    elif not facts.configured:
        yield sentences.NO_CONFIGURATION.sentence()
    else:
        yield from _processes(facts)


def _tls(facts: Facts) -> Iterator[Sentence]:
    """Yield what is missing for the TLS that the operator requires, or that clients expect."""
    related, kept = facts.certificates.related, facts.certificates.kept
    required = facts.plan is not None and facts.plan.settings.client_tls_sslmode == "require"
    if required and kept:
        if not related:
            yield sentences.NOT_RENEWED.sentence()
    elif required:
        kind = sentences.NO_CERTIFICATE_YET if related else sentences.TLS_REQUIRED
        yield kind.sentence()
    elif lacks_pair(facts):
        yield sentences.TLS_EXPECTED.sentence()


def _processes(facts: Facts) -> Iterator[Sentence]:
    container = facts.container
    if not container.runs and not container.unresponsive:
        yield sentences.NOT_RUNNING.sentence()
    # Processes have pid files only without Pebble, which would restart them.
    alone = facts.layout.with_pid_files
    kind = sentences.RESTART_NEEDED if alone else sentences.RESTARTING
    for index in sorted(container.unresponsive):
        yield kind.sentence(index=index)


def _exporters(facts: Facts) -> Iterator[Sentence]:
    """Yield what metrics Prometheus does not get."""
    known, config = facts.container.exporters, facts.container.applied
    if not facts.telemetry.metrics or known is None or known.program is None or config is None:
        return
    program = known.program
    if not program.path:
        yield sentences.NO_EXPORTER.sentence()
        return
    if program.missing:
        missing, needed = " and ".join(program.missing), f"{COMPLETE.major}.{COMPLETE.minor}"
        yield sentences.OLD_EXPORTER.sentence(
            version=program.version, missing=missing, needed=needed
        )
    exported = {exporter.index for exporter in exporters_of(config)}
    for process in config.instances:
        if process.index not in exported:
            port = FIRST_PORT + process.index
            yield sentences.PORT_OF_EXPORTER.sentence(index=process.index, port=port)


def _capacity(facts: Facts) -> Iterator[Sentence]:
    """Yield a warning if the pools may open more connections than PostgreSQL accepts."""
    plan, capacity = facts.plan, facts.ledger.capacity
    if plan is None or plan.upstream is None or not capacity:
        return
    needed = demand(plan, len(facts.ledger.grants))
    if needed.total <= capacity:
        return
    lower = needed.largest_limit(capacity)
    cure = (
        f"lower max_db_connections to {lower}, or raise" if lower >= len(plan.members) else "raise"
    )
    yield sentences.OVER_CAPACITY.sentence(needed=needed.total, capacity=capacity, cure=cure)


def _too_few_files(facts: Facts) -> Sentence | None:
    program, applied = facts.container.program, facts.container.applied
    if facts.plan is None or program is None or applied is None:
        return None
    for process in applied.instances:
        clients = most_clients(facts.plan, process.limit, program.files)
        if clients < MIN_CLIENTS:
            return sentences.FEW_FILES.sentence(files=program.files, clients=clients)
    return None


def _own_users(facts: Facts) -> Iterator[Sentence]:
    """Yield a note while PgBouncer's own users get new passwords and units have to follow."""
    if not facts.leader or facts.auth is None or not is_changing(facts.auth):
        return
    if behind := units_behind(facts):
        yield sentences.OWN_USERS_CHANGE.sentence(units=", ".join(behind))
    elif login := facts.auth.next_auth:
        yield sentences.NEXT_AUTH_USER_WAITS.sentence(user=login.username)


def _new_names(facts: Facts) -> Iterator[Sentence]:
    """Yield a note while clients cannot be told their new names."""
    waiting = [known.current for known in facts.ledger.rotations if known.stage == "renamed"]
    if facts.leader and waiting:
        yield sentences.NEW_NAMES_WAIT.sentence(users=shortened(waiting, 5))


def _operations(facts: Facts) -> Iterator[Sentence]:
    """Yield what an operator asked for that clients notice."""
    plan = facts.plan
    if plan is None:
        return
    if plan.paused:
        names = named(plan.paused_databases)
        began = min(
            pause.since for pause in plan.paused if pause.database in plan.paused_databases
        )
        since = datetime.datetime.fromtimestamp(began, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        yield operation_sentences.PAUSED.sentence(
            databases=names, since=since, command=facts.command("resume")
        )
        holder = first_holder(facts)
        if holder:
            yield operation_sentences.PAUSE_INCOMPLETE.sentence(
                databases=names, reason=held_by(holder, facts.now, ())
            )
    if plan.disabled:
        command = facts.command("enable", plan.disabled[0])
        yield operation_sentences.DISABLED.sentence(
            databases=named(plan.disabled), command=command
        )


def _refusals(facts: Facts) -> Iterator[Sentence]:
    for refusal in facts.refusals:
        yield sentences.REFUSED.sentence(
            application=refusal.application, relation=refusal.relation_id, reason=refusal.reason
        )


def _replaced(facts: Facts) -> Iterator[Sentence]:
    if facts.reference and facts.reference.units:
        units = ", ".join(facts.reference.units)
        yield sentences.REFERENCE_RUNS.sentence(units=units)


def _legacy(facts: Facts) -> Iterator[Sentence]:
    for client in facts.legacy:
        yield sentences.LEGACY.sentence(
            application=client.request.application,
            relation=client.request.relation_id,
            endpoint=client.request.endpoint,
        )


def _certificate_logins(facts: Facts) -> Iterator[Sentence]:
    """Yield why a certificate that an application gave does not log in."""
    _, problems = certificate_logins(facts)
    version = facts.container.version
    general = ""
    if not facts.certificates.kept:
        general = "because units serve no TLS: relate certificates to an authority"
    elif version and version < CERTIFICATE_LOGINS:
        needed = f"{CERTIFICATE_LOGINS.major}.{CERTIFICATE_LOGINS.minor}"
        general = f"because PgBouncer {version} runs: refresh to {needed} or later"
    for client in facts.clients:
        request = client.request
        if request.certificate and (reason := general or problems.get(request.username, "")):
            yield sentences.NO_CERTIFICATE_LOGIN.sentence(
                application=request.application, relation=request.relation_id, reason=reason
            )

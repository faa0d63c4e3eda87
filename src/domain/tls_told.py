"""What clients are told of TLS, and what a unit may do before and after they are told.

Clients that were told of TLS verify every unit. So they are told when every unit serves TLS, and a unit stops
only after they were told that TLS ends. They know what a hook of the leader tells when the hook has ended.
"""

from domain.facts import Facts
from domain.leadership import reported
from domain.plan import Plan, Serving
from domain.settings import Settings
from domain.tls import ServedPair
from domain.value import digest


def tells_tls(facts: Facts, settings: Settings, current: Plan) -> bool:
    """Return whether the next plan tells clients that they can use TLS.

    They are told when every unit serves TLS. From then on a new unit serves nothing before it has a
    certificate. When the relation with the authority ends, so does TLS, unless clients need it to log in.
    """
    mode = settings.client_tls_sslmode
    if mode == "disable" or not (facts.certificates.related or mode == "require"):
        return False
    if current.tls:
        return all(serving.tls for serving in _servings(facts) if serving)
    return all(serving is not None and serving.tls for serving in reported(facts).values())


def client_authorities(facts: Facts, current: Plan) -> tuple[str, ...]:
    """Return the authorities of all units, first those that clients know.

    While a unit reports nothing, an authority that only that unit may have stays.
    """
    servings = _servings(facts)
    reported = dict.fromkeys(
        authority for serving in servings if serving for authority in serving.authorities
    )
    known = current.client_authorities
    kept = known if None in servings else [known for known in known if known in reported]
    return tuple(dict.fromkeys((*kept, *reported)))


def _servings(facts: Facts) -> list[Serving | None]:
    """Return what each unit that stays reports, first this unit."""
    peers = (peer.serving for peer in facts.peers if not peer.leaving)
    return [facts.serving, *peers]


def told_tls(plan: Plan | None) -> str:
    """Return a digest of what clients are told of TLS; '' if they are told that there is no TLS."""
    return digest(plan.client_authorities) if plan and plan.tls else ""


def tls_expected(facts: Facts) -> bool:
    """Return whether clients may expect TLS of every unit: they do until they know that TLS ends."""
    return any(plan.tls for plan in (facts.plan, facts.peers_plan) if plan)


def tls_ends(facts: Facts) -> bool:
    """Return whether this hook tells clients that TLS ends, which they know when the hook has ended."""
    return tls_expected(facts) and facts.plan is not None and not facts.plan.tls


def lacks_pair(facts: Facts) -> bool:
    """Return whether clients expect TLS of this unit, and the unit has no certificate."""
    return tls_expected(facts) and facts.certificates.kept is None


def cannot_verify(facts: Facts) -> bool:
    """Return whether clients expect TLS of this unit, and do not know the authority of its certificate."""
    kept = facts.certificates.kept
    plans = [plan for plan in (facts.plan, facts.peers_plan) if plan and plan.tls]
    return kept is not None and any(
        not {*kept.authorities}.issubset(plan.client_authorities) for plan in plans
    )


def plan_to_apply(facts: Facts) -> Plan | None:
    """Return the plan that the processes are configured with now; None if there is none.

    While clients expect TLS of a unit that has no certificate, or a certificate that they cannot verify, the
    unit starts nothing, and what runs stays as it is.
    """
    return None if lacks_pair(facts) or cannot_verify(facts) else facts.applicable_plan


def served_pair(facts: Facts) -> ServedPair | None:
    """Return the key and the certificate that the processes have to serve; None if they serve no TLS."""
    disabled = facts.plan is None or facts.plan.settings.client_tls_sslmode == "disable"
    return None if disabled and not tls_expected(facts) else facts.certificates.kept


def announcement(facts: Facts) -> Serving | None:
    """Return what this unit tells its peers that it serves; None if it serves nothing.

    A unit that cannot serve before it has a certificate tells the authorities of its next certificate. While its
    processes may still serve, it also tells the authorities that it told before.
    """
    container, authorities = facts.container, facts.certificates.authorities
    serving = container.serving
    if serving is None and authorities and facts.plan and facts.plan.tls:
        port, processors = facts.plan.settings.listen_port, container.cpus
        serving = Serving(port=port, processors=processors, tls=True)
        if facts.serving and (container.running or not container.reachable):
            serving = serving.announcing(facts.serving.authorities)
    return serving and serving.announcing(authorities)

"""The known vulnerabilities of PgBouncer releases, and the warning in the status."""

import pytest
from in_memory import deployed, related

from domain.capabilities import OLDEST, PgBouncerRuntime, Version
from domain.problems import Level, Problem
from domain.status import assess
from domain.vulnerabilities import SAFE, vulnerabilities, warning

RELEASES = [
    Version(1, 21), Version(1, 22, 1), Version(1, 23, 1), Version(1, 24), Version(1, 24, 1),
    Version(1, 25, 1), Version(1, 25, 2), Version(1, 26),
]  # fmt: skip


@pytest.mark.parametrize("version", RELEASES)
def test_each_release_before_the_safe_release_is_warned_of(version):
    found = vulnerabilities(version)
    assert found[0].severity == "critical"
    assert warning(version) == (
        f"PgBouncer {version} has known vulnerabilities, the worst is {found[0].cve}"
        f" ({found[0].text}): use an image with PgBouncer 1.26.1 or later"
    )
    assert OLDEST <= version < SAFE


@pytest.mark.parametrize("version", [Version(1, 26, 1), Version(1, 26, 2), Version(1, 27)])
def test_a_release_without_known_vulnerabilities_is_not_warned_of(version):
    assert vulnerabilities(version) == ()
    assert warning(version) == ""


@pytest.mark.parametrize(
    ("version", "worst"),
    [
        (Version(1, 24, 1), "CVE-2026-19888"),
        (Version(1, 25, 2), "CVE-2026-19888"),
        (Version(1, 26), "CVE-2026-107350"),
    ],
)
def test_the_worst_vulnerability_is_named(version, worst):
    assert vulnerabilities(version)[0].cve == worst


def test_the_worst_vulnerability_comes_first():
    order = ["critical", "high", "medium", "low"]
    found = [order.index(entry.severity) for entry in vulnerabilities(Version(1, 24))]
    assert found == sorted(found)
    assert len(set(found)) > 1


def test_vulnerabilities_that_the_configuration_prevents_are_not_named():
    found = {entry.cve for entry in vulnerabilities(Version(1, 24))}
    prevented = {"CVE-2026-107349", "CVE-2026-107348", "CVE-2025-12819", "CVE-2025-2291"}
    assert prevented.isdisjoint(found)


def facts_with(platform, version):
    facts = platform.leader.read()
    container = facts.container.model_copy(update={"program": PgBouncerRuntime(version=version)})
    return facts.model_copy(update={"container": container})


def test_the_status_stays_active_and_names_a_safe_release():
    (only,) = assess(facts_with(related(), Version(1, 24, 1)))
    assert (only.level, only.text) == (Level.ACTIVE, warning(Version(1, 24, 1)))


def test_a_problem_comes_before_a_warning():
    found = assess(facts_with(deployed(units=1), Version(1, 24, 1)))
    assert [(sentence.level, sentence.text) for sentence in found] == [
        (Level.BLOCKED, "missing relation: backend-database")
    ]


def test_several_vulnerabilities_are_a_single_sentence():
    told = Problem(topic="service", level=Level.ACTIVE, text="it is late")
    (only,) = assess(facts_with(related(), Version(1, 26)), (told,))
    assert only.text == f"{warning(Version(1, 26))}; it is late"

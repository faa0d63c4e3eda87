"""The published vulnerabilities of each PgBouncer release.

Sources: https://www.pgbouncer.org/changelog.html and the entries of the CVE list. A distribution may have
repaired a release without changing the version number, which this module cannot see.
"""

from typing import Literal

from domain import sentences
from domain.capabilities import Version
from domain.value import Value

Severity = Literal["critical", "high", "medium", "low"]

_ORDER: tuple[Severity, ...] = ("critical", "high", "medium", "low")


class Vulnerability(Value):
    """A published vulnerability of PgBouncer."""

    cve: str
    # The first release with the vulnerability.
    since: Version
    # The first release after `since` without it.
    fixed: Version
    severity: Severity
    # Which client or server can use the vulnerability, and for what.
    text: str

    def affects(self, version: Version) -> bool:
        """Return whether this release has the vulnerability."""
        return self.since <= version < self.fixed


# The charm's configuration prevents four more, which the status therefore does not name:
#
# - CVE-2026-107349, by the trailing comma of ignore_startup_parameters.
# - CVE-2026-107348, which needs a max_packet_size of 2 GiB or more.
# - CVE-2025-12819, which needs an auth_query that does not qualify its names.
# - CVE-2025-2291, which needs an auth_query that does not look at VALID UNTIL.
_TABLE = (
    Vulnerability(
        cve="CVE-2026-19888",
        since=Version(1, 11),
        fixed=Version(1, 26),
        severity="critical",
        text="a packet from a client without credentials ends a process",
    ),
    Vulnerability(
        cve="CVE-2026-107350",
        since=Version(1, 17),
        fixed=Version(1, 26, 1),
        severity="critical",
        text="a client that knows the password of the statistics user becomes any other user",
    ),
    Vulnerability(
        cve="CVE-2026-6664",
        since=Version(1, 11),
        fixed=Version(1, 25, 2),
        severity="critical",
        text="a packet from a client without credentials ends a process",
    ),
    Vulnerability(
        cve="CVE-2026-6668",
        since=Version(1, 11),
        fixed=Version(1, 26),
        severity="high",
        text="a packet from a client without credentials keeps a process busy until the login times out",
    ),
    Vulnerability(
        cve="CVE-2026-6669",
        since=Version(1, 11),
        fixed=Version(1, 26),
        severity="high",
        text="a hostile PostgreSQL keeps a process busy at its login",
    ),
    Vulnerability(
        cve="CVE-2026-6665",
        since=Version(1, 11),
        fixed=Version(1, 25, 2),
        severity="high",
        text="a hostile PostgreSQL overwrites memory of a process at its login",
    ),
    Vulnerability(
        cve="CVE-2026-6666",
        since=Version(1, 11),
        fixed=Version(1, 25, 2),
        severity="medium",
        text="a hostile PostgreSQL ends a process by an error without a code",
    ),
    Vulnerability(
        cve="CVE-2026-6667",
        since=Version(1, 24),
        fixed=Version(1, 25, 2),
        severity="medium",
        text="the statistics user disconnects clients by KILL_CLIENT",
    ),
)

# The first release without any of these vulnerabilities.
SAFE = max(entry.fixed for entry in _TABLE)


def vulnerabilities(version: Version) -> tuple[Vulnerability, ...]:
    """Return the vulnerabilities of a release that the charm's configuration does not prevent, worst first."""
    affected = (entry for entry in _TABLE if entry.affects(version))
    return tuple(sorted(affected, key=lambda entry: _ORDER.index(entry.severity)))


def warning(version: Version) -> str:
    """Return a sentence that names the worst vulnerability of a release; '' if it has none."""
    known = vulnerabilities(version)
    if not known:
        return ""
    worst = known[0]
    return sentences.VULNERABLE.text(version=version, cve=worst.cve, text=worst.text, safe=SAFE)

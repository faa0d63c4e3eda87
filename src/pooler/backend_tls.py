"""Read from `--backend`, and from libpq's variables, how connections to a given PostgreSQL are encrypted."""

from __future__ import annotations

import pathlib
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple

from adapters.local import files
from domain.backend import BackendLogin
from domain.tls import ServerMode
from domain.value import digest
from pooler.arguments import UsageError

# The modes of libpq, each with the mode that protects as much: `allow` and `prefer` accept every connection.
_MODES: dict[str, ServerMode] = {
    "disable": "disable",
    "allow": "prefer",
    "prefer": "prefer",
    "require": "require",
    "verify-ca": "verify-ca",
    "verify-full": "verify-full",
}

# The word of libpq for the authorities that the system trusts.
SYSTEM = "system"

# Where distributions keep these authorities in a single file, which PgBouncer needs.
_SYSTEM_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

# The bundle of a large provider has about 200 KiB.
_MOST_BYTES = 4 * 1024 * 1024
_BEGIN = "-----BEGIN CERTIFICATE-----"


class ServerTls(NamedTuple):
    """How connections to a server are encrypted, and the file of the authorities that verify it ('' if none)."""

    mode: ServerMode
    authority_file: str = ""


def server_tls(parts: Mapping[str, Any], libpq: Mapping[str, str]) -> ServerTls:
    """Return what the parts of an address and libpq's variables ask for, as libpq understands them.

    Raises UsageError for what cannot be done.
    """
    mode_place, mode = _given(parts, libpq, "sslmode", "PGSSLMODE")
    root_place, root = _given(parts, libpq, "sslrootcert", "PGSSLROOTCERT")
    if root == SYSTEM:
        mode = mode or "verify-full"
        if mode != "verify-full":
            raise UsageError(
                f"{root_place}=system needs sslmode=verify-full, as in libpq: any owner of a name has a"
                " certificate of these authorities"
            )
    mode = mode or "prefer"
    if mode not in _MODES:
        raise UsageError(
            f"{mode_place}={mode[:20]!r} is no sslmode: write {', '.join(list(_MODES)[:-1])} or verify-full"
        )
    wanted = _MODES[mode]
    if wanted == "disable" and root_place.startswith("$"):
        return ServerTls(wanted)
    if root and wanted in ("disable", "prefer"):
        raise UsageError(
            f"{root_place} has no effect with sslmode={mode}: add sslmode=verify-full to --backend, as in"
            " postgresql://USER@HOST:PORT?sslmode=verify-full"
        )
    if wanted in ("disable", "prefer"):
        return ServerTls(wanted)
    return _verified(wanted, root, root_place)


def _given(
    parts: Mapping[str, Any], libpq: Mapping[str, str], key: str, variable: str
) -> tuple[str, str]:
    """Return the place of a parameter, in the address or in a variable, and its text; '' if it is not given."""
    if text := parts.get(key):
        return f"--backend: {key}", str(text)
    return f"${variable}", libpq.get(variable, "")


def _verified(mode: ServerMode, root: str, place: str) -> ServerTls:
    """Return a mode with the file of its authorities: those that are named, or those of libpq's own file."""
    default = pathlib.Path("~/.postgresql/root.crt").expanduser()
    if not root and default.exists():
        place, root = str(default), str(default)
    if not root:
        if mode == "require":
            return ServerTls(mode)
        raise UsageError(
            f"sslmode={mode} needs the authorities of PostgreSQL: add sslrootcert=FILE to --backend, or"
            " sslrootcert=system for those that this machine trusts"
        )
    path = _system_file() if root == SYSTEM else root
    authorities(path, place)
    # With authorities, libpq verifies the certificate in this mode, too.
    return ServerTls("verify-ca" if mode == "require" else mode, path)


def _system_file() -> str:
    known = (ssl.get_default_verify_paths().openssl_cafile, *_SYSTEM_FILES)
    for path in known:
        if pathlib.Path(path).is_file():
            return path
    raise UsageError(
        "sslrootcert=system: this machine has no file of authorities: install ca-certificates, or write"
        " sslrootcert=FILE"
    )


def authorities(path: str, place: str) -> str:
    """Return the text of a file of certificates. Raises UsageError, which begins with `place`."""
    try:
        with open(path, errors="replace") as file:
            text = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no path"
        raise UsageError(f"{place}: {path[:200]!r} cannot be read: {reason}") from None
    if _BEGIN not in text or len(text) > _MOST_BYTES:
        raise UsageError(f"{place}: {path[:200]!r} has no certificate in PEM")
    return text


def keep_authorities(login: BackendLogin, home: pathlib.Path) -> BackendLogin:
    """Return this login with a copy of its file of authorities in the home, which PgBouncer can read.

    A digest of the text is part of the path: PgBouncer replaces its connections if the path changes. The
    system's own file is not copied, so that updates of the system take effect.
    """
    path = login.authority_file
    if not path or path in (ssl.get_default_verify_paths().openssl_cafile, *_SYSTEM_FILES):
        return login
    text = authorities(path, "sslrootcert")
    copy = home / f"backend-ca-{digest(text)}.pem"
    files.write(copy, text, public=True)
    return login.with_authority_file(str(copy))

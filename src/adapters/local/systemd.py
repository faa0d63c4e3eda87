"""Write, remove and look at a systemd unit, for the current user or, as root, for the machine."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Mapping, Sequence

# systemd manages this machine if this directory exists (sd_booted(3)).
_BOOTED = pathlib.Path("/run/systemd/system")
_SECONDS = 30.0

_TEXT = """\
[Unit]
Description=PgBouncer and PostgreSQL of the command pooler
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
{environment}
ExecStart={start}
ExecStop={stop}
# `stop` ends PgBouncer and PostgreSQL. If only the main process ends, they continue to serve.
KillMode=process
Restart=on-failure
RestartSec=5
TimeoutStopSec=120

[Install]
WantedBy={target}
"""


class NoSystemd(Exception):
    """systemd does not manage this machine or this user; the text says which."""


class SystemdFailed(Exception):
    """systemctl failed; the text has its message."""


def unit_text(
    start: Sequence[str], stop: Sequence[str], environment: Mapping[str, str], *, of_machine: bool
) -> str:
    """Return the text of a unit that runs the command `start` at boot, and `stop` at the end."""
    lines = (f"Environment={_quoted(f'{name}={value}')}" for name, value in environment.items())
    return _TEXT.format(
        environment="\n".join(lines),
        start=_command(start),
        stop=_command(stop),
        target="multi-user.target" if of_machine else "default.target",
    )


def _command(words: Sequence[str]) -> str:
    # In the arguments of a command `$` begins a variable, but not in its path (systemd.service(5)).
    path, *arguments = words
    return " ".join((_quoted(path), *(_quoted(word).replace("$", "$$") for word in arguments)))


def _quoted(text: str) -> str:
    """Return a text as a word of a unit, in which `%` begins a specifier (systemd.syntax(7))."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def unit_path(name: str) -> pathlib.Path:
    """Return the path of a unit of this user, or of the machine for root."""
    if os.geteuid() == 0:
        return pathlib.Path("/etc/systemd/system", name)
    config = os.environ.get("XDG_CONFIG_HOME") or pathlib.Path.home() / ".config"
    return pathlib.Path(config, "systemd", "user", name)


def runs() -> bool:
    """Return whether systemd manages this machine."""
    return _BOOTED.is_dir()


def check() -> None:
    """Raise NoSystemd unless systemd manages this machine, and this user."""
    if not runs():
        raise NoSystemd("systemd does not run on this machine")
    if os.geteuid() != 0 and not os.environ.get("XDG_RUNTIME_DIR"):
        raise NoSystemd("this login has no systemd of the user ($XDG_RUNTIME_DIR is not set)")


def install(name: str, text: str) -> None:
    """Write a unit, start it, and have it start at every boot. Raises SystemdFailed and OSError."""
    path = unit_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    systemctl("daemon-reload")
    systemctl("enable", name)
    systemctl("restart", name)


def uninstall(name: str) -> None:
    """Remove a unit; its processes go on. Raises SystemdFailed and OSError."""
    systemctl("disable", name)
    unit_path(name).unlink(missing_ok=True)
    systemctl("daemon-reload")


def systemctl(*words: str) -> str:
    """Run systemctl, and return what it prints. Raises SystemdFailed."""
    user = () if os.geteuid() == 0 else ("--user",)
    try:
        done = subprocess.run(
            ["systemctl", *user, *words],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SystemdFailed(f"systemctl {words[0]}: {error}") from None
    if done.returncode and words[0] != "is-active":
        raise SystemdFailed(f"systemctl {words[0]}: {done.stderr.strip()[:300]}")
    return done.stdout.strip()

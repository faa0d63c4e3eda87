"""The verb `service`: start the units at boot, by a unit of systemd."""

from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
import shlex

from adapters.local import files, systemd
from pooler import binaries
from pooler.arguments import CommandError
from pooler.home import default_home
from pooler.invocation import Invocation
from pooler.output import print_line

# The script that starts this command.
SCRIPT = pathlib.Path(__file__).resolve().parents[3] / "pooler"

# The variables of the operator that `pooler up` needs at boot, too; none is a secret.
_VARIABLES = ("PGBOUNCER", "PGBOUNCER_EXPORTER", "PG_BIN_DIR")


def service(run: Invocation, arguments: argparse.Namespace) -> int:
    """Install or remove a unit of systemd that runs `pooler up` at boot and then watches, or show it."""
    name, home = unit_name(run.store.home), run.store.home
    try:
        systemd.check()
    except systemd.NoSystemd as error:
        raise CommandError(
            f"{error}. To start the units at boot with cron, run `crontab -e` and add this line:\n"
            f"{crontab_line(home)}"
        ) from None
    try:
        match arguments.action:
            case "install":
                return _install(run, name)
            case "uninstall":
                return _uninstall(run, name)
            case _:
                return _status(name)
    except systemd.SystemdFailed as error:
        raise CommandError(str(error)) from None


def _install(run: Invocation, name: str) -> int:
    if not run.store.exists():
        raise CommandError("no unit exists on this machine: run `pooler up` first")
    systemd.install(name, service_text(run.store.home, of_machine=os.geteuid() == 0))
    run.say(f"{systemd.unit_path(name)} starts the units at every boot, and watches them")
    if warning := replaceable(SCRIPT):
        run.say(warning)
    if os.geteuid() != 0:
        run.say("at boot, not only at your login: run `loginctl enable-linger`")
    return 0


def replaceable(script: pathlib.Path) -> str:
    """Return a warning if another user could replace a script that root runs at boot; '' if no user can."""
    reason, _, _ = files.insecure(script).partition(":")
    return (
        reason
        and f"root runs {script} at every boot, but {reason}: move it to a directory of root"
    )


def _uninstall(run: Invocation, name: str) -> int:
    if not systemd.unit_path(name).exists():
        run.say(f"{name} is not installed")
        return 0
    systemd.uninstall(name)
    run.say(f"{name} is removed: the units go on, and do not start at the next boot")
    return 0


def _status(name: str) -> int:
    """Print whether the unit is installed and runs; return 1 if it does not."""
    if not systemd.unit_path(name).exists():
        print_line(f"{name} is not installed: `pooler service install` starts the units at boot")
        return 1
    state = systemd.systemctl("is-active", name)
    print(f"{systemd.unit_path(name)}: {state}")
    return 0 if state == "active" else 1


def service_text(home: pathlib.Path, *, of_machine: bool) -> str:
    """Return the text of the unit for the units in `home`."""
    return systemd.unit_text(
        [str(SCRIPT), "watch", "--up"],
        [str(SCRIPT), "down"],
        _environment(home),
        of_machine=of_machine,
    )


def crontab_line(home: pathlib.Path) -> str:
    """Return a line for crontab(5) that runs `pooler up` at boot."""
    values = " ".join(f"{name}={shlex.quote(value)}" for name, value in _environment(home).items())
    # In a crontab `%` ends the command.
    return f"@reboot {values} {shlex.quote(str(SCRIPT))} up".replace("%", r"\%")


def unit_name(home: pathlib.Path) -> str:
    """Return the name of the unit of a home, which other homes do not have."""
    if home == pathlib.Path(os.path.realpath(default_home())):
        return "pgbouncer-k8s.service"
    return f"pgbouncer-k8s-{hashlib.sha256(bytes(home)).hexdigest()[:8]}.service"


def _environment(home: pathlib.Path) -> dict[str, str]:
    known = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    return {"POOLER_HOME": str(home), "POOLER_CACHE": str(binaries.default_cache()), **known}

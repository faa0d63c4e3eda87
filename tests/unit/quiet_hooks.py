"""Quiet hooks: whether a hook read everything again, and what a new process has loaded at its end."""

import pathlib
import pickle
import subprocess
import sys

from on_juju import ACTIONS, CONFIG, META

SOURCE = pathlib.Path(__file__).parents[2] / "src"


def memory(juju):
    """Return the path of the record of what the last complete hook read."""
    return pathlib.Path(juju.context.charm_root, ".unchanged")


def looked(juju, event=None):
    """Return whether the hook of an event read everything again: then it removed the memory first."""
    before = memory(juju).stat()
    juju.emit(event or juju.context.on.update_status())
    return not memory(juju).exists() or memory(juju).stat().st_mtime_ns != before.st_mtime_ns


# The charm leaves ops-tracing out before it imports ops, and here ops is imported first.
AS_THE_CHARM = 'import sys; sys.modules["ops_tracing"] = None\n'
HOOK = f"""
import pickle, sys
sys.path.append({str(SOURCE.parent / "tests" / "unit")!r})
import yaml
from ops import testing
import hook_tools
from adapters.connections import ping
from charm import PgBouncerCharm

ping.answers = lambda servers, seconds=1.0: True
state, root, meta, config, actions = pickle.load(sys.stdin.buffer)
known = {{"meta": meta, "config": config, "actions": actions}}
context = testing.Context(PgBouncerCharm, **known, charm_root=root)
out = context.run(context.on.update_status(), state)
assert out.unit_status.name == "active", out.unit_status
print(*{{name.partition(".")[0] for name in sys.modules}})
"""


def loaded_by_an_update_status_of(juju):
    """Return the modules that a new process has loaded at the end of the hook."""
    given = pickle.dumps((juju.state, juju.context.charm_root, META, CONFIG, ACTIONS))
    done = subprocess.run(
        [sys.executable, "-c", AS_THE_CHARM + juju.workload.reached_by() + HOOK],
        input=given,
        capture_output=True,
        check=False,
        cwd=SOURCE,
    )
    assert done.returncode == 0, done.stderr.decode()
    return set(done.stdout.decode().split())

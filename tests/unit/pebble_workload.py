"""A container in memory, and the configurations that tests of the Pebble adapter apply to it."""

import pathlib

import ops
import pydantic
from plans import plan

from adapters.pebble import pooler as pebble
from domain.applied import Step, applied_state
from domain.capabilities import PgBouncerRuntime, Version
from domain.instances import pooler_config
from domain.users import AuthMaterial

AUTH = AuthMaterial(
    auth_user="auth", auth_password=pydantic.SecretStr("secret-1"),
    stats_user="stats", stats_password=pydantic.SecretStr("secret-2"),
    admin_user="admin", admin_password=pydantic.SecretStr("secret-3"),
)  # fmt: skip
CONFIG = pooler_config(
    plan(databases=("shop",)),
    "pgb/0",
    PgBouncerRuntime(version=Version(1, 24), cpus=2),
    pebble.LAYOUT,
    AUTH,
)
MEMORY = applied_state(CONFIG, PgBouncerRuntime(version=Version(1, 24)))
MORE = pooler_config(
    plan(databases=("blog", "shop")),
    "pgb/0",
    PgBouncerRuntime(version=Version(1, 24), cpus=2),
    pebble.LAYOUT,
    AUTH,
)
START = (Step(action="start", index=0), Step(action="start", index=1))


class Workload:
    """What PebblePooler uses of an ops.Container: files and services that are only remembered."""

    def __init__(self):
        self.files, self.services, self.signals, self.down = {}, {}, [], []
        self.folders, self.pushed = set(), []
        # The users who own folders and files; None is the user of Pebble.
        self.users = set()
        self.layer = None
        self.faults = {}
        self.pebble = self

    def _may(self, what, path=""):
        for (name, part), error in self.faults.items():
            if name == what and part in path:
                raise error

    def get_services(self):
        self._may("services")
        return [
            ops.pebble.ServiceInfo(name, ops.pebble.ServiceStartup.ENABLED, current)
            for name, current in self.services.items()
        ]

    def get_changes(self, select):
        return []

    def get_checks(self):
        self._may("checks")
        return [
            ops.pebble.CheckInfo(name, None, ops.pebble.CheckStatus.DOWN) for name in self.down
        ]

    def pull(self, path):
        self._may("pull", path)
        if path not in self.files:
            raise ops.pebble.PathError("not-found", path)
        return type("File", (), {"read": lambda _: self.files[path]})()

    def push(self, path, text, **how):
        self._may("push", path)
        assert how["permissions"] == 0o600
        self.pushed.append(path)
        self.users.add(how.get("user"))
        folder = pathlib.PurePath(path).parent
        if not how.get("make_dirs") and folder not in self.folders:
            raise ops.pebble.PathError("not-found", f"open {path}: no such file or directory")
        self.folders.add(folder)
        self.files[path] = text

    def remove_path(self, path, *, recursive):
        self._may("remove", path)
        if self.files.pop(path, None) is None and not recursive:
            raise ops.pebble.PathError("not-found", path)

    def make_dir(self, path, **how):
        self._may("make_dir", path)
        assert how["permissions"] == (
            0o711 if path.startswith("/charm/container/sockets") else 0o700
        )
        self.users.add(how.get("user"))
        self.folders |= {pathlib.PurePath(path), *pathlib.PurePath(path).parents}

    def add_layer(self, label, layer, *, combine):
        self._may("add_layer")
        self.layer = layer

    def start_services(self, names, timeout):
        assert timeout < 4, "a hook would wait for a machine that is busy"
        self._may("start")
        self.services |= dict.fromkeys(names, ops.pebble.ServiceStatus.ACTIVE)

    def restart_services(self, names, timeout):
        assert timeout == 0, "a hook would wait for clients to leave"
        self.services |= dict.fromkeys(names, ops.pebble.ServiceStatus.ACTIVE)

    def stop_services(self, names, timeout):
        assert timeout == 0, "a hook would wait for clients to leave"
        self.services |= dict.fromkeys(names, ops.pebble.ServiceStatus.INACTIVE)

    def send_signal(self, signal, *names):
        self._may("signal")
        self.signals += [(signal, name) for name in names]

    def exec(self, command, *, working_dir, timeout):
        self._may("exec")
        said = self.files.get("limits", "1024\n2\nmax 100000\n") + self.files.get("version", "")
        return type("Run", (), {"wait_output": lambda _: (said, "")})()

"""The container of a unit: a real Pebble that runs a real PgBouncer."""

import ops
import psycopg
import pydantic
from ports import free_port
from postgresql import ADMIN, PASSWORD

from adapters.pebble import pooler as pebble
from adapters.pebble.pooler import LAYOUT, PebblePooler
from adapters.pgbouncer.console import PsycopgConsoles
from contract.unit import plan_for
from domain.change import change_to
from domain.endpoints import Endpoint
from domain.instances import ConsoleUser, pooler_config
from domain.settings import Settings
from logins import CONSOLE_AUTH


class Unit:
    """The charm's side of a unit's container."""

    def __init__(self, workload, server):
        self.workload, self.server, self.port = workload, server, free_port()
        observed = workload.observed()
        self.container = observed.container
        self.pooler = PebblePooler(observed)
        self.program = self.pooler.program()

    def config(self, cpus=1, backend=None, **options):
        settings = Settings(
            **{"listen_port": self.port, "max_db_connections": 8, "pool_mode": "transaction"}
            | options
        )
        server = Endpoint(host="127.0.0.1", port=backend or self.server.port)
        program = self.program.model_copy(update={"cpus": cpus})
        found = pooler_config(plan_for(settings, server), "p/0", program, LAYOUT, CONSOLE_AUTH)
        known = ConsoleUser(name=ADMIN, secret=pydantic.SecretStr(PASSWORD))
        return found.model_copy(update={"users": (*found.users, known)})

    def apply(self, config, pooler=None):
        now = self.pooler.read()
        change = change_to(config, self.program, now.applied, now.running)
        (pooler or self.pooler).apply(change)
        return change.steps

    def shown(self, index=0):
        with PsycopgConsoles(pebble.socket_directory).open(
            index, self.port, CONSOLE_AUTH
        ) as console:
            return console.settings()

    def client(self):
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=ADMIN, password=PASSWORD, dbname="postgres",
            connect_timeout=5,
        )  # fmt: skip

    def answers(self):
        with self.client() as client:
            return client.execute("select 1").fetchone() == (1,)

    def refuses(self):
        try:
            self.client().close()
        except psycopg.OperationalError:
            return True
        return False

    def changes(self):
        return {
            change.id for change in self.container.pebble.get_changes(ops.pebble.ChangeState.ALL)
        }


def with_line(config, name, value):
    instances = tuple(
        instance.model_copy(
            update={
                "settings": tuple(
                    (key, value if key == name else old) for key, old in instance.settings
                )
            }
        )
        for instance in config.instances
    )
    return config.model_copy(update={"instances": instances})


FAILED, RECOVERED = ("perform-check", "Error"), ("recover-check", "Done")


def told(unit, check):
    """Return what Pebble has reported to Juju about a check: the kind of each change, and how it ended."""
    notices = unit.container.get_notices(types=[ops.pebble.NoticeType.CHANGE_UPDATE])
    ids = [ops.pebble.ChangeID(n.key) for n in notices if n.last_data.get("check-name") == check]
    changes = [unit.container.pebble.get_change(change) for change in ids]
    return {(change.kind, change.status) for change in changes}

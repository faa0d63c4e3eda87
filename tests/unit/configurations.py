"""The configuration of a unit, as the tests of the domain vary it."""

from plans import plan

from domain.capabilities import PgBouncerRuntime, Version
from domain.instances import Layout, pooler_config
from logins import CONSOLE_AUTH

NOW = Version(1, 24, 1)
PROGRAM = PgBouncerRuntime(version=NOW)
LAYOUT = Layout(root="/var/lib/pgbouncer")


def config(
    shared=None,
    *,
    unit="pgb/0",
    cpus=2,
    version=NOW,
    files=0,
    layout=LAYOUT,
    auth=CONSOLE_AUTH,
    exported=False,
    **options,
):
    shared = shared or plan(databases=("shop",))
    shared = shared.model_copy(update={"settings": shared.settings.model_copy(update=options)})
    program = PgBouncerRuntime(version=version, files=files, cpus=cpus)
    return pooler_config(shared, unit, program, layout, auth, exported=exported)

"""Send a query through a unit, as a client does."""

from __future__ import annotations

from domain.facts import BackendLogin
from domain.pools import Endpoint, endpoints_in
from pooler import server
from pooler.platform import LocalPlatform
from pooler.server import ServerFailed

WHO_AND_WHERE = """
    SELECT format('%s in %s, PostgreSQL %s',
                  current_user, current_database(), current_setting('server_version'))
"""


def answer(platform: LocalPlatform, number: int, address: str) -> str:
    """Return PostgreSQL's answer to the client of this relation through the unit at this address."""
    record = platform.model.clients[number]
    if record.told is None or record.password is None:
        return "not yet"
    if platform.state.paused:
        return "paused: it waits for `pooler resume`"
    port = endpoints_in(record.told.endpoints)[0].port
    login = BackendLogin(
        user=f"relation_id_{number}",
        password=record.password,
        database=record.told.database,
        endpoints=(Endpoint(host=address, port=port),),
    )
    try:
        return server.ask(login, WHO_AND_WHERE)
    except ServerFailed as error:
        return str(error)

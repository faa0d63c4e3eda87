"""Send a query through a unit as the client that `pooler up` relates for a demonstration."""

from __future__ import annotations

from domain.endpoints import Endpoint, endpoints_in
from domain.facts import BackendLogin
from domain.users import username_of
from pooler import server
from pooler.platform import LocalPlatform
from pooler.server import ServerFailed

DEMO = "demo"

_QUERY = """
    SELECT format('%s in %s, PostgreSQL %s',
                  current_user, current_database(), current_setting('server_version'))
"""


def answer_through(platform: LocalPlatform, number: int, address: str) -> str:
    """Return PostgreSQL's answer to the client of a relation through the unit at an address.

    Without an answer, return why there is none.
    """
    record = platform.model.clients[number]
    if record.told is None or record.password is None:
        return "no access yet"
    if platform.state.paused:
        return "paused: run `pooler resume`"
    port = endpoints_in(record.told.endpoints)[0].port
    login = BackendLogin(
        user=username_of(number),
        password=record.password,
        database=record.told.database,
        endpoints=(Endpoint(host=address, port=port),),
    )
    try:
        return server.ask(login, _QUERY)
    except ServerFailed as error:
        return str(error)

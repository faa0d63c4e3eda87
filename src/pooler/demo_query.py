"""Find out what PostgreSQL answers through a unit, which needs the login of a related application."""

from __future__ import annotations

from adapters.local.model import ClientRecord
from domain.endpoints import Endpoint, endpoints_in
from domain.facts import BackendLogin
from domain.users import username_of
from pooler import server
from pooler.platform import LocalPlatform
from pooler.server import ServerFailed

# The application that `pooler up` relates to a PostgreSQL server that it has made.
DEMO = "demo"

_QUERY = """
    SELECT format('%s in %s, PostgreSQL %s',
                  current_user, current_database(), current_setting('server_version'))
"""
_DIRECT_QUERY = "SELECT format('PostgreSQL %s', current_setting('server_version'))"


def health_answer(platform: LocalPlatform, address: str) -> str:
    """Return PostgreSQL's answer to a query through the unit at an address, or why there is none.

    The query has the login of `demo`, or of the first application with a login. Without any such
    application no login can use the pool: then the query goes directly to PostgreSQL.
    """
    if platform.state.paused:
        return "paused: run `pooler resume`"
    clients = platform.model.clients
    # `demo` is the first relation, so it has the lowest number.
    for number in sorted(clients):
        if clients[number].told and clients[number].password:
            return _answer(_login(number, clients[number], address), _QUERY)
    if clients:
        return "no access yet"
    backend = platform.model.backend.credentials
    return _answer(backend, _DIRECT_QUERY) if backend else "no PostgreSQL is related"


def _login(number: int, record: ClientRecord, address: str) -> BackendLogin | None:
    if record.told is None or record.password is None:
        return None
    return BackendLogin(
        user=username_of(number),
        password=record.password,
        database=record.told.database,
        endpoints=(Endpoint(host=address, port=endpoints_in(record.told.endpoints)[0].port),),
    )


def _answer(login: BackendLogin | None, query: str) -> str:
    if login is None:
        return "no access yet"
    try:
        return server.ask(login, query)
    except ServerFailed as error:
        return str(error)

"""What a client was told in a rotation, and whether it can log in, on the platform in memory."""

from in_memory import related

from domain.backend import BackendLogin
from domain.users import Login


def shop(**how):
    """Return a platform with the client shop."""
    platform = related(**how)
    platform.relate("shop", "shop")
    return platform


def published(platform, number=1):
    """Return the login that a client was told."""
    record = platform.model.clients[number]
    return Login(username=record.user(number), password=record.password)


def lets_in(platform, login, database="shop"):
    """Return whether PostgreSQL lets a login in."""
    backend: BackendLogin = platform.model.backend.credentials
    return platform.databases.admits(backend, login, database)


def users(platform):
    """Return the roles of clients in PostgreSQL."""
    return {name for name, role in platform.server.roles.items() if role.client}

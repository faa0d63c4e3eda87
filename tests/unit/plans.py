"""A plan of the leader's, as the tests of the domain vary it."""

from domain.endpoints import endpoints_in
from domain.plan import Member, Plan, Upstream, share
from domain.settings import Settings


def plan(units=2, *, limit=100, readers="", endpoints="10.1.0.1:5432", **how):
    return Plan(
        settings=Settings(max_db_connections=limit),
        members=tuple(
            Member(name=f"pgb/{n}", address=f"10.0.0.{n}", share=share(limit, units, n))
            for n in range(units)
        ),
        upstream=Upstream(
            endpoints=endpoints_in(endpoints),
            read_only=endpoints_in(readers),
            auth_database="pgbouncer",
            auth_user="auth",
        ),
        **how,
    )

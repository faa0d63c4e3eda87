"""New passwords for PgBouncer's own users: the auth user, and the stats and admin users of the console.

A role of PostgreSQL has one password, and a look-up whose login fails also fails the logins of the clients that
wait for it. So two auth users take turns:

1. `begun`: all units get the password of the other auth user, in their auth files.
2. `used`: when every unit has it and PostgreSQL lets that user in, the plan names that user.
3. `unused`: when the processes of every unit use it, they forget the former auth user.
4. `ended`: when every unit has forgotten it, it is dropped.

Each step follows from what units report and from the secret that they share. So another leader goes on with it.
"""

from collections.abc import Callable

from domain.facts import Facts
from domain.system_users import ADMIN, STATS, SystemUsers
from domain.users import AuthMaterial, Login, Password, auth_user, second_auth_user
from domain.value import Value


class NewPasswords(Value):
    """New passwords for all of PgBouncer's own users."""

    auth: Password
    stats: Password
    admin: Password


def other_auth_user(auth: AuthMaterial, backend_user: str) -> str:
    """Return the name of the auth user that takes turns with the auth user."""
    first = auth_user(backend_user)
    return second_auth_user(first) if auth.auth_user == first else first


def takes_turns(user: str, schema: str) -> bool:
    """Return whether an auth user is of the two that use the function in this schema."""
    return user in (schema, second_auth_user(schema)) or schema == second_auth_user(user)


def is_changing(auth: AuthMaterial) -> bool:
    """Return whether a change of these passwords goes on."""
    return bool(
        auth.next_auth or auth.former_auth or auth.leaving_auth or auth.former_admin_password
    )


def begun(auth: AuthMaterial, backend_user: str, new: NewPasswords) -> AuthMaterial:
    """Return these users with new passwords; those that the operator chose stay."""
    following = Login(username=other_auth_user(auth, backend_user), password=new.auth)
    stats = auth.stats_password if STATS in auth.chosen else new.stats
    admin = auth.admin_password if ADMIN in auth.chosen else new.admin
    return auth.beginning(following).with_console(stats=stats, admin=admin, chosen=auth.chosen)


def with_chosen(
    auth: AuthMaterial, users: SystemUsers, new_passwords: Callable[[], NewPasswords]
) -> AuthMaterial:
    """Return these users with the passwords that the operator chose.

    A user whose password the operator does not choose any more gets a new password.
    """
    dropped = set(auth.chosen).difference(users.chosen)
    new = new_passwords() if dropped else None
    stats = users.stats or (new.stats if new and STATS in dropped else auth.stats_password)
    admin = users.admin or (new.admin if new and ADMIN in dropped else auth.admin_password)
    if (stats, admin, users.chosen) == (auth.stats_password, auth.admin_password, auth.chosen):
        return auth
    return auth.with_console(stats=stats, admin=admin, chosen=users.chosen)


def units_behind(facts: Facts) -> tuple[str, ...]:
    """Return the units whose processes lack the passwords of `facts.auth`, or use another auth user than the plan.

    A unit that is being removed gets no new client, and is not waited for.
    """
    auth, plan = facts.auth, facts.plan
    if auth is None or plan is None or plan.upstream is None:
        return ()
    reports = {peer.name: peer.serving for peer in facts.peers if not peer.leaving}
    reports[facts.unit] = facts.serving
    wanted = (auth.generation, plan.upstream.auth_user)
    return tuple(
        name
        for name, serving in reports.items()
        if serving is None or (serving.credentials, serving.auth_user) != wanted
    )

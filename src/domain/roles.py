"""The roles of PostgreSQL that a client may ask for."""

# Attributes of a role that a client may ask for. The other attributes (superuser, replication, bypassrls)
# give rights outside of the client's database at once.
ATTRIBUTES = frozenset({"createdb", "createrole"})

# Groups of the PostgreSQL charms that a client may ask to be a member of.
GROUPS = frozenset(
    {
        "admin",
        "charmed_admin",
        "charmed_backup",
        "charmed_databases_owner",
        "charmed_dba",
        "charmed_dml",
        "charmed_instance_admin",
        "charmed_read",
        "charmed_stats",
    }
)

ROLES = ATTRIBUTES | GROUPS

# Attributes that the PostgreSQL charms give to a user that they add to a group, by the name of the group.
_IMPLIED = {"admin": "createdb"}

# With any of these roles a client can create databases.
DATABASE_CREATORS = frozenset(
    {"admin", "charmed_admin", "charmed_databases_owner", "charmed_instance_admin", "createdb"}
)


def roles_in(text: str) -> tuple[str, ...]:
    """Return the roles in a list that commas separate, in lower case, as PostgreSQL has them."""
    return tuple(filter(None, (role.strip().lower() for role in text.split(","))))


def attributes_of(roles: frozenset[str]) -> frozenset[str]:
    """Return the attributes that a client with these roles has."""
    return frozenset(_IMPLIED.get(role, role) for role in roles) & ATTRIBUTES

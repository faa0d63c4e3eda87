"""Which roles of PostgreSQL may a client ask for?"""

# Attributes of a role that a client may ask for. With each of the others (superuser, replication,
# bypassrls) a client would leave its database at once.
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

# The PostgreSQL charms give the user that they put into this group the attribute, too.
IMPLIED = {"admin": "createdb"}

# With each of these a client can make databases.
ROAMING = frozenset(
    {"admin", "charmed_admin", "charmed_databases_owner", "charmed_instance_admin", "createdb"}
)


def attributes_of(roles: frozenset[str]) -> frozenset[str]:
    """The attributes that a client with these roles has."""
    return frozenset(IMPLIED.get(role, role) for role in roles) & ATTRIBUTES

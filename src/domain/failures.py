"""The sentences of errors that adapters raise and the status shows, with what to do about them.

The adapter that raises an error writes its sentence, with names and reasons in the places of `…`.
docs/reference.md has a row for each of them. `domain.sentences` has all other sentences.
"""

from domain.problems import Kind, Level

POSTGRESQL = (
    Kind(
        Level.BLOCKED,
        "backend-database: … has not given … yet",
        "wait until the PostgreSQL charm is active. If it is, look at its log",
    ),
    Kind(
        Level.BLOCKED,
        "PostgreSQL at … does not answer when user … logs in: …",
        "check the load of PostgreSQL. Every hook tries again",
    ),
    Kind(
        Level.BLOCKED,
        "the connection to PostgreSQL broke off: …",
        "check that PostgreSQL runs, and the network. Every hook tries again",
    ),
    Kind(
        Level.BLOCKED,
        "PostgreSQL at … refuses user …: …",
        "the rest of the sentence is PostgreSQL's reason",
    ),
    Kind(
        Level.BLOCKED,
        "PostgreSQL at … accepts no connections yet: …",
        "wait: PostgreSQL starts, or recovers after a crash. Every hook tries again",
    ),
    Kind(
        Level.BLOCKED,
        "PostgreSQL at … has no connection left for user …: …",
        "lower `max_db_connections`, or raise PostgreSQL's `max_connections`",
    ),
    Kind(
        Level.BLOCKED,
        "PostgreSQL at … is not trusted with user …: it asks for the password in plain text, …",
        "check that the address leads to PostgreSQL. If it does, use `scram-sha-256` in its"
        " `pg_hba.conf`",
    ),
    Kind(
        Level.BLOCKED,
        "PostgreSQL is older than version …: …",
        "relate to PostgreSQL 14 or later",
    ),
    Kind(
        Level.BLOCKED,
        "PostgreSQL has no database …: …",
        "create the database, or relate to PostgreSQL again",
    ),
    Kind(
        Level.BLOCKED,
        "PostgreSQL has no user …: the next hook creates it",
        "wait",
    ),
    Kind(
        Level.BLOCKED,
        "PostgreSQL gives an answer that is not valid: …",
        "check that the address leads to PostgreSQL, and that names there are valid in"
        " their encoding",
    ),
    Kind(
        Level.BLOCKED,
        "PostgreSQL took too long for a statement: …",
        "look at its load. Every hook tries again",
    ),
    Kind(
        Level.BLOCKED,
        "PostgreSQL refuses: …",
        "the rest of the sentence is PostgreSQL's reason",
    ),
    Kind(
        Level.BLOCKED,
        "user … of PostgreSQL cannot …: …",
        "give the user the right that the sentence names",
    ),
    Kind(
        Level.BLOCKED,
        "user … of PostgreSQL lacks a right: …",
        "give the user that right",
    ),
    Kind(
        Level.BLOCKED,
        "the password of … has other than ASCII letters: …",
        "choose an ASCII password",
    ),
    Kind(
        Level.BLOCKED,
        "the name of role … is longer than 63 bytes: …",
        "shorten the name of the role",
    ),
    Kind(
        Level.BLOCKED,
        "schema … in database …",
        "rename or drop the schema or the functions that the sentence names",
    ),
    Kind(
        Level.BLOCKED,
        "role … exists in PostgreSQL and was not made by this application: rename or drop it",
        "rename or drop that role",
    ),
    Kind(
        Level.WAITING,
        "another session keeps something locked in PostgreSQL: …",
        "run the statement in the sentence as a superuser, or let the application end its transaction",
    ),
    Kind(
        Level.ACTIVE,
        "… left in database …: …",
        "look at these triggers, rules and functions before a client with more rights uses"
        " the database",
    ),
)
APPLICATIONS = (
    Kind(
        Level.BLOCKED,
        "… asks for role …, which …: to allow it, run …",
        "run the command if you trust the application with these rights, or change the"
        " roles that it asks for",
    ),
    Kind(
        Level.BLOCKED,
        "… asks for database …, which …: to share it, run …",
        "run the command if the applications may use each other's tables, or change the"
        " database that it asks for",
    ),
    Kind(
        Level.BLOCKED,
        "… asks for more than 20 databases: …",
        "let it ask for fewer databases, or relate it to another pooler",
    ),
    Kind(
        Level.BLOCKED,
        "…: role … of PostgreSQL was given to …, not by this application: run …",
        "run the command in the sentence",
    ),
    Kind(
        Level.BLOCKED,
        "…: PostgreSQL has no role …: …",
        "create the role, or change the roles that the application asks for",
    ),
    Kind(
        Level.BLOCKED,
        "…: role … of PostgreSQL has more power than a client may have: …",
        "take `SUPERUSER`, `REPLICATION` and `BYPASSRLS` away from the role",
    ),
    Kind(
        Level.BLOCKED,
        "…: role … of PostgreSQL is a user, and no group of users: …",
        "run the command in the sentence, or change the roles that the application asks for",
    ),
    Kind(
        Level.BLOCKED,
        "…: role … was created in PostgreSQL and is gone again: …",
        "find out who drops it. Every hook tries again",
    ),
    Kind(
        Level.BLOCKED,
        "…: user … of PostgreSQL cannot give access to database …, which belongs to …: run …",
        "run the command in the sentence",
    ),
    Kind(
        Level.BLOCKED,
        "…: the name of database … is longer than 63 bytes: …",
        "let the application ask for a shorter name",
    ),
    Kind(
        Level.BLOCKED,
        "…: database … appeared in PostgreSQL just now: …",
        "wait: the next hook decides",
    ),
    Kind(
        Level.BLOCKED,
        "…: database … was created in PostgreSQL and is gone again: …",
        "find out who drops it. Every hook tries again",
    ),
    Kind(
        Level.BLOCKED,
        "…: an interrupted DROP DATABASE left database … unusable: run …",
        "run the command in the sentence",
    ),
    Kind(
        Level.BLOCKED,
        "…: database … takes no connections: run …",
        "run the command in the sentence as a superuser",
    ),
    Kind(
        Level.BLOCKED,
        "…: database … takes no more than … connections: run …",
        "run the command in the sentence",
    ),
    Kind(
        Level.BLOCKED,
        "…: database … does not let user … in: …",
        "let the owner undo the setting: `ALTER DATABASE … RESET ALL`",
    ),
    Kind(
        Level.WAITING,
        "…: database … ended the session of user …: …",
        "wait. Every hook tries again",
    ),
    Kind(
        Level.WAITING,
        "…: database … has … objects …: …",
        "drop objects, or raise `max_locks_per_transaction`",
    ),
    Kind(
        Level.WAITING,
        "…: database … lets no session in while user … locks its catalog",
        "end that user's transactions there: `pg_terminate_backend`",
    ),
    Kind(
        Level.WAITING,
        "…: something in database … is locked by …: end its transactions there",
        "end that user's transactions there. Every hook tries again",
    ),
    Kind(
        Level.WAITING,
        "…: database … cannot be made while user … is in template1, …",
        "end that user's sessions in template1",
    ),
    Kind(
        Level.WAITING,
        "… is tried again soon: …",
        "wait: this hook had no time left for PostgreSQL, and the next hook continues",
    ),
    Kind(
        Level.ACTIVE,
        "… has role …, and keeps it: …",
        "run the command in the sentence, or remove the relation",
    ),
    Kind(
        Level.ACTIVE,
        "… has database …, and keeps it: …",
        "run the command in the sentence, or remove the relation",
    ),
)
PGBOUNCER = (
    Kind(
        Level.BLOCKED,
        "PgBouncer refuses the line …",
        "report this: it is a bug of the charm. The configuration before is in force",
    ),
    Kind(
        Level.BLOCKED,
        "PgBouncer refuses its configuration: …",
        "report this: it is a bug of the charm. The configuration before is in force",
    ),
    Kind(
        Level.BLOCKED,
        "PgBouncer does not start: …",
        "the rest of the sentence is PgBouncer's reason",
    ),
    Kind(
        Level.BLOCKED,
        "PgBouncer may not write …: …",
        "change the image as the sentence says, and attach it as resource `pgbouncer-image`",
    ),
    Kind(
        Level.BLOCKED,
        "the pgbouncer container refuses: …",
        "the rest of the sentence is the container's reason, such as a full disk",
    ),
    Kind(
        Level.BLOCKED,
        "the certificate for clients cannot be served (…): …",
        "rotate the key with `set-tls-private-key`, or correct what the authority gives. The"
        " certificate before is served",
    ),
    Kind(
        Level.WAITING,
        "the pgbouncer container does not answer in time: …",
        "wait: the unit tries again within seconds",
    ),
    Kind(
        Level.WAITING,
        "the pgbouncer container went away: …",
        "wait until Kubernetes has started it again",
    ),
    Kind(
        Level.WAITING,
        "PgBouncer process … cannot be asked after its reload: …",
        "wait: the unit reloads the process again within seconds",
    ),
)
KUBERNETES = (
    Kind(
        Level.BLOCKED,
        "Kubernetes forbids a Service: …",
        "run the command in the sentence, or change the quota or rule that it names",
    ),
    Kind(
        Level.WAITING,
        "Kubernetes does not answer: this is tried again",
        "wait. Every hook tries again",
    ),
    Kind(
        Level.WAITING,
        "Kubernetes refuses the Service (…): this is tried again",
        "wait. Every hook tries again",
    ),
    Kind(
        Level.WAITING,
        "Kubernetes refuses the Service (…): …: this is tried again",
        "correct the option that the reason concerns, such as `loadbalancer-extra-annotations`",
    ),
    Kind(
        Level.WAITING,
        "Kubernetes answers something else: this is tried again",
        "check what answers at the address of the Kubernetes API. Every hook tries again",
    ),
)
CERTIFICATES = (
    Kind(
        Level.WAITING,
        "certificates: … is gone: the next hook decides",
        "wait",
    ),
)

KINDS = (*POSTGRESQL, *APPLICATIONS, *CERTIFICATES, *PGBOUNCER, *KUBERNETES)

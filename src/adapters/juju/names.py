"""The names of metadata.yaml. Light to import, for hooks that turn out to have nothing to do."""

PEERS = "pgb-peers"
BACKEND = "backend-database"
CLIENTS = "database"

# The note of a unit that leaves, in its databags.
LEAVING = "departing"

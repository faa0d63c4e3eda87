"""The packed charm: what is in it, and how its hooks run where Juju's agent unpacks it."""

"""The outside: Juju, Pebble, Kubernetes, PostgreSQL, and a machine without any of them."""

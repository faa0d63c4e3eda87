"""The ports over Juju: databags, secrets, options and leadership, by ops."""

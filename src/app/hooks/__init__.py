"""The hooks: what a unit does when Juju, or the command `pooler`, runs a hook."""

"""Pack the charm into the files that `juju deploy` takes. Nothing here is part of the charm."""

"""Pack the charm into the files that `juju deploy` takes. Nothing here is part of the charm."""

import pathlib
import sys

# `pooler.cache` knows the directory of downloads, and needs the standard library only.
sys.path.append(str(pathlib.Path(__file__).parents[1] / "src"))

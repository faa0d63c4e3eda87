"""Pack the charm for each platform of charmcraft.yaml, and print the SHA-256 sums of the files.

    python -m packing [--to DIRECTORY]
    python -m packing --tree DIRECTORY --platform ubuntu@24.04:amd64   # not packed: for charmcraft

Two runs with the same sources and the same Python write the same bytes.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile

from packing import archive, recipe, tree
from packing.failed import Failed
from packing.report import Report


def main(words: list[str]) -> int:
    """Pack, and return the exit status."""
    parser = argparse.ArgumentParser(prog="packing", description="Pack the charm.")
    parser.add_argument(
        "--to", type=pathlib.Path, default=pathlib.Path(), help="where the files go"
    )
    parser.add_argument(
        "--tree",
        type=pathlib.Path,
        help="lay out the files of --platform here, and do not pack them",
    )
    parser.add_argument("--platform", help="the only platform, as charmcraft.yaml names it")
    arguments = parser.parse_args(words)
    if arguments.tree and not arguments.platform:
        parser.error("--tree needs --platform")
    report = Report()
    try:
        # A wrong date is told before the work.
        archive.date()
        if arguments.tree:
            arguments.tree.mkdir(parents=True, exist_ok=True)
            tree.lay_out(arguments.tree, recipe.platform(arguments.platform), report)
            return 0
        made = recipe.read()
        chosen = [recipe.platform(arguments.platform)] if arguments.platform else made.platforms
        arguments.to.mkdir(parents=True, exist_ok=True)
        sums = [_pack(made.name, platform, arguments.to, report) for platform in chosen]
    except Failed as failed:
        print(failed, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename} cannot be used: {error.strerror}", file=sys.stderr)
        return 1
    print("\n".join(sums))
    return 0


def _pack(name: str, platform: recipe.Platform, folder: pathlib.Path, report: Report) -> str:
    """Write the file of a platform, and return its line of sums, as sha256sum prints it."""
    target = folder / f"{name}_{platform.base.replace('@', '-')}-{platform.architecture}.charm"
    with tempfile.TemporaryDirectory(prefix="packing-") as directory:
        root = pathlib.Path(directory)
        tree.lay_out(root, platform, report)
        (root / "manifest.yaml").write_text(archive.manifest(platform.base, platform.architecture))
        report.say(f"{platform.architecture}: writes {target.name}")
        return f"{archive.write(root, target)}  {target.name}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

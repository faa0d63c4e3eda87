"""Give a text to a library that reads it from a file, without a file on a disk."""

import functools
import os


@functools.cache
def path_of(text: str) -> str:
    """Return the path of a file in memory with this text, which this process alone can read by the path.

    The file stays until the process ends, because the thread of an abandoned login may read it late.
    """
    descriptor = os.memfd_create("pgbouncer-k8s", os.MFD_CLOEXEC)
    with open(descriptor, "w", closefd=False) as file:
        file.write(text)
    return f"/proc/self/fd/{descriptor}"

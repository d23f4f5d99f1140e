"""The process that is Snakemake: its command line, ended together with the one who started it.

Started as ``python -m iavlib.book.snakemake_worker OPTIONS`` by
:mod:`iavlib.book.engine`.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from iavlib.core.processes import end_with_parent

_INTERRUPTED = 130


def main(options: list[str]) -> None:
    """Run Snakemake.

    Parameters
    ----------
    options : list of str
        Its command line.
    """
    end_with_parent(before=_end_jobs)
    try:
        from snakemake.cli import main as snakemake

        snakemake(options)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _end_jobs() -> None:
    """End the jobs on this machine: Snakemake would wait until they have finished.

    Theirs are the processes of our group; notebooks and kernels notice by themselves.
    """
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(child.pid) == os.getpgid(0):
                child.terminate()


if __name__ == "__main__":
    main(sys.argv[1:])

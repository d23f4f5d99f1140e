"""The process that is Snakemake: its command line, ended together with the one who started it.

Started as ``python -m iavlib.execution.snakemake_worker OPTIONS`` by
:mod:`iavlib.execution.engine`.
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress

from iavlib.execution.orphans import end_with_parent


def main(options: list[str]) -> None:
    """Run Snakemake.

    Parameters
    ----------
    options : list of str
        Its command line.
    """
    end_with_parent(before=_interrupt_jobs)
    from snakemake.cli import main as snakemake

    snakemake(options)


def _interrupt_jobs() -> None:
    """Interrupt the jobs on this machine: Snakemake would wait until they have finished."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.send_signal(signal.SIGINT)


if __name__ == "__main__":
    main(sys.argv[1:])

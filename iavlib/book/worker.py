"""The processes in which papermill and Snakemake run; both end with the process that started them.

``python -m iavlib.book.worker notebook RUN.json``, started by :mod:`iavlib.book.notebooks`,
executes one notebook. It uses papermill's Python interface and not its command line because only
there a kernel can be given IPC sockets: parallel runs then cannot compete for ports.

``python -m iavlib.book.worker snakemake OPTIONS``, started by :mod:`iavlib.book.plan`, is
Snakemake's command line.
"""

import json
import logging
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from iavlib.core.processes import end_with_parent

#: Longest path of a Unix socket that Linux and macOS both take.
_LONGEST_SOCKET_PATH = 100
_KERNEL_START_SECONDS = 300
#: A busy machine may be this late with an output without being broken.
_OUTPUT_LATENCY_SECONDS = 120


def execute_notebook(job_file: str) -> None:
    """Execute the notebook that a job file describes.

    Parameters
    ----------
    job_file : str
        JSON with ``input``, ``output``, ``folder`` (the kernel's working
        folder) and ``parameters`` (those to inject).
    """
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    end_with_parent()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    logging.getLogger("papermill").setLevel(logging.INFO)
    # jsonschema, were it to find this, would build a grammar for over a second on being imported,
    # to check international addresses, of which notebook files hold none
    sys.modules["rfc3987_syntax"] = None
    import papermill

    with tempfile.TemporaryDirectory(prefix="iav-") as folder:
        # personal start-up files and settings could change results, and a home may be read-only
        for name in ("IPYTHONDIR", "MPLCONFIGDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
            os.environ[name] = os.path.join(folder, name.lower())
        papermill.execute_notebook(
            job["input"],
            job["output"],
            job["changed"],
            kernel_name="python3",
            cwd=job["folder"],
            progress_bar=False,
            log_output=True,
            start_timeout=_KERNEL_START_SECONDS,
            iopub_timeout=_OUTPUT_LATENCY_SECONDS,
            config=_kernel_config(folder),
        )


def _kernel_config(folder: str) -> Any:
    """Put the kernel's sockets into a private folder; TCP where IPC cannot be used."""
    from traitlets.config import Config

    connection_file = os.path.join(folder, "kernel.json")
    if os.name == "nt" or len(connection_file) > _LONGEST_SOCKET_PATH:
        return Config()
    return Config(KernelManager={"transport": "ipc", "connection_file": connection_file})


def run_snakemake(*options: str) -> None:
    """Run Snakemake with these options of its command line."""
    end_with_parent(before=_end_jobs)
    try:
        from snakemake.cli import main as snakemake

        snakemake(list(options))
    except KeyboardInterrupt:
        sys.exit(130)


def _end_jobs() -> None:
    """End the jobs on this machine: Snakemake would wait until they have finished.

    They are the processes of our group; notebooks and kernels notice by themselves.
    """
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(child.pid) == os.getpgid(0):
                child.terminate()


if __name__ == "__main__":
    {"notebook": execute_notebook, "snakemake": run_snakemake}[sys.argv[1]](*sys.argv[2:])

"""The process that executes one notebook: papermill with a kernel of its own.

Started as ``python -m iavlib.book.worker JOB.json`` by
:mod:`iavlib.book.notebooks`. It is papermill's Python interface and not its
command line because only there a kernel can be given IPC sockets: parallel runs
then cannot fight for ports.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from iavlib.core.processes import end_with_parent

#: Longest path of a Unix socket that Linux and macOS both take.
_LONGEST_SOCKET_PATH = 100
_KERNEL_START_SECONDS = 300
#: A busy machine may be this late with an output without being broken.
_OUTPUT_LATENCY_SECONDS = 120


def main(job_file: str) -> None:
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
        # profiles and start-up files of the user's IPython could change results
        os.environ["IPYTHONDIR"] = os.path.join(folder, "ipython")
        papermill.execute_notebook(
            job["input"],
            job["output"],
            job["parameters"],
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


if __name__ == "__main__":
    main(sys.argv[1])

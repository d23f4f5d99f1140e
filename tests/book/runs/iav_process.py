"""The command line in a process of its own."""

import subprocess
import sys


def start_iav(project, *arguments, **options):
    """Start a command in a process of its own."""
    command = [sys.executable, "-m", "iavlib", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=project.root, text=True, **pipes, **options)


def iav(project, *arguments, **options):
    """Run a command in a process of its own; return its status, output and errors."""
    process = start_iav(project, *arguments, **options)
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors

"""``python -m iavlib``: the command line."""

from iavlib.cli.main import app

app()

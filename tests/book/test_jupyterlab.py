"""Notebooks in JupyterLab: a person there sees every sentence that a reader of the book sees."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import pytest

pytestmark = pytest.mark.thorough

#: Small values, so that a page takes seconds.
PARAMETERS = {
    "01_data_analysis": {"n_checked": 5, "n_images": 30},
    "02_iaa_malignancy": {"n_images": 60, "n_boot": 50, "n_permutations": 50},
    "06_baseline_cm": {"n_images": 30},
}
_SECONDS = 240


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def lab(project_copy, tmp_path_factory):
    """Address of a JupyterLab that serves a copy of the project, no notebook windowed."""
    root = tmp_path_factory.mktemp("lab")
    settings = root / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    for stem, values in PARAMETERS.items():
        path = project_copy / "notebooks" / f"{stem}.ipynb"
        notebook = json.loads(path.read_text())
        for cell in notebook["cells"]:
            if "parameters" in cell["metadata"].get("tags", []):
                lines = "".join(cell["source"]) + "".join(f"\n{k} = {v}" for k, v in values.items())
                cell["source"] = lines
        path.write_text(json.dumps(notebook))
    port = _free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--expose-app-in-browser", "--IdentityProvider.token=", "--ServerApp.password="]
    environment = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(root / "settings"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTERLAB_WORKSPACES_DIR": str(root / "workspaces"),
        "JUPYTER_RUNTIME_DIR": str(root / "runtime"),
        "IAV_CACHE_HOME": str(root / "cache"),
        "IAV_RUNS": str(root / "runs"),
        "IAV_DATA_HOME": str(root / "nothing"),
        "OMP_NUM_THREADS": "1",
    }
    with (root / "log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=project_copy, env=environment, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            with suppress(OSError), urllib.request.urlopen(f"{address}/api") as answer:
                if answer.status == 200:
                    break
            assert server.poll() is None, (root / "log").read_text()
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def _wait(browser, script, seconds=_SECONDS):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(Exception):
            if value := browser.execute_script(f"return {script}"):
                return value
        time.sleep(0.5)
    raise AssertionError(f"not so within {seconds} s: {script}")


_PANEL = "window.jupyterapp.shell.currentWidget"
_MARKS = r"\{glue|\{cite|\{doc\}|<IPython|Markdown object"


@pytest.mark.parametrize("stem", list(PARAMETERS))
def test_all_cells_run_and_every_sentence_is_rendered(lab, browser, stem):
    browser.get(f"{lab}/lab/tree/notebooks/{stem}.ipynb?reset")
    _wait(browser, f"window.jupyterapp && {_PANEL} && {_PANEL}.sessionContext.isReady")
    browser.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    last = f"{_PANEL}.content.model.cells.get({_PANEL}.content.model.cells.length - 1)"
    _wait(browser, f"{last}.executionCount")
    failed = browser.execute_script(
        f"return Array.from({_PANEL}.content.model.cells).filter(c => c.type == 'code' &&"
        " c.outputs && c.outputs.toJSON().some(o => o.output_type == 'error'))"
        ".map(c => c.sharedModel.source)"
    )
    assert not failed
    time.sleep(1)  # Markdown is rendered asynchronously
    text = browser.execute_script(f"return {_PANEL}.content.node.innerText")
    assert not re.findall(_MARKS, text)
    assert "recorded" in text  # the last cell tells that the run may enter the book
    markdown = browser.execute_script(
        f"return Array.from({_PANEL}.content.model.cells).filter(c => c.type == 'code')"
        ".flatMap(c => c.outputs.toJSON()).filter(o => o.data && o.data['text/markdown'])"
        ".map(o => o.data['text/markdown'])"
    )
    assert len(markdown) > 3
    plain = re.sub(r"\W", "", text)
    for source in markdown:  # compared without markup
        source = "".join(source)
        words = re.sub(r"<[^>]*>|\]\([^)]*\)|\$[^$]*\$", " ", source)
        for sentence in re.split(r"\s\s|\n|[$]", words):
            assert re.sub(r"\W", "", sentence) in plain, sentence
    pictures = browser.execute_script(
        f"return Array.from({_PANEL}.content.node.querySelectorAll('figure img'))"
        ".map(i => [i.naturalWidth, i.closest('figure').innerText])"
    )
    assert pictures and all(width > 0 and caption.strip() for width, caption in pictures)

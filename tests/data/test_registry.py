"""Downloads: a server on this machine that answers well, badly, half or not at all."""

import hashlib
import http.server
import threading

import pytest
from typer.testing import CliRunner

from iavlib.cli.main import data_app as app
from iavlib.core.errors import FetchError
from iavlib.data.datasets import imapp as registry

CONTENT = b"img_id,mask1\n" * 500
NAME = "table.csv"


class Server(http.server.ThreadingHTTPServer):
    """Serves ``CONTENT`` in a manner that each test chooses; counts the requests."""

    manner, requests = "well", 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        manner = self.server.manner
        if manner == "busy once":
            manner = "busy" if self.server.requests == 1 else "well"
        if manner == "busy" or "missing" in self.path:
            self.send_error(503 if manner == "busy" else 404)
            return
        body = CONTENT.replace(b"mask1", b"mask9") if manner == "lies" else CONTENT
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if manner == "hangs up" else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(
        registry, "IMAPP_TABLES", {NAME: hashlib.sha256(CONTENT).hexdigest()}, raising=True
    )
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    with Server(("127.0.0.1", 0), Handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield http_server
        http_server.shutdown()


def fetch(server, **options):
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    return registry.fetch_imapp_tables(base_urls=(address,), **{"attempts": 2} | options)


def test_fetched_once_and_verified(server, tmp_path):
    (path,) = fetch(server)
    assert path == tmp_path / "imapp" / NAME
    assert path.read_bytes() == CONTENT
    fetch(server)
    assert server.requests == 1


def test_a_busy_server_is_asked_again(server):
    server.manner = "busy once"
    assert fetch(server)[0].read_bytes() == CONTENT


def test_tries_are_bounded(server):
    server.manner = "busy"
    with pytest.raises(FetchError, match=r"503"):
        fetch(server, attempts=3)
    assert server.requests == 3


@pytest.mark.parametrize("manner", ["lies", "hangs up"])
def test_a_bad_download_never_replaces_a_file(server, tmp_path, manner):
    (tmp_path / "imapp").mkdir()
    old = tmp_path / "imapp" / NAME
    old.write_text("my own edits")
    server.manner = manner
    with pytest.raises(FetchError, match="file that is there was kept"):
        fetch(server)
    assert old.read_text() == "my own edits"
    assert [p.name for p in old.parent.iterdir()] == [NAME]


def test_a_damaged_file_is_replaced_by_a_good_one(server, tmp_path):
    (tmp_path / "imapp").mkdir()
    (tmp_path / "imapp" / NAME).write_text("half a tab")
    assert fetch(server)[0].read_bytes() == CONTENT


def test_the_next_address_is_tried(server):
    good = f"http://127.0.0.1:{server.server_address[1]}/"
    (path,) = registry.fetch_imapp_tables(attempts=1, base_urls=(good + "missing/", good))
    assert path.read_bytes() == CONTENT
    assert server.requests == 2


def test_no_network(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(FetchError, match=r"ConnectionError.*by hand"):
        fetch(server, timeout=0.5)
    assert list(tmp_path.rglob("*.csv")) == []


def test_a_data_home_that_cannot_be_made(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(FetchError, match="Set IAV_DATA_HOME"):
        fetch(server)


def test_command_fails_unless_optional(monkeypatch):
    def no_network(*args):
        raise FetchError("table.csv could not be downloaded")

    monkeypatch.setattr(registry, "fetch_imapp_tables", no_network)
    runner = CliRunner()
    assert runner.invoke(app, ["fetch", "imapp"]).exit_code == 1
    result = runner.invoke(app, ["fetch", "imapp", "--optional"])
    assert result.exit_code == 0
    assert "not fetched: table.csv" in result.output
    assert runner.invoke(app, ["fetch", "nothing"]).exit_code == 2

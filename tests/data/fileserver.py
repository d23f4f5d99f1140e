"""A server on this machine that serves files well, badly, half or not at all."""

import http.server
import json
import re
import threading
import time
from contextlib import contextmanager, suppress


class FileServer(http.server.ThreadingHTTPServer):
    """Serves ``files`` (path to bytes), each file in the next of ``manners``, else in ``manner``.

    ``asked`` lists path and Range of every request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.manners, self.manner, self.asked = {}, [], "well", []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def publish(self, record: str, files: dict[str, bytes], md5s: dict[str, str]) -> None:
        """Serve a record as Zenodo does, with the content of its files."""
        entries = []
        for name, content in files.items():
            path = f"/records/{record}/files/{name}/content"
            self.files[path] = content
            entries.append(
                {
                    "key": name,
                    "size": len(content),
                    "checksum": f"md5:{md5s[name]}",
                    "links": {"self": self.address + path},
                }
            )
        answer = json.dumps({"id": int(record), "files": entries}).encode()
        self.files[f"/records/{record}"] = answer


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        if self.path not in server.files:
            self.send_error(404)
            return
        body = server.files[self.path]
        manner = server.manner
        if server.manners and not body.startswith(b"{"):
            manner = server.manners.pop(0)
        if manner.isdigit():
            self.send_response(int(manner))
            self.send_header("Retry-After", "7")
            self.end_headers()
            return
        start = 0
        wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and manner != "ignores range":
            start = int(wanted[1])
            self.send_response(206)
            told = start + 5 if manner == "wrong range" else start
            self.send_header("Content-Range", f"bytes {told}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send(manner, body[start:])

    def send(self, manner: str, rest: bytes) -> None:
        half = len(rest) // 2
        length = {
            "understates length": half,
            "overstates length": len(rest) + 1000,
            "sends more": len(rest) + 1000,
        }.get(manner, len(rest))
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if manner == "lies":
            rest = bytes(reversed(rest))
        if manner == "sends more":
            rest += bytes(1000)
        self.wfile.write(rest[:half] if manner in ("hangs up", "stalls") else rest)
        if manner == "stalls":
            self.wfile.flush()
            time.sleep(0.8)

    def log_message(self, *args):
        pass

    def handle(self):
        # The client goes away in the middle, as some of the tests make it do.
        with suppress(ConnectionError):
            super().handle()


@contextmanager
def serving():
    with FileServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()

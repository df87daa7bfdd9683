"""The live page of a study, served on this machine alone.

Every request must name this machine as its host (a page of another site cannot, whatever its name
resolves to), and carry the token of the address that `foretune watch` prints (another user of this
machine does not know it). Only a POST from the page itself changes anything: it asks for the end of
the run.
"""

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from foretune.errors import BadInput
from foretune.running.presence import request_stop, running
from foretune.views.live import Watched, frame

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
TOKEN = "X-Foretune-Token"
HOSTS = ("127.0.0.1", "localhost")


class LiveServer(ThreadingHTTPServer):
    """Serves the live page of the study in `folder` on 127.0.0.1; port 0 takes a free one.

    Raises `BadInput` for a study that cannot be read, and for a port that is taken.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0):
        self.folder, self.token = folder, secrets.token_urlsafe(18)
        self.watched = Watched(folder)
        try:
            super().__init__((HOSTS[0], port), Live)
        except (OSError, OverflowError) as error:
            raise BadInput(
                f"port {port} cannot be served: {error}; --port 0 takes a free one"
            ) from (error)

    @property
    def address(self) -> str:
        """Where the page is, token included."""
        return f"http://{HOSTS[0]}:{self.server_port}/?token={self.token}"


@contextmanager
def served(folder: Path) -> Iterator[LiveServer]:
    """The live page of a study beside whatever this process does, on a thread of its own. Raises as
    `LiveServer`.
    """
    with LiveServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Live(BaseHTTPRequestHandler):
    """Answers the requests of the live page."""

    server: LiveServer
    timeout = 30  # seconds for a request to arrive

    def do_GET(self) -> None:
        """The page, or what changed of it since the version that the script has seen."""
        url = urlsplit(self.path)
        given = {name: values[-1] for name, values in parse_qs(url.query).items()}
        token = given.get("token", "") if url.path == "/" else self.headers.get(TOKEN, "")
        if not self._allowed(token):
            return
        match url.path:
            case "/":
                self._send("text/html", frame(self.server.folder, self.server.token))
            case "/live":
                self._live(given.get("seen", ""))
            case _:
                self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

    def do_POST(self) -> None:
        """Ask for the end of the run."""
        if not self._allowed(self.headers.get(TOKEN, "")):
            return
        if self.headers.get("Origin") != f"http://{self.headers['Host']}":
            self._refuse(HTTPStatus.FORBIDDEN, "only the live page itself may stop a study")
        elif urlsplit(self.path).path != "/stop":
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
        else:
            try:
                request_stop(self.server.folder)
            except BadInput as error:
                self._refuse(HTTPStatus.CONFLICT, str(error))
            else:
                self._send("application/json", json.dumps({"stopping": True}))

    def _live(self, seen: str) -> None:
        try:
            version, html = self.server.watched()
        except (BadInput, OSError) as error:
            self._refuse(HTTPStatus.CONFLICT, f"the study cannot be read: {error}")
            return
        now: dict[str, Any] = {"version": version}
        if str(version) != seen:
            now |= {"html": html, "running": running(self.server.folder) is not None}
        self._send("application/json", json.dumps(now))

    def _allowed(self, token: str) -> bool:
        """Whether a request is for this machine and has the token; it is refused otherwise."""
        if self.headers.get("Host", "").partition(":")[0] not in HOSTS:
            self._refuse(HTTPStatus.FORBIDDEN, "this is served to its own machine alone")
            return False
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            self._refuse(HTTPStatus.FORBIDDEN, "open the address that foretune watch printed")
            return False
        return True

    def _refuse(self, status: HTTPStatus, problem: str) -> None:
        self._send("application/json", json.dumps({"problem": problem}), status)

    def _send(self, kind: str, text: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        content = text.encode()
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to the study, and addresses hold the token."""

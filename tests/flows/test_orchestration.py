"""What the service tells Prefect's server; with a stand-in for the server, which is slow to
start.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import orchestration as module
import pytest
from orchestration import LOST_SECONDS, Api, automations
from prefect_api import LEASE_SECONDS, LOOK_SECONDS

BASIC = "Basic dXNlcjpzZWNyZXQ="  # base64 of user:secret


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any], list[int]]]:
    """A server that hands out a token, notes each call, and answers with the statuses it is
    given.
    """
    calls: list[Any] = []
    answers: list[int] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, {"token": "t", "client": "c"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            calls.append((self.path, self.headers, json.loads(body)))
            self.answer(answers.pop(0) if answers else 200, {"said": "well"})

        def answer(self, status: int, content: Any) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *given: Any) -> None:
            pass

    made = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}/api", calls, answers
    made.shutdown()
    made.server_close()


def test_each_call_brings_the_login_and_a_token(server: Any) -> None:
    address, calls, _ = server
    assert Api(address, "user:secret").ask("/x", {"a": 1}) == {"said": "well"}
    ((path, headers, body),) = calls
    assert (path, body, headers["Authorization"]) == ("/api/x", {"a": 1}, BASIC)
    assert headers["Prefect-Csrf-Token"] == "t" and headers["Prefect-Csrf-Client"]


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, calls, answers = server
    waited: list[float] = []
    monkeypatch.setattr(module.time, "sleep", waited.append)
    answers += [503, 503]
    assert Api(address, "user:secret").ask("/x", {}) == {"said": "well"}
    assert len(calls) == 3 and waited == list(module.WAITS[:2])
    answers += [403]
    with pytest.raises(httpx.HTTPStatusError):
        Api(address, "user:secret").ask("/x", {})
    answers += [503] * 20
    with pytest.raises(httpx.HTTPStatusError):
        Api(address, "user:secret").ask("/x", {})
    assert len(calls) == 4 + len(module.WAITS)


@pytest.mark.parametrize("automation", automations(), ids=lambda a: a["name"])
def test_automations_are_as_prefect_reads_them(automation: dict[str, Any]) -> None:
    from prefect.server.events.schemas.automations import AutomationCore

    read = AutomationCore.model_validate(automation)
    assert read.enabled and len(read.actions) == 1


def test_a_run_gives_up_before_its_slot_is_given_away() -> None:
    last_heard = module.HEARTBEAT_SECONDS  # at most, before it was cut off
    assert LOST_SECONDS - last_heard > LEASE_SECONDS + 2 * LOOK_SECONDS

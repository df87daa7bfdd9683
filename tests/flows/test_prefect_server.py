"""Which requests reach Prefect: those for this server's own names, from its own pages or from no
page.
"""

import asyncio
from typing import Any

import pytest
from prefect_server import OwnAddress, hosts, names, origins

OWN = names("127.0.0.1")


def ask(headers: dict[str, str], kind: str = "http") -> tuple[bool, list[Any]]:
    """Whether a request got through, and what was answered where it did not."""
    reached, sent = [], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)

    async def receive() -> dict[str, str]:
        return {"type": f"{kind}.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(k.encode(), v.encode()) for k, v in headers.items()]
    guarded = OwnAddress(app, hosts(OWN, 4200), origins(OWN, 4200))
    asyncio.run(guarded({"type": kind, "headers": raw}, receive, send))
    return bool(reached), sent


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"host": "127.0.0.1:4200"}, True),
        ({"host": "localhost:4200", "origin": "http://localhost:4200"}, True),
        ({"host": "LOCALHOST:4200", "origin": "http://127.0.0.1:4200"}, True),
        ({"host": "[::1]:4200"}, True),
        ({"host": "rebound.evil.example:4200"}, False),
        ({"host": "127.0.0.1.evil.example:4200"}, False),
        ({"host": "127.0.0.1:4201"}, False),
        ({"host": "127.0.0.1"}, False),
        ({"host": ""}, False),
        ({}, False),
        ({"host": "127.0.0.1:4200", "origin": "https://evil.example"}, False),
        ({"host": "127.0.0.1:4200", "origin": "http://127.0.0.1:5000"}, False),
        ({"host": "127.0.0.1:4200", "origin": "https://127.0.0.1:4200"}, False),
        ({"host": "127.0.0.1:4200", "origin": "http://127.0.0.1:4200.evil.example"}, False),
        ({"host": "127.0.0.1:4200", "origin": "null"}, False),
    ],
)
def test_only_own_names_and_own_pages_get_through(
    kind: str, headers: dict[str, str], passes: bool
) -> None:
    reached, sent = ask(headers, kind)
    assert reached is passes
    if kind == "http":
        assert [m["status"] for m in sent if "status" in m] == ([] if passes else [403])
    else:
        assert [m["type"] for m in sent] == ([] if passes else ["websocket.close"])


def test_a_second_host_header_is_no_way_round() -> None:
    guarded = OwnAddress(lambda *_: None, hosts(OWN, 4200), ())  # type: ignore[arg-type, return-value]
    both = [(b"host", b"127.0.0.1:4200"), (b"host", b"evil.example")]
    assert guarded.refusal(both) == "Host names another server than this one"


def test_the_applications_start_and_end_pass() -> None:
    assert ask({}, "lifespan")[0]


def test_a_server_on_all_addresses_goes_by_the_machines_and_by_what_it_is_told() -> None:
    import socket

    found = names("0.0.0.0", ["Head.Example"])
    assert {"127.0.0.1", "localhost", socket.gethostname().lower(), "head.example"} <= set(found)
    assert "0.0.0.0" not in hosts(found, 4200)
    assert names("10.0.0.1") == ("10.0.0.1",)


def test_port_80_is_left_out_by_browsers() -> None:
    assert hosts(["a.example", "::1"], 80) == ("a.example:80", "[::1]:80", "a.example", "[::1]")
    assert origins(["a.example"], 8080) == ("http://a.example:8080",)

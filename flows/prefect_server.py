"""Prefect's server for this service's own addresses alone: a request that asks for another host
(DNS rebinding), or comes from a page of another origin, is refused before Prefect sees it.

    python -m prefect_server --host HOST --port PORT [--name NAME ...]

Prefect checks the login (`PREFECT_SERVER_API_AUTH_STRING`) and its token against forged requests
(`PREFECT_SERVER_CSRF_PROTECTION_ENABLED`); it checks neither `Host` nor, of WebSockets, `Origin`.
"""

import argparse
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any

import psutil

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ANY = ("0.0.0.0", "::")


def names(host: str, more: Iterable[str] = ()) -> tuple[str, ...]:
    """The names by which a server that listens on `host` may be asked for: of loopback, all three
    of its names; of all addresses, those and the machine's; else the address itself.
    """
    if host in LOOPBACK:
        own: list[str] = list(LOOPBACK)
    elif host in ANY:
        cards = psutil.net_if_addrs().values()
        addresses = [a.address for card in cards for a in card if a.family in FAMILIES]
        own = [*LOOPBACK, socket.gethostname(), *(a.partition("%")[0] for a in addresses)]
    else:
        own = [host]
    return tuple(dict.fromkeys(name.lower() for name in (*own, *more)))


FAMILIES = (socket.AF_INET, socket.AF_INET6)


def hosts(names: Iterable[str], port: int) -> tuple[str, ...]:
    """The values of the header `Host` that name this server: a browser leaves out port 80 alone."""
    plain = [f"[{name}]" if ":" in name else name for name in names]
    return tuple(f"{name}:{port}" for name in plain) + (tuple(plain) if port == 80 else ())


def origins(names: Iterable[str], port: int) -> tuple[str, ...]:
    """The values of the header `Origin` of this server's own pages."""
    return tuple(f"http://{host}" for host in hosts(names, port))


class OwnAddress:
    """ASGI middleware: lets a request through that names one of `hosts` and comes from a page of
    one of `origins`, or from no page at all; others get status 403, WebSockets too.
    """

    def __init__(self, app: App, hosts: Iterable[str], origins: Iterable[str]):
        self.app, self.hosts, self.origins = app, frozenset(hosts), frozenset(origins)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        reason = self.refusal(scope["headers"])
        if reason is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": f"{reason}\n".encode()})

    def refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Why a request with these headers is refused; None if it is not."""
        given = [(name, value.decode("latin-1").lower()) for name, value in headers]
        asked = [value for name, value in given if name == b"host"]
        if len(asked) != 1 or asked[0] not in self.hosts:
            return "Host names another server than this one"
        if any(value not in self.origins for name, value in given if name == b"origin"):
            return "Origin is not a page of this server"
        return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until it is told to end."""
    parser = argparse.ArgumentParser(prog="python -m prefect_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4200)
    parser.add_argument(
        "--name", action="append", default=[], help="under which others reach this server"
    )
    given = parser.parse_args(argv)
    import uvicorn
    from prefect.server.api.server import create_app

    own = names(given.host, given.name)
    # around the app, not in it: Prefect's own services call the app as host "prefect-in-memory"
    app = OwnAddress(create_app(final=True), hosts(own, given.port), origins(own, given.port))
    uvicorn.run(app, host=given.host, port=given.port, log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How long a connection may take to ask for something, and how many of them one address may have.

The guard hears of a request only when its head has come whole; until then it costs a connection, of which the
system gives a program about a thousand.
"""

from __future__ import annotations

import asyncio

import h11
from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from ui.doors import limits

CONNECTIONS = 600
"""Connections of one address, asking or not; fifty pages of a machine have half as many at the most."""


def config(app: ASGIApp) -> Config:
    """How uvicorn serves the program. What a proxy says of a request is the guard's to read
    (`limits.callers`)."""
    return Config(
        app,
        http=PatientProtocol,
        ws="none",
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )


class PatientProtocol(H11Protocol):
    """uvicorn's, which closes a connection whose request's head does not come whole in time."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        there = sum(_address(one) == _address(self) for one in self.connections)
        if there > CONNECTIONS:
            transport.abort()
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        super().connection_lost(exc)

    def _wait(self) -> None:
        """Waits for a head that is yet to come; however slowly it comes, it is waited for once."""
        if self.conn.their_state is not h11.IDLE:
            self._rest()
        elif self._late is None:
            self._late = self.loop.call_later(limits.PATIENCE, self.transport.abort)

    def _rest(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def _address(connection: object) -> str:
    client = getattr(connection, "client", None)
    return str(client[0]) if client else ""

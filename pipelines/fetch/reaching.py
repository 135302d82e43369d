"""Where a fetch may lead: to the internet, and to the hub that the person configured; asked at every hop.

A name tells nothing of where it leads, and may lead elsewhere when it is asked a second time (DNS rebinding).
So what counts is the address that a connection has, before anything is sent over it.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from pipelines.fetch.problems import FetchProblem

TIMEOUT = 15.0
"""Seconds without a byte after which a connection counts as cut."""
MOST_HOPS = 20
"""How often one address may lead to another."""

LOCAL_NAMES = (".localhost", ".local", ".internal", ".lan")
STAND_INS = ip_network("198.18.0.0/15")
"""What tunnels answer in the place of public addresses; no network of a house has them."""
TRANSLATED = ip_network("64:ff9b::/96")
"""IPv4 addresses as a network of IPv6 alone writes them."""
OTHERS = (ip_network("fec0::/10"), ip_network("168.63.129.16/32"))
"""Inside too: old local addresses of IPv6, and one that a cloud answers its own machines under."""

INSIDE = (
    "This address {} inside this computer or its own network, where nothing is fetched from: copy the file "
    "into a models folder instead, or name a mirror of your own by HF_ENDPOINT before the start."
)


def origin(url: str) -> tuple[str, str, int | None]:
    """(scheme, host, port) of an address."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port


def inside(address: str) -> bool:
    """Whether an IP address is this computer's or of a network of its own or of a cloud's."""
    found = ip_address(address)
    if isinstance(found, IPv6Address):
        held = IPv4Address(int(found) & 0xFFFFFFFF) if found in TRANSLATED else None
        held = held or found.ipv4_mapped or found.sixtofour or (found.teredo and found.teredo[1]) or None
        if held is not None:
            return inside(str(held))
    if found in STAND_INS:
        return False
    strange = found.is_multicast or found.is_reserved or any(found in network for network in OTHERS)
    return strange or not found.is_global


def says_inside(host: str) -> bool:
    """Whether a host's very name says that it is this computer or one of its network."""
    name = host.lower().rstrip(".")
    try:
        return inside(name)
    except ValueError:
        return name == "localhost" or name.endswith(LOCAL_NAMES)


@contextlib.contextmanager
def opened(url: str, headers: Mapping[str, str], home: str) -> Iterator[Any]:
    """The answer of an address, or of where it leads, as it comes; closed at the end.

    home: the host that the person configured. It may lie inside and lead on inside; nothing else leads there.
    Goes over huggingface_hub's session: proxies and offline mode are as it has them. Raises `FetchProblem`
    and httpx2's errors.
    """
    import httpx2
    from huggingface_hub import get_session

    free = origin(url)[1] == home
    request = get_session().build_request("GET", url, headers=dict(headers), timeout=TIMEOUT)
    for hop in range(MOST_HOPS):
        if free:
            response = get_session().send(request, stream=True, follow_redirects=False)
        else:
            _watch(request, f"leads to {_host(request)}," if hop else "lies")
            response = _outside(get_session()).send(request, stream=True, follow_redirects=False)
        if not response.has_redirect_location:
            break
        response.close()
        if response.next_request is None:
            raise httpx2.RemoteProtocolError("The address leads to what is no address.", request=request)
        free = free and _lies_inside(_host(request))
        request = response.next_request
    else:
        raise httpx2.TooManyRedirects("The address leads from one to another without end.", request=request)
    try:
        yield response
    finally:
        response.close()


@lru_cache(maxsize=1)
def _outside(session: Any) -> Any:
    """A session like huggingface_hub's whose every connection was watched when it was made: one that is kept
    open leads nowhere else."""
    import httpx2

    return httpx2.Client(event_hooks=session.event_hooks, headers=session.headers, timeout=None)


def _host(request: Any) -> str:
    return str(request.url.raw_host.decode("ascii"))


def _watch(request: Any, leads: str) -> None:
    """Has the request refused where it would go inside."""
    host, direct = _host(request), False

    def trace(event: str, info: Mapping[str, Any]) -> None:
        nonlocal direct
        if event.endswith(".connect_tcp.started"):
            direct = info["host"] == host
            if not direct and _lies_inside(host):  # by way of a proxy, which alone knows where it goes
                raise FetchProblem(INSIDE.format(leads))
        elif direct and event.endswith(".connect_tcp.complete"):
            made = info["return_value"]
            if inside(made.get_extra_info("server_addr")[0]):
                made.close()
                raise FetchProblem(INSIDE.format(leads))

    if says_inside(host):
        raise FetchProblem(INSIDE.format(leads))
    request.extensions["trace"] = trace


def _lies_inside(host: str) -> bool:
    """Whether a host's name leads inside, as far as it can be told here."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return says_inside(host)
    return all(inside(str(address[0])) for *_, address in found)

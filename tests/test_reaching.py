"""Where fetches lead: from the internet never inside, whatever the way; from one's own mirror inside too.

One address of this machine plays the internet, another the network inside.
"""

# ruff: noqa: F811 (fixtures are imported, and named again by the tests that take them)

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

import huggingface_hub
import pytest

from pipelines.fetch import reaching
from pipelines.fetch.problems import FetchProblem
from tests.support.hub import Answer, Asked, Repo, TinyHub
from tests.support.hub_fixtures import Make, fetched, hub, make, until  # noqa: F401
from tests.test_fetching import weights

HERE, FAR = "127.0.0.1", "127.0.0.2"
REFUSED = "inside this computer or its own network"

Named = Callable[..., None]


@pytest.fixture
def two(hub: TinyHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyHub]:
    """A hub inside, whose storage is in the internet."""
    monkeypatch.setattr(reaching, "STAND_INS", ip_network(f"{FAR}/32"))
    try:
        tiny = TinyHub(FAR)
    except OSError:
        pytest.skip("this machine has no second address of its own")
    with tiny.running():
        yield tiny


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Named:
    """Gives names addresses: those of a list one after the other, the last for good."""
    real, known = socket.getaddrinfo, dict[str, list[str]]()

    def find(host: Any, *rest: Any, **more: Any) -> Any:
        given = known.get(host)
        if given is not None:
            host = given.pop(0) if len(given) > 1 else given[0]
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", find)
    return lambda name, *addresses: known.update({name: list(addresses)})


def leads(address: str, **headers: str) -> Answer:
    return Answer(302, b"", {"Location": address, **headers})


def got(address: str, home: str = "") -> bytes:
    with reaching.opened(address, {}, home) as response:
        return bytes(response.read())


def port(address: str) -> str:
    return address.rpartition(":")[2]


@pytest.mark.parametrize(
    "address",
    """127.0.0.1 127.255.0.1 0.0.0.0 10.1.2.3 172.31.0.1 192.168.0.7 169.254.169.254 100.100.100.200 224.0.0.1
    255.255.255.255 168.63.129.16 ::1 :: fe80::1 fe80::1%1 fec0::1 fd00:ec2::254 ff02::1 ::ffff:10.0.0.1
    64:ff9b::a00:1 2002:a00:1::1 ::127.0.0.1 2001:db8::1""".split(),
)
def test_addresses_inside(address: str) -> None:
    assert reaching.inside(address)


@pytest.mark.parametrize(
    "address",
    "1.1.1.1 172.32.0.1 192.169.0.1 2606:4700::1111 ::ffff:1.1.1.1 64:ff9b::101:101 198.18.0.9".split(),
)
def test_addresses_of_the_internet(address: str) -> None:
    assert not reaching.inside(address)


@pytest.mark.parametrize(
    "host",
    [
        *(
            HERE,
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "localhost",
            "LOCALHOST.",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ),
        *("printer.local", "printer.local.", "rebound.example", "169.254.169.254"),
    ],
)
def test_what_the_internet_answers_leads_nowhere_inside(two: TinyHub, named: Named, host: str) -> None:
    named("rebound.example", HERE)
    two.pages["/secret"] = Answer(200, b"secret")
    two.pages["/out"] = leads(f"{two.storage}/further")
    two.pages["/further"] = leads(f"http://{host}:{port(two.address)}/secret")
    for home in ("", HERE):
        with pytest.raises(FetchProblem, match=f"leads to .*{REFUSED}"):
            got(f"{two.storage}/out", home)
    assert [asked.path for asked in two.asked] == ["/out", "/further"] * 2


def test_a_name_that_is_another_address_the_second_time_leads_nowhere(two: TinyHub, named: Named) -> None:
    there = f"http://rebound.example:{port(two.storage)}"
    with socket.create_server((HERE, int(port(two.storage)))) as inside:
        named("rebound.example", FAR, HERE)
        two.pages["/out"] = leads(f"{there}/secret", Connection="close")
        with pytest.raises(FetchProblem, match=REFUSED):
            got(f"{there}/out")
        connection, _ = inside.accept()
        with connection:
            assert connection.recv(100) == b""  # nothing was sent before it was known where it goes
    assert [asked.path for asked in two.asked] == ["/out"]


def test_a_connection_that_was_kept_open_for_ones_own_mirror_serves_nobody_else(two: TinyHub) -> None:
    two.pages["/secret"] = Answer(200, b"secret")
    two.pages["/out"] = leads(f"{two.address}/secret")
    assert got(f"{two.address}/secret", HERE) == b"secret"
    with pytest.raises(FetchProblem, match=REFUSED):
        got(f"{two.storage}/out", HERE)
    assert [asked.path for asked in two.asked] == ["/secret", "/out"]


def test_ones_own_mirror_leads_on_inside_and_out_but_not_back(two: TinyHub, named: Named) -> None:
    named("mirror.example", HERE)
    mirror = f"http://mirror.example:{port(two.address)}"
    two.pages |= {
        "/a": leads(f"{two.address}/b"),
        "/b": leads(f"{two.storage}/c"),
        "/c": Answer(200, b"weights"),
        "/d": leads(f"{two.storage}/e"),
        "/e": leads(f"{mirror}/c"),
    }
    assert got(f"{mirror}/a", "mirror.example") == b"weights"
    with pytest.raises(FetchProblem, match=f"leads to mirror.example, {REFUSED}"):
        got(f"{mirror}/d", "mirror.example")


def test_a_name_that_somebody_typed_and_that_lies_inside_is_told(
    two: TinyHub, make: Make, named: Named
) -> None:
    named("files.example", HERE)
    with socket.create_server((HERE, 0)) as inside:
        for path in ("a.safetensors", "api/download/models/7"):
            with pytest.raises(FetchProblem, match=f"This address lies {REFUSED}"):
                make().estimate(f"https://files.example:{inside.getsockname()[1]}/{path}")
            connection, _ = inside.accept()
            with connection:
                assert connection.recv(100) == b""


def test_a_fetch_that_is_led_inside_fails_with_the_sentence(two: TinyHub, make: Make) -> None:
    """The mirror itself may: the storage that it names is in the internet, and that may not."""
    two.repos["ann/lora"] = Repo({"ann.safetensors": weights()})
    fetcher = make(endpoint=two.address)
    lead, told = [True], two.answer

    def answer(asked: Asked) -> tuple[Answer, str]:
        if lead and asked.path.startswith("/storage/"):
            return leads(f"{two.address}/secret"), ""
        return told(asked)

    two.answer = answer  # type: ignore[method-assign]
    state = until(fetcher, fetcher.start("ann/lora"), lambda state: state.phase in ("done", "failed"))
    assert state.phase == "failed" and REFUSED in state.message
    assert not two.requests("/secret")
    lead.clear()
    assert fetched(fetcher, "ann/lora").phase == "done"


def test_a_proxy_may_be_inside_and_is_asked_for_nothing_inside(
    hub: TinyHub, named: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", hub.address)
    monkeypatch.setenv("http_proxy", hub.address)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    huggingface_hub.close_session()
    named("files.example", "93.184.215.14")
    named("nas.example", "192.168.0.7")
    hub.pages["/a"] = Answer(200, b"weights")
    hub.pages["/b"] = leads("http://nas.example/secret")
    try:
        assert got("http://files.example/a") == b"weights"
        with pytest.raises(FetchProblem, match=REFUSED):
            got("http://files.example/b")
    finally:
        huggingface_hub.close_session()
    assert [asked.path for asked in hub.asked] == ["/a", "/b"]


def test_addresses_that_lead_in_a_circle_or_nowhere_come_to_an_end(hub: TinyHub) -> None:
    import httpx2

    hub.pages["/round"] = leads(f"{hub.address}/round")
    hub.pages["/nowhere"] = leads("http://[nothing")
    with pytest.raises(httpx2.TooManyRedirects):
        got(f"{hub.address}/round", HERE)
    with pytest.raises(httpx2.TransportError):
        got(f"{hub.address}/nowhere", HERE)

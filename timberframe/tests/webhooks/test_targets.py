"""What webhooks may call: which URLs, which names, and every way to write an address."""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

import anyio
import pytest

import timberframe.settings
from specimen.config import Settings
from timberframe.errors import InvalidInput
from timberframe.webhooks.options import WebhookOptions
from timberframe.webhooks.targets import TargetRefused, check_url, is_public, resolve

OPTIONS = WebhookOptions(user_agent="test", timeout=2)
NOT_PUBLIC = "must have a host name that resolves to public addresses only"
NOT_HTTPS = "must be an https URL"

Resolve = Callable[..., None]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Lets the system's resolver know these names; it still parses addresses."""
    real = socket.getaddrinfo

    def know(**addresses: list[str]) -> None:
        known = {name.replace("_", "."): found for name, found in addresses.items()}

        def getaddrinfo(host: str, port: int, *rest: Any) -> list[Any]:
            found = known.get(host, [host])
            try:
                flags = (*rest, *[0] * (3 - len(rest)), socket.AI_NUMERICHOST)
                return [each for one in found for each in real(one, port, *flags)]
            except socket.gaierror:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    know()
    return know


@pytest.fixture
def hanging(names: Resolve, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A name server that answers once the event is set."""
    names(hooks_example_com=["1.1.1.1"])
    known, answers = socket.getaddrinfo, threading.Event()

    def getaddrinfo(*arguments: Any) -> list[Any]:
        answers.wait(30)
        return known(*arguments)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield answers
    answers.set()


def allowing(*networks: str) -> WebhookOptions:
    return replace(OPTIONS, allowed_networks=tuple(map(ip_network, networks)))


async def reason_of(url: str, options: WebhookOptions = OPTIONS) -> str:
    """Why the URL is refused: at the call, and the same when the webhook is made."""
    with pytest.raises(TargetRefused) as refused:
        await resolve(url, options)
    with pytest.raises(InvalidInput) as invalid:
        await check_url(url, options)
    [error] = invalid.value.members["errors"]
    assert (invalid.value.status, error["loc"]) == (422, ("body", "url"))
    assert error["msg"] == str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("written", ["10.1.0.0/16, fd00:1::/64", '["10.1.0.0/16", "fd00:1::/64"]'])
def test_options_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("WEBHOOK_ALLOWED_NETWORKS", written)
    monkeypatch.setenv("WEBHOOK_TIMEOUT_SECONDS", "2.5")
    options = WebhookOptions.of(timberframe.settings.load(Settings))
    assert options == WebhookOptions(
        user_agent="specimen-webhooks",
        allowed_networks=(ip_network("10.1.0.0/16"), ip_network("fd00:1::/64")),
        timeout=2.5,
    )
    monkeypatch.delenv("WEBHOOK_ALLOWED_NETWORKS")
    assert WebhookOptions.of(timberframe.settings.load(Settings)).allowed_networks == ()


async def test_public_target_is_taken(names: Resolve) -> None:
    names(hooks_example_com=["1.1.1.1", "2606:4700::1111"])
    url = "https://Hooks.Example.com:8443/in/a b?key=ü"
    await check_url(url, OPTIONS)
    target = await resolve(url, OPTIONS)
    assert (target.host, target.port) == ("hooks.example.com", 8443)
    assert target.path == "/in/a%20b?key=%C3%BC"
    assert target.authority == "hooks.example.com:8443"
    assert list(map(str, target.addresses)) == ["1.1.1.1", "2606:4700::1111"]


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://hooks.example.com", "hooks.example.com"),
        ("https://hooks.example.com.:443/", "hooks.example.com"),
        ("https://1.1.1.1:80/", "1.1.1.1:80"),
        ("https://[2606:4700::1111]/", "[2606:4700::1111]"),
        ("https://[2606:4700::1111]:8443/", "[2606:4700::1111]:8443"),
        ("https://bücher.example", "xn--bcher-kva.example"),
    ],
)
async def test_host_header_is_the_name_in_ascii(names: Resolve, url: str, authority: str) -> None:
    names(hooks_example_com=["1.1.1.1"], **{"xn--bcher-kva.example": ["1.1.1.1"]})
    assert (await resolve(url, OPTIONS)).authority == authority


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must be a valid URL"),
        ("hooks.example.com", "must be a valid URL"),
        ("https://", "must be a valid URL"),
        ("https://hooks example.com", "must be a valid URL"),
        ("https://hooks.example.com:65536", "must be a valid URL"),
        ("https://[fe80::1%25eth0]/", "must be a valid URL"),
        ("https://[fe80::1%eth0]/", "must be a valid URL"),
        ("https://256.1.1.1/", "must be a valid URL"),
        ("https://hooks\x00.example.com/", "must be a valid URL"),
        ("https://hooks.example.com/\ud800", "must be a valid URL"),
        ("ftp://hooks.example.com", NOT_HTTPS),
        ("file:///etc/passwd", NOT_HTTPS),
        ("gopher://hooks.example.com", NOT_HTTPS),
        ("http://hooks.example.com", NOT_HTTPS),
        ("http://unknown.example.com", NOT_HTTPS),
        ("https://alice@hooks.example.com", "must not contain a user name or a password"),
        ("https://:secret@hooks.example.com", "must not contain a user name or a password"),
        ("https://1.1.1.1#@127.0.0.1/", "must not contain a fragment"),
        ("https://hooks.example.com/#", "must not contain a fragment"),
        ("https://hooks.example.com:0/", "must not have port 0"),
        ("https://hooks..example.com/", "must have a valid host name"),
        ("https://hooks.example.com../", "must have a valid host name"),
        (f"https://{'a' * 64}.example.com/", "must have a valid host name"),
        (f"https://{'a.' * 127}com/", "must have a valid host name"),
        ("https://*.example.com/", "must have a valid host name"),
        (f"https://hooks.example.com/{'a' * 2000}", "must have at most 2000 characters"),
        ("https://unknown.example.com/", NOT_PUBLIC),
    ],
)
async def test_url_is_refused(names: Resolve, url: str, reason: str) -> None:
    names(hooks_example_com=["1.1.1.1"])
    assert await reason_of(url) == reason
    await check_url("https://hooks.example.com/", OPTIONS)  # the control


FORMS = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "１２７.０.０.１",
    "127。0。0。1",
    "①②⑦.0.0.1",
    "127.0.0.\u00ad1",
    "%31%32%37.0.0.1",
    "%6cocalhost",
    "LOCALHOST",
    "localhost.",
    "ⓛocalhost",
]


@pytest.mark.parametrize("host", FORMS)
async def test_every_way_to_write_an_ipv4_address_is_checked(names: Resolve, host: str) -> None:
    names(localhost=["127.0.0.1"])
    url = f"https://{host}/"
    assert await reason_of(url) == NOT_PUBLIC
    # The control: that address it is, and no other one.
    target = await resolve(url, allowing("127.0.0.1/32"))
    assert list(map(str, target.addresses)) == ["127.0.0.1"]


@pytest.mark.parametrize(
    "url",
    [
        "https:\\\\127.0.0.1\\hooks.example.com",
        "https://127.0.0.1\\@hooks.example.com/",
        "https:///127.0.0.1/hooks.example.com",
        "https:127.0.0.1",
        " https://127.0.\t0.1/\n",
    ],
)
async def test_url_that_parsers_disagree_about_goes_where_it_was_checked(
    names: Resolve, url: str
) -> None:
    names(hooks_example_com=["1.1.1.1"])
    assert await reason_of(url) == NOT_PUBLIC
    target = await resolve(url, allowing("127.0.0.1/32"))
    assert list(map(str, target.addresses)) == ["127.0.0.1"]
    assert target.authority == "127.0.0.1"


@pytest.mark.parametrize(
    ("network", "first", "last"),
    [
        ("0.0.0.0/8", "0.0.0.0", "0.255.255.255"),  # noqa: S104 - nothing listens there
        ("10.0.0.0/8", "10.0.0.0", "10.255.255.255"),
        ("100.64.0.0/10", "100.64.0.0", "100.127.255.255"),
        ("100.100.100.200/32", "100.100.100.200", "100.100.100.200"),
        ("127.0.0.0/8", "127.0.0.0", "127.255.255.255"),
        ("168.63.129.16/32", "168.63.129.16", "168.63.129.16"),
        ("169.254.0.0/16", "169.254.0.0", "169.254.255.255"),
        ("169.254.169.254/32", "169.254.169.254", "169.254.169.254"),
        ("172.16.0.0/12", "172.16.0.0", "172.31.255.255"),
        ("192.0.0.0/24", "192.0.0.0", "192.0.0.255"),
        ("192.0.2.0/24", "192.0.2.0", "192.0.2.255"),
        ("192.88.99.0/24", "192.88.99.0", "192.88.99.255"),
        ("192.168.0.0/16", "192.168.0.0", "192.168.255.255"),
        ("198.18.0.0/15", "198.18.0.0", "198.19.255.255"),
        ("198.51.100.0/24", "198.51.100.0", "198.51.100.255"),
        ("203.0.113.0/24", "203.0.113.0", "203.0.113.255"),
        ("224.0.0.0/4", "224.0.0.0", "239.255.255.255"),
        ("240.0.0.0/4", "240.0.0.0", "255.255.255.255"),
        ("::/128", "::", "::"),
        ("::1/128", "::1", "::1"),
        ("::/96", "::1.1.1.1", "::127.0.0.1"),
        ("::ffff:0:0/96", "::ffff:127.0.0.1", "::ffff:1.1.1.1"),
        ("64:ff9b::7f00:1/128", "64:ff9b::127.0.0.1", "64:ff9b::127.0.0.1"),
        ("64:ff9b::/96", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254"),
        ("64:ff9b:1::/48", "64:ff9b:1::1.1.1.1", "64:ff9b:1:ffff::"),
        ("100::/64", "100::", "100::1"),
        ("2001::/23", "2001::1", "2001:1ff:ffff::"),
        ("2001::/32", "2001:0:7f00:1::", "2001:0:ffff::1"),
        ("2001:db8::/32", "2001:db8::", "2001:db8:ffff::1"),
        ("2002::/16", "2002:7f00:1::", "2002:101:101::1"),
        ("3fff::/20", "3fff::", "3fff:fff::1"),
        ("5f00::/16", "5f00::", "5f00:ffff::"),
        ("fc00::/7", "fc00::", "fdff:ffff::"),
        ("fd00:ec2::254/128", "fd00:ec2::254", "fd00:ec2::254"),
        ("fe80::/10", "fe80::1", "febf:ffff::"),
        ("fec0::/10", "fec0::1", "feff:ffff::"),
        ("ff00::/8", "ff00::", "ff02::1"),
    ],
)
async def test_address_that_is_not_public_is_refused_unless_its_network_is_allowed(
    names: Resolve, network: str, first: str, last: str
) -> None:
    for address in (first, last):
        literal = f"[{address}]" if ":" in address else address
        names(hooks_example_com=[address])
        for url in (f"https://{literal}/", "https://hooks.example.com/"):
            assert await reason_of(url) == NOT_PUBLIC
            assert await reason_of(url, allowing("9.0.0.0/8", "2600::/16")) == NOT_PUBLIC
            target = await resolve(url, allowing(network))
            assert target.addresses == [ip_address(address)]


@pytest.mark.parametrize(
    "address",
    [
        *(
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
        ),
        *("128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0"),
        *("172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.167.255.255"),
        *("192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255"),
        *(
            "2000::1",
            "2001:200::1",
            "2001:db7:ffff::",
            "2001:db9::",
            "2003::",
            "2600::1",
            "3ffe::1",
        ),
        "64:ff9b::1.1.1.1",
    ],
)
async def test_public_address_beside_a_special_one_is_taken(names: Resolve, address: str) -> None:
    literal = f"[{address}]" if ":" in address else address
    assert (await resolve(f"https://{literal}/", OPTIONS)).addresses == [ip_address(address)]


def test_no_address_is_public_that_python_knows_to_be_private() -> None:
    """In either direction, so that a list that grows in Python is noticed here."""
    private: list[IPv4Network | IPv6Network] = [
        *ipaddress._IPv4Constants._private_networks,  # type: ignore[attr-defined]
        *ipaddress._IPv6Constants._private_networks,  # type: ignore[attr-defined]
    ]
    assert len(private) > 20
    for network in private:
        for address in (network[0], network[-1], network[network.num_addresses // 2]):
            assert address.is_global or not is_public(address), address


async def test_name_with_a_private_address_among_others_is_refused(names: Resolve) -> None:
    names(hooks_example_com=["1.1.1.1", "10.0.0.1"], good_example_com=["1.1.1.1", "1.0.0.1"])
    assert await reason_of("https://hooks.example.com/") == NOT_PUBLIC
    await check_url("https://hooks.example.com/", allowing("10.0.0.0/24"))
    await check_url("https://good.example.com/", OPTIONS)


async def test_http_is_for_allowed_networks_only(names: Resolve) -> None:
    names(both_example_com=["1.1.1.1", "10.0.0.1"], hooks_example_com=["10.0.0.1"])
    options = allowing("10.0.0.0/24")
    target = await resolve("http://hooks.example.com:8080/", options)
    assert (target.scheme, target.authority) == ("http", "hooks.example.com:8080")
    assert (await resolve("http://hooks.example.com/", options)).port == 80
    assert await reason_of("http://both.example.com/", options) == NOT_HTTPS
    assert await reason_of("http://1.1.1.1/", options) == NOT_HTTPS
    await check_url("https://both.example.com/", options)  # the control


async def test_private_name_cannot_be_told_from_one_that_does_not_exist(names: Resolve) -> None:
    names(db_internal=["10.0.0.1"])
    for scheme in ("https", "http"):
        existing = await reason_of(f"{scheme}://db.internal/")
        assert existing == await reason_of(f"{scheme}://nothing.internal/")


async def test_name_that_changes_is_checked_at_each_call(names: Resolve) -> None:
    names(hooks_example_com=["1.1.1.1"])
    await check_url("https://hooks.example.com/", OPTIONS)
    names(hooks_example_com=["127.0.0.1"])
    with pytest.raises(TargetRefused):
        await resolve("https://hooks.example.com/", OPTIONS)


async def test_name_server_that_hangs_is_waited_for_as_long_as_a_call_may_take(
    names: Resolve, hanging: threading.Event
) -> None:
    with pytest.raises(InvalidInput) as invalid:
        await check_url("https://hooks.example.com/", replace(OPTIONS, timeout=0.1))
    assert invalid.value.members["errors"][0]["msg"] == NOT_PUBLIC
    hanging.set()
    await check_url("https://hooks.example.com/", OPTIONS)  # the control


async def test_name_server_that_hangs_delays_no_other_threads(hanging: threading.Event) -> None:
    """The server looks up its database with the threads that asyncio shares."""

    async def is_shared_pool_free() -> bool:
        with anyio.move_on_after(0.5) as waiting:
            await asyncio.to_thread(lambda: None)
        return not waiting.cancelled_caught

    for _ in range(40):
        with anyio.move_on_after(0.01):
            await resolve("https://hooks.example.com/", OPTIONS)
    assert await is_shared_pool_free()
    # The control: lookups in the shared threads.
    loop = asyncio.get_running_loop()
    lookups = [loop.run_in_executor(None, hanging.wait, 30) for _ in range(40)]
    assert not await is_shared_pool_free()
    hanging.set()
    await asyncio.gather(*lookups)
    assert await is_shared_pool_free()

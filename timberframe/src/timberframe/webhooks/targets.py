"""What webhooks may call: public addresses, and networks that the settings allow.

A URL is parsed once, by Pydantic's parser (the WHATWG URL standard), which turns every way to write
an IPv4 address into the usual one. What decides are the addresses that the name resolves to.
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import anyio
from pydantic_core import Url

from timberframe.errors import UrlRefused
from timberframe.webhooks.options import WebhookOptions

MAX_URL_LENGTH = 2000
Address = IPv4Address | IPv6Address

_HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_MAX_HOST_LENGTH = 253
_NOT_PUBLIC = "must have a host name that resolves to public addresses only"
# Own lists, because those of `ipaddress` differ between versions of Python.
# What IANA's special-purpose registry does not call globally reachable, and multicast.
_SPECIAL_IPV4 = [
    ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, and metadata of Alibaba Cloud
        "127.0.0.0/8",
        "168.63.129.16/32",  # a public address, but the platform's own within Azure
        "169.254.0.0/16",  # link-local: metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments: metadata of Oracle Cloud
        "192.0.2.0/24",
        "192.88.99.0/24",  # once the relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
# Public addresses of IPv6 are allocated from 2000::/3 alone. Outside are loopback, link-local,
# unique local (metadata of AWS), site-local, multicast, IPv4-mapped and IPv4-compatible ones.
_GLOBAL_UNICAST = ip_network("2000::/3")
_SPECIAL_IPV6 = [
    ip_network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo among them: it carries an IPv4 address
        "2001:db8::/32",
        "2002::/16",  # 6to4: it carries an IPv4 address
        "3fff::/20",
    )
]
# DNS64 gives these to networks without IPv4; the last 32 bits are an IPv4 address (RFC 6052).
_NAT64 = ip_network("64:ff9b::/96")


class TargetRefused(Exception):
    """The URL must not be called; the message is for its owner and ends a sentence on the URL.

    It names no address, and is the same for a name that does not exist: names and addresses of a
    private network are nobody's business.
    """


@dataclass(frozen=True)
class Target:
    """Where a request goes: one of `addresses`, all of which may be called."""

    scheme: str
    host: str
    port: int
    path: str
    addresses: Sequence[Address]

    @property
    def authority(self) -> str:
        """The value of the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_default = self.port == {"http": 80, "https": 443}[self.scheme]
        return host if is_default else f"{host}:{self.port}"


async def check_url(url: str, options: WebhookOptions) -> None:
    """Raise `UrlRefused`, a 422 that names the field `url`, if webhooks may not call this one."""
    try:
        with anyio.fail_after(options.timeout):
            await resolve(url, options)
    except TargetRefused as refused:
        raise UrlRefused.at("body", "url", msg=str(refused)) from None
    except TimeoutError:
        raise UrlRefused.at("body", "url", msg=_NOT_PUBLIC) from None


async def resolve(url: str, options: WebhookOptions) -> Target:
    """Look up the name and check all of its addresses, or raise `TargetRefused`.

    Connect to the addresses returned, not to the name: another lookup may have another result.
    """
    scheme, host, port, path = _parse(url)
    addresses = await _look_up(host, port)

    def is_allowed(address: Address) -> bool:
        return any(address in network for network in options.allowed_networks)

    if scheme == "http" and not (addresses and all(map(is_allowed, addresses))):
        raise TargetRefused("must be an https URL")
    if not (addresses and all(is_allowed(each) or is_public(each) for each in addresses)):
        raise TargetRefused(_NOT_PUBLIC)
    return Target(scheme, host, port, path, addresses)


def is_public(address: Address) -> bool:
    """Whether this is the address of one host that anybody on the internet can reach."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    if address in _NAT64:
        return is_public(IPv4Address(address.packed[-4:]))
    return address in _GLOBAL_UNICAST and not any(address in each for each in _SPECIAL_IPV6)


def _parse(text: str) -> tuple[str, str, int, str]:
    if len(text) > MAX_URL_LENGTH:
        raise TargetRefused(f"must have at most {MAX_URL_LENGTH} characters")
    try:
        url = Url(text)
    except ValueError:
        raise TargetRefused("must be a valid URL") from None
    if url.scheme not in ("https", "http"):
        raise TargetRefused("must be an https URL")
    if url.username is not None or url.password is not None:
        raise TargetRefused("must not contain a user name or a password")
    if url.fragment is not None:
        raise TargetRefused("must not contain a fragment")
    if not url.port:
        raise TargetRefused("must not have port 0")
    host = (url.host or "").strip("[]").removesuffix(".")
    is_ipv6 = (url.host or "").startswith("[")
    if not is_ipv6 and (len(host) > _MAX_HOST_LENGTH or not _HOST_NAME.fullmatch(host)):
        raise TargetRefused("must have a valid host name")
    return url.scheme, host, url.port, f"{url.path or '/'}{f'?{url.query}' if url.query else ''}"


async def _look_up(host: str, port: int) -> list[Address]:
    """The addresses of a host in the order of preference; none if there are none."""
    look_up = asyncio.get_running_loop().run_in_executor
    try:
        found = await look_up(_threads(), socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
    except OSError:
        return []
    return [ip_address(address[0]) for *_, address in found]


@cache
def _threads() -> ThreadPoolExecutor:
    """Own threads: a slow name server must not delay how others look up the database.

    A lookup cannot be cancelled. It may hold its thread for half a minute after the call is over.
    """
    return ThreadPoolExecutor(32, thread_name_prefix="webhook-lookup")

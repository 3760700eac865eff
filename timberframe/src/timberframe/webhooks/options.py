"""The settings that webhooks need."""

from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from ssl import SSLContext
from typing import Self

import httpcore2

from timberframe.settings import Settings


@dataclass(frozen=True)
class WebhookOptions:
    """`timeout` bounds a whole call, in seconds; `allowed_networks` may be called though private.

    Make it once: it keeps the certificate authorities, which take 20 ms to load.
    """

    user_agent: str
    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    timeout: float = 10

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            user_agent=f"{settings.project.name}-webhooks",
            allowed_networks=tuple(map(ip_network, settings.WEBHOOK_ALLOWED_NETWORKS)),
            timeout=settings.WEBHOOK_TIMEOUT_SECONDS,
        )

    @cached_property
    def ssl_context(self) -> SSLContext:
        """The system's certificate authorities, or those of `SSL_CERT_FILE`."""
        return httpcore2.default_ssl_context()

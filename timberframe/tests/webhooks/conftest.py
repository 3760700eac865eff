"""Webhooks that may call this machine, and receivers on it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network

import pytest

from specimen.crud import webhook_crud
from specimen.receivers import Receiver, receiving


@pytest.fixture
def local_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = (ip_network("127.0.0.0/8"),)
    options = replace(webhook_crud.options, allowed_networks=networks)
    monkeypatch.setattr(webhook_crud, "options", options)


@pytest.fixture
async def receiver(local_targets: None) -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def other_receiver(local_targets: None) -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver

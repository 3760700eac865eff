"""The checks that hold for any application, here for the specimen."""

from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request

from timberframe.data.session import Database
from timberframe.http import dependencies
from timberframe.http.idempotency import give_kept_answer
from timberframe.testing.checks.migrations import *  # noqa: F403
from timberframe.testing.checks.permissions import *  # noqa: F403
from timberframe.testing.checks.permissions import answers_after_losing_rights
from timberframe.testing.checks.preconditions import *  # noqa: F403
from timberframe.testing.checks.schema import *  # noqa: F403


async def test_control_answers_kept_before_rights_are_checked_would_be_given(
    app: FastAPI,
    alice: httpx2.AsyncClient,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def find_at_once(request: Request) -> Any:
        keyed = await get_keyed_request(request)
        give_kept_answer(request)
        return keyed

    get_keyed_request = dependencies.get_keyed_request
    monkeypatch.setattr(dependencies, "get_keyed_request", find_at_once)
    demoted = await answers_after_losing_rights(app, {"is_superuser": False}, alice, database)
    assert any(is_kept and expected >= 400 for expected, _, is_kept in demoted.values())

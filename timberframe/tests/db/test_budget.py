"""The connections of all processes together, against what the server gives."""

import pytest
from pydantic import SecretStr

from specimen.config import settings
from timberframe.data.budget import TooManyConnections, check_connection_budget
from timberframe.testing import database_options, run_command


async def test_more_connections_than_the_server_gives_are_refused(
    engine: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await check_connection_budget(database_options(), workers=2)
    monkeypatch.setattr(settings, "DATABASE_POOL_SIZE", 1000)
    if engine == "sqlite":  # which has no server
        await check_connection_budget(database_options(), workers=2)
        return
    with pytest.raises(TooManyConnections) as refused:
        await check_connection_budget(database_options(), workers=2)
    fitting = int(refused.value.detail.split()[-1])
    monkeypatch.setattr(settings, "DATABASE_POOL_SIZE", fitting)
    await check_connection_budget(database_options(), workers=2)
    monkeypatch.setattr(settings, "DATABASE_POOL_SIZE", fitting + 1)
    with pytest.raises(TooManyConnections):
        await check_connection_budget(database_options(), workers=2)
    monkeypatch.setattr(settings, "DATABASE_POOL_SIZE", 1)
    with pytest.raises(TooManyConnections, match=r"enough for \d+ workers$"):
        await check_connection_budget(database_options(), workers=500)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_server_does_not_start_on_too_many(database_url: str) -> None:
    ended = run_command(
        "serve", "--workers", "3", DATABASE_URL=database_url, DATABASE_POOL_SIZE="999"
    )
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(
        "specimen: 3 workers (WEB_CONCURRENCY, --workers) with a DATABASE_POOL_SIZE of 999"
    )


async def test_server_that_is_away_is_no_reason_not_to_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = SecretStr("postgresql+asyncpg://a:b@127.0.0.1:1/c")
    monkeypatch.setattr(settings, "DATABASE_URL", away)
    monkeypatch.setattr(settings, "DATABASE_POOL_SIZE", 1000)
    await check_connection_budget(database_options(), workers=2)

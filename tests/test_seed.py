"""The command that fills a database with demo rows."""

import asyncio

import httpx2
import pytest
from timberframe.testing import call_command, run_command

from app import seed


async def test_seeded_rows_are_there_and_sign_in(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed, "BATCH", 50)
    for count in (51, 2):  # more than are inserted at once, and then some more
        arguments = ("seed", "--users=3", f"--products={count}")
        result = await asyncio.to_thread(call_command, *arguments)
        assert result.returncode == 0, result.stderr
    for number, expected in ((51, 1), (53, 1), (54, 0)):
        page = (await client.get("/products/", params={"sku": f"DEMO-{number}"})).json()
        assert page["total"] == expected
    *_, name, _, _, _, password = result.stdout.split()
    form = {"username": name, "password": password}
    assert (await client.post("/auth/login", data=form)).status_code == 200


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_seeding_works_in_a_process_of_its_own(database_url: str) -> None:
    result = run_command("seed", "--users=1", "--products=2", DATABASE_URL=database_url)
    assert result.returncode == 0, result.stderr
    assert "Sign in as demo4 " in result.stdout


def test_empty_database_is_told_in_one_line(empty_database_url: str) -> None:
    result = call_command("seed")
    assert (result.returncode, result.stdout.strip()) == (1, "")
    said = result.stderr.rstrip("\n")
    assert said.endswith("(has the database been migrated? try: myapi migrate)")
    assert "<class" not in said
    assert "\n" not in said

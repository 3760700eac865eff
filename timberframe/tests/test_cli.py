"""The `specimen` command: what it does and says, in this process and as one of its own."""

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import text
from sqlalchemy.engine import make_url

from specimen.config import Settings
from specimen.terminals import at_terminal
from timberframe.data.session import Database
from timberframe.data.start import check_database
from timberframe.errors import AppError
from timberframe.testing import (
    ADMIN,
    ALICE,
    ServerProcess,
    call_command,
    database_options,
    free_port,
    run_command,
    serving,
)
from timberframe.testing.forked import exit_code

pytestmark = pytest.mark.seconds(4)

CAROL = ("create-superuser", "--email", "carol@example.com", "--username", "carol")


async def call_in_thread(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Beside the running application: a command has an event loop of its own."""
    return await asyncio.to_thread(call_command, *arguments, stdin=stdin)


async def test_superuser_is_created_and_has_power(client: httpx2.AsyncClient) -> None:
    result = await call_in_thread(*CAROL, stdin="Carol-Pass-1\n")
    assert result.returncode == 0
    assert result.stdout == "Superuser carol created\n"
    assert "Carol-Pass-1" not in result.stdout + result.stderr
    form = {"username": "carol", "password": "Carol-Pass-1"}
    token = (await client.post("/auth/login", data=form)).json()["access_token"]
    answer = await client.get("/users/", headers={"Authorization": f"Bearer {token}"})
    assert [user["username"] for user in answer.json()["items"]][-1] == "carol"


async def test_existing_account_is_promoted_when_asked(client: httpx2.AsyncClient) -> None:
    create = ("create-superuser", "--email", ALICE.email.upper(), "--username", "Alice")
    taken = await call_in_thread(*create, stdin="Other-Pass-1\n")
    assert taken.returncode == 1
    assert taken.stderr.startswith("specimen: User with this ")
    assert "--promote" in taken.stderr
    for email, username in ((ALICE.email, "bob"), ("nobody@example.com", "alice"), ("x", "alice")):
        arguments = ("create-superuser", "--email", email, "--username", username, "--promote")
        other = await call_in_thread(*arguments)
        expected = (
            f"specimen: there is no account with the e-mail {email} and username {username}\n"
        )
        assert (other.returncode, other.stderr) == (1, expected)
    for _ in range(2):
        promoted = await call_in_thread(*create, "--promote")
        assert (promoted.returncode, promoted.stdout) == (0, "Alice is now a superuser\n")
    form = {"username": "alice", "password": ALICE.password}
    token = (await client.post("/auth/login", data=form)).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert (await client.get("/users/", headers=headers)).status_code == 200
    await client.patch(f"/users/{ADMIN.id}", json={"is_active": False}, headers=headers)
    admin = ("create-superuser", "--email", ADMIN.email, "--username", ADMIN.name, "--promote")
    disabled = await call_in_thread(*admin)
    assert (disabled.returncode, disabled.stderr) == (
        1,
        "specimen: the account admin is disabled\n",
    )


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_password_is_not_echoed_on_a_terminal(database_url: str) -> None:
    seen = b""
    with at_terminal(*CAROL, DATABASE_URL=database_url) as (process, ours):
        for prompt in (b"Password: ", b"again: "):
            while prompt not in seen:
                seen += os.read(ours, 1024)
            os.write(ours, b"Carol-Pass-1\n")
        assert exit_code(process, within=30) == 0
        seen += os.read(ours, 4096)
    assert b"created" in seen
    assert b"Carol-Pass-1" not in seen


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_port_is_not_shared(server: ServerProcess, database_url: str) -> None:
    _, _, port = server.url.rpartition(":")
    second = run_command("serve", "--port", port, DATABASE_URL=database_url)
    assert second.returncode == 1
    assert second.stderr == f"specimen: cannot listen on {server.url}: Address already in use\n"


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_database_without_tables_is_told_in_one_line(empty_database_url: str) -> None:
    said = only_line(call_command(*CAROL, stdin="Carol-Pass-1\n"))
    assert said.startswith("no such table: users (has the database been migrated?")


COMMANDS = (("migrate",), CAROL)


def only_line(result: subprocess.CompletedProcess[str]) -> str:
    """Of a command that failed: all that it said."""
    assert result.returncode == 1
    assert (result.stdout.strip(), result.stderr.count("\n")) == ("", 1)
    return result.stderr.removeprefix("specimen: ").rstrip("\n")


def test_server_that_is_not_there_is_named_without_the_password() -> None:
    port = free_port()
    url = f"postgresql://carol:canary@127.0.0.1:{port}/shop"
    expected = f"cannot connect to the database shop at 127.0.0.1:{port}: Connection refused"
    for command in COMMANDS:
        result = call_command(*command, stdin="Carol-Pass-1\n", DATABASE_URL=url)
        assert only_line(result) == expected, command
    assert only_line(run_command("migrate", DATABASE_URL=url)) == expected


def test_server_that_refuses_is_quoted(postgresql_url: str) -> None:
    url = make_url(postgresql_url).set(database="nowhere").render_as_string(hide_password=False)
    said = only_line(call_command("migrate", DATABASE_URL=url))
    assert said.startswith("cannot connect to the database nowhere at ")
    assert said.endswith(': database "nowhere" does not exist')


def test_host_that_has_no_address_is_told() -> None:
    url = "postgresql://carol:canary@no-such-host.invalid/shop"
    said = only_line(call_command("migrate", DATABASE_URL=url))
    assert said.startswith(
        "cannot connect to the database shop at no-such-host.invalid: cannot resolve the host: "
    )


def test_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear carol, this is no database. " * 20)
    for name, why in (
        ("letter.txt", "file is not a database"),
        ("nowhere/shop.db", "No such file or directory"),
        ("", "Is a directory"),
    ):
        file = tmp_path / name
        said = only_line(call_command("migrate", DATABASE_URL=f"sqlite:///{file}"))
        assert said == f"cannot open the database {file}: {why}"


def test_password_with_an_at_sign_is_refused_and_not_repeated() -> None:
    """What a process says of it is tested with other bad settings."""
    why = "has one @ too many: in a password it is written %40"
    for url in ("postgresql://carol:can@ary@host/shop", "postgresql://carol:can@ary/@host/shop"):
        with pytest.raises(ValidationError, match=why) as refused:
            Settings(DATABASE_URL=SecretStr(url))
        assert "can@ary" not in str(refused.value)


@pytest.mark.seconds(4)
def test_server_starts_without_its_database_and_says_why() -> None:
    port = free_port()
    url = f"postgresql://carol:canary@127.0.0.1:{port}/shop"
    with serving(DATABASE_URL=url) as server:
        ready = httpx2.get(f"{server.url}/health/ready")
        log = server.log.read_text()
    assert ready.status_code == 503
    assert str(port) not in ready.text
    why = f"cannot connect to the database shop at 127.0.0.1:{port}: Connection refused"
    assert f"database_not_checked           reason='{why}'" in log
    assert "canary" not in log


def test_wrong_superuser_is_refused_in_one_line_a_field(database_url: str) -> None:
    weak = call_command(*CAROL, stdin="weak\n")
    assert weak.returncode == 1
    assert weak.stderr == "password: String should have at least 8 characters\n"
    taken = ("create-superuser", "--email", ALICE.email.upper(), "--username", "carol")
    twin = call_command(*taken, stdin="Carol-Pass-1\n")
    assert twin.returncode == 1
    assert twin.stderr.startswith("specimen: User with this email already exists")
    assert twin.stderr.count("\n") == 1


def test_openapi_is_printed() -> None:
    document = json.loads(call_command("openapi").stdout)
    assert document["openapi"].startswith("3.1")
    assert "/api/v1/products/" in document["paths"]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_wrong_declaration_is_one_line_and_nothing_is_served(database_url: str) -> None:
    wrong = "import timberframe.crud; timberframe.crud.EQUALITY = ('eq', 'is')"
    port = str(free_port())
    result = run_command("serve", "--port", port, before=wrong, DATABASE_URL=database_url)
    place = r"\S*specimen/crud\.py:\d+"
    expected = rf"specimen: {place}: CRUD\w+ cannot filter \w+ by 'is': there are eq, .*\n"
    assert result.returncode == 1
    assert re.fullmatch(expected, result.stderr), result.stderr


LOST = {
    "sqlite": "DROP INDEX uq_users_username",
    "postgresql": "DROP TRIGGER users_search_insert ON users",
}


async def test_server_does_not_start_without_what_its_models_need(
    database: Database, engine: str
) -> None:
    """That such an error ends the process is tested with too many connections."""
    async with database.transaction() as db:
        await db.execute(text(LOST[engine]))
    name = LOST[engine].split()[2]
    expected = (
        f"the database lacks {name} of users: no migration makes it, or it was dropped or changed"
        ' afterwards; to write a migration: specimen migration "what it does"'
    )
    with pytest.raises(AppError) as refused:
        await check_database(database_options(), workers=1)
    assert refused.value.detail == expected

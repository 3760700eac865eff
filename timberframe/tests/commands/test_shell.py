"""`shell` and `dbshell`: what is at hand, and what of it is kept."""

import os
import re
import select
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from specimen.terminals import at_terminal
from timberframe.testing import ALICE, call_command, run_command
from timberframe.testing.forked import exit_code

pytestmark = pytest.mark.seconds(4)

LOGGED = re.compile(r"\d{4}-\d\d-\d\dT")
NAME = "print(await db.scalar(select(User.full_name).order_by(User.id)))"
RENAME = "user = await db.get(User, 1); user.full_name = 'Renamed'"
CREATE = """
made = await client.post("/products/", json={"sku": "X-1", "name": "X", "price": "1.00"})
print(made.status_code)
"""
COUNT = "print(await db.scalar(select(func.count()).select_from(Product)))"


def said(*arguments: str, code: str) -> str:
    result = call_command("shell", *arguments, "-c", code)
    assert (result.returncode, result.stderr) == (0, "")
    # A logger that another test of this process has used before logs on.
    lines = [line for line in result.stdout.splitlines() if not LOGGED.match(line)]
    return "\n".join(lines)


def test_code_has_session_models_cruds_and_a_client(database_url: str) -> None:
    assert said(code=NAME) == "None"
    read = 'print((await client.get("/users/me")).json()["username"])'
    assert said("--as", "alice", code=read) == "alice"
    assert said(code='print((await client.get("/users/me")).status_code)') == "401"
    code = "user = await user_crud.get_by_email(db, email='alice@example.com'); print(user)"
    assert said(code=code) == f"<User {ALICE.id}>"


def test_changes_are_kept_unless_the_code_fails(database_url: str) -> None:
    said(code=RENAME)
    assert said(code=NAME) == "Renamed"
    failed = call_command("shell", "-c", f"{RENAME[:-1]} again'; await db.flush(); 1 / 0")
    assert failed.returncode == 1
    assert failed.stderr.splitlines() == [
        "Traceback (most recent call last):",
        '  File "<shell>", line 1, in <module>',
        "ZeroDivisionError: division by zero",
    ]
    assert said(code=NAME) == "Renamed"


def test_nothing_in_a_sandbox_is_kept(database_url: str) -> None:
    """Without one it is, which is the control."""
    for arguments, left in ((("--sandbox",), "0"), ((), "1")):
        both = f"{CREATE}\n{RENAME}\nawait db.flush()\n{COUNT}\n{NAME}"
        assert said(*arguments, "--as", "alice", code=both).split() == ["201", "1", "Renamed"]
        assert said(code=COUNT) == left
        assert said(code=NAME) == ("None" if left == "0" else "Renamed")


def test_refused_write_does_not_end_a_sandbox(database_url: str) -> None:
    twice = f"{CREATE}\n{CREATE}\n{COUNT}"
    assert said("--sandbox", "--as", "alice", code=twice).split() == ["201", "400", "1"]
    listed = 'print((await client.get("/products/?q=x")).json()["items"][0]["sku"])'
    assert said("--sandbox", "--as", "alice", code=f"{CREATE}\n{listed}").split() == ["201", "X-1"]


def test_code_is_read_from_standard_input(database_url: str) -> None:
    result = call_command("shell", stdin=COUNT)
    assert (result.returncode, result.stdout) == (0, "0\n")


def test_account_that_is_not_there_is_told_in_one_line(database_url: str) -> None:
    result = call_command("shell", "--as", "nobody", "-c", "1")
    assert (result.returncode, result.stderr) == (
        1,
        "specimen: there is no active account nobody\n",
    )


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_input_on_a_terminal_may_await_and_is_kept(database_url: str, engine: str) -> None:
    with at_terminal("shell", "--as", "alice", DATABASE_URL=database_url, TERM="dumb") as terminal:
        process, ours = terminal

        def answer(line: bytes) -> bytes:
            os.write(ours, line + b"\n")
            return until(b">>> ")

        def until(prompt: bytes) -> bytes:
            seen = b""
            while prompt not in seen:
                assert select.select([ours], [], [], 60)[0], seen
                seen += os.read(ours, 4096)
            return seen

        banner = until(f"specimen development {engine} >>> ".encode()).decode()
        assert f"{engine} " in banner
        assert "client (alice)" in banner
        assert "product_crud" in banner
        answer(b"user = await db.get(User, 1)")
        assert f"<User {ALICE.id}>".encode() in answer(b"user")
        answer(b"user.full_name = 'Typed'")
        assert b"'Typed'" in answer(b"(await client.get('/users/me')).json()['full_name']")
        failed = answer(b"1 / 0")
        assert b"ZeroDivisionError" in failed
        assert b"timberframe" not in failed
        os.write(ours, b"\x04")
        assert exit_code(process, within=30) == 0


CLIENT = """#!/bin/sh
echo "$0 $@"
env | grep ^PG | sort
"""


@pytest.fixture
def clients(tmp_path: Path) -> str:
    """Programs in place of sqlite3 and psql that print what they are called with."""
    for name in ("sqlite3", "psql"):
        (tmp_path / name).write_text(CLIENT)
        (tmp_path / name).chmod(0o755)
    return f"{tmp_path}{os.pathsep}{os.environ['PATH']}"


def test_shell_of_postgresql_gets_the_password_by_its_environment(clients: str) -> None:
    url = "postgresql://carol:can%40ary@db.example.com:6432/shop?sslmode=verify-full"
    result = run_command("dbshell", "--", "-c", "SELECT 1", DATABASE_URL=url, PATH=clients)
    called, *variables = result.stdout.splitlines()
    assert called == "psql -c SELECT 1" or called.endswith("/psql -c SELECT 1")
    assert variables == [
        "PGDATABASE=shop",
        "PGHOST=db.example.com",
        "PGPASSWORD=can@ary",
        "PGPORT=6432",
        "PGSSLMODE=verify-full",
        "PGUSER=carol",
    ]


def test_shell_of_sqlite_gets_the_file(clients: str, tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    url = f"sqlite:///{file}"
    missing = call_command("dbshell", DATABASE_URL=url)
    assert (missing.returncode, missing.stderr) == (
        1,
        f"specimen: there is no database {file} yet: specimen migrate\n",
    )
    file.touch()
    result = run_command("dbshell", "--", "-header", DATABASE_URL=url, PATH=clients)
    assert result.stdout.splitlines()[0].endswith(f"{file} -header")


@pytest.mark.parametrize("program", ["sqlite3", "psql"])
def test_client_that_is_not_installed_is_named(
    program: str, tmp_path: Path, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "shop.db"
    file.touch()
    url = postgresql_url if program == "psql" else f"sqlite:///{file}"
    monkeypatch.setenv("PATH", str(tmp_path))
    result = call_command("dbshell", DATABASE_URL=make_url(url).render_as_string(False))
    assert result.returncode == 1
    assert result.stderr.startswith(f"specimen: {program} is not installed; ")

"""The cast of every test: alice, bob, and admin, who is a superuser."""

from typing import Any, NamedTuple

import httpx2

from timberframe.accounts import Account, Accounts
from timberframe.crud.policy import SERVER
from timberframe.crud.results import Created
from timberframe.data.session import Database, open_database
from timberframe.testing.subject import app, database_options, settings, tokens


class Person(NamedTuple):
    id: int
    name: str

    @property
    def email(self) -> str:
        return f"{self.name}@example.com"

    @property
    def password(self) -> str:
        return f"{self.name.title()}-Pass-1"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {tokens().create(self.id)}"}


ALICE, BOB, ADMIN = CAST = (Person(1, "alice"), Person(2, "bob"), Person(3, "admin"))


async def add_cast() -> None:
    async with open_database(database_options()) as database:
        for person in CAST:
            assert (await _add(person, database)).id == person.id


async def bring_back(person: Person) -> None:
    """Add them again if a route has deleted their account, as there may be two such routes."""
    database: Database = app().state.database
    accounts = app().state.accounts
    async with database.reading() as db:
        if await accounts.get_by_username(db, username=person.name):
            return
    await _add(person, database, id=person.id)


async def _add(person: Person, database: Database, **values: int) -> Created[Account]:
    accounts: Accounts[Account, Any, Any] = app().state.accounts
    user_in = accounts.sign_up(email=person.email, username=person.name, password=person.password)
    return await accounts.create(
        database, obj_in=user_in, viewer=SERVER, is_superuser=person is ADMIN, **values
    )


def client_of(person: Person | None = None, *, prefix: str | None = None) -> httpx2.AsyncClient:
    """A client of the application in this process; its paths are below `API_V1_PREFIX`, or another.

    `prefix` is that of another version, such as `/api/v2`.
    """
    below = settings().API_V1_PREFIX if prefix is None else prefix
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app()),
        base_url=f"http://testserver{below}",
        headers=person.headers if person else {},
    )

"""The cast of every test: alice, bob, and admin, who is a superuser."""

from typing import NamedTuple

import httpx2

from timberframe.crud.policy import SERVER
from timberframe.data.session import open_database
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
    accounts = app().state.accounts
    async with open_database(database_options()) as database:
        for person in CAST:
            user_in = accounts.sign_up(
                email=person.email, username=person.name, password=person.password
            )
            user = await accounts.create(
                database, obj_in=user_in, viewer=SERVER, is_superuser=person is ADMIN
            )
            assert user.id == person.id


def client_of(person: Person | None = None) -> httpx2.AsyncClient:
    """A client of the application in this process; its paths are below the API's prefix."""
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app()),
        base_url=f"http://testserver{settings().API_V1_PREFIX}",
        headers=person.headers if person else {},
    )

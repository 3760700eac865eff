"""Commands by which an operator manages accounts."""

from typing import Any

from pydantic import BaseModel

from timberframe.accounts.crud import Accounts
from timberframe.crud.policy import SERVER
from timberframe.data.options import DatabaseOptions
from timberframe.data.session import open_database
from timberframe.errors import CommandError


async def create_superuser(
    accounts: Accounts[Any, Any, Any], options: DatabaseOptions, user_in: BaseModel
) -> None:
    """Raise `AlreadyExists` if the e-mail or the username is taken."""
    async with open_database(options) as database, database.transaction() as db:
        await accounts.create(db, obj_in=user_in, viewer=SERVER, is_superuser=True)


async def promote_to_superuser(
    accounts: Accounts[Any, Any, Any], options: DatabaseOptions, email: str, username: str
) -> None:
    """Raise `CommandError` unless there is an active account with this e-mail and username."""
    async with open_database(options) as database, database.transaction() as db:
        user = await accounts.get_by_login(db, login=email)
        if user is None or user.username.lower() != username.lower():
            what = f"there is no account with the e-mail {email} and username {username}"
            raise CommandError(what)
        if not user.is_active:
            raise CommandError(f"the account {user.username} is disabled")
        user.is_superuser = True

"""Dependencies of these routes only; the frame has the others."""

from typing import Annotated

from fastapi import Path
from timberframe.errors import InvalidToken, NotFound, NotPermitted
from timberframe.routes import CurrentSuperuser, CurrentUser, DbRead, DbSession

from app import models
from app.crud import user_crud

UserId = Annotated[int, Path(description="The `id` of the user", examples=[1])]


async def get_own_account(database: DbRead, current_user: CurrentUser) -> models.User:
    """The caller's row, read outside the request's transaction, as the caller is."""
    async with database.reading() as db:
        user = await user_crud.get(db, current_user.id, viewer=current_user)
    if user is None:
        raise InvalidToken
    return user


async def get_user_in_path(
    user_id: UserId, db: DbSession, superuser: CurrentSuperuser
) -> models.User:
    """The user in the path, not yet locked: superusers are locked together later, in one order."""
    user = await user_crud.get(db, user_id, viewer=superuser)
    if user is None:
        raise NotFound("User")
    return user


async def check_self_or_superuser(user_id: UserId, current_user: CurrentUser) -> None:
    """Refuse all others with 403, so that they do not learn which users exist."""
    if user_id != current_user.id and not current_user.is_superuser:
        raise NotPermitted

"""Users: sign-up, oneself, and what superusers do with others."""

from typing import Annotated

from fastapi import Depends, Request, status
from timberframe.crud import Principal
from timberframe.errors import (
    AlreadyExists,
    Conflict,
    DeletionUnfinished,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    RateLimited,
)
from timberframe.results import Created, Slice, Stored
from timberframe.routes import (
    CurrentUser,
    DbRead,
    DbSession,
    DbWrite,
    PasswordChecked,
    Router,
    check_precondition,
    limit_sign_ups,
    listed,
    problems,
    readable,
    superuser_only,
    unchanged,
)
from timberframe.schemas import Pagination

from app import models, schemas
from app.crud.user import user_crud
from app.dependencies import UserId, check_self_or_superuser, get_own_account, get_user_in_path

router = Router()

UserParams = Annotated[Pagination, Depends(listed(user_crud))]
UserToChange = Annotated[models.User, Depends(unchanged(user_crud, get_user_in_path))]
OwnAccount = Annotated[models.User, Depends(unchanged(user_crud, get_own_account))]
UserInPath = Annotated[Stored[models.User], Depends(readable(user_crud))]


@router.get(
    "/",
    response_model=schemas.UserList,
    dependencies=[superuser_only],
    responses=problems(NotPermitted),
)
async def read_users(
    db: DbRead, params: UserParams, current_user: CurrentUser
) -> Slice[models.User]:
    """List all users, for superusers."""
    return await user_crud.get_multi(db, params=params, viewer=current_user)


@router.post(
    "/",
    response_model=schemas.User,
    status_code=status.HTTP_201_CREATED,
    dependencies=[Depends(limit_sign_ups)],
    responses=problems(AlreadyExists, NotPermitted, RateLimited),
)
async def create_user(db: DbWrite, user_in: schemas.UserCreate) -> Created[models.User]:
    """Sign up."""
    return await user_crud.create(db, obj_in=user_in, viewer=None)


@router.get("/me", response_model=schemas.User)
async def read_user_me(current_user: CurrentUser, db: DbRead) -> Stored[models.User]:
    """Read oneself."""
    user = await user_crud.read(db, current_user.id, viewer=current_user)
    if user is None:
        raise NotAuthenticated
    return user


@router.put(
    "/me", response_model=schemas.User, responses=problems(AlreadyExists, NotPermitted, RateLimited)
)
@router.patch(
    "/me",
    response_model=schemas.User,
    responses=problems(AlreadyExists, NotPermitted, RateLimited),
)
async def update_user_me(
    db: DbSession,
    user_in: schemas.UserUpdate,
    user: OwnAccount,
    password_check: PasswordChecked,
) -> models.User:
    """Change oneself; a new e-mail address or password needs the current password."""
    if user_in.needs_password:
        await password_check.confirm(user, user_in.current_password)
    return await user_crud.update(db, db_obj=user, obj_in=user_in)


@router.get(
    "/{user_id:id}",
    response_model=schemas.User,
    dependencies=[Depends(check_self_or_superuser)],
    responses=problems(NotPermitted, NotFound),
)
async def read_user(user: UserInPath) -> Stored[models.User]:
    """Read oneself, or anybody as a superuser."""
    return user


@router.patch(
    "/{user_id:id}",
    response_model=schemas.User,
    dependencies=[superuser_only],
    responses=problems(AlreadyExists, NotPermitted, NotFound, Conflict),
)
async def update_user(
    db: DbSession, user: UserToChange, user_in: schemas.UserAdminUpdate
) -> models.User:
    """Change, disable or promote a user, for superusers."""
    return await user_crud.update(db, db_obj=user, obj_in=user_in)


@router.delete(
    "/{user_id:id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(NotPermitted, NotFound, Conflict, DeletionUnfinished),
)
async def delete_user(
    request: Request,
    user_id: UserId,
    database: DbRead,
    superuser: Annotated[Principal, superuser_only],
) -> None:
    """Delete a user and all they own, for superusers; a 503 asks for the same request again."""
    # The account is disabled first; then its rows are deleted in batches, for some seconds.
    async with database.transaction() as db:
        user = await user_crud.get(db, user_id, viewer=superuser)
        if user is None:
            raise NotFound("User")
        if not user.deleting_since:  # once begun, a deletion continues from any state
            check_precondition(request, user)
        await user_crud.begin_deletion(db, db_obj=user)
    try:
        await user_crud.finish_deletion(database, user_id)
    finally:
        await user_crud.note_write(database, superuser.id)

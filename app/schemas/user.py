"""Users: what comes in at sign-up and update, and what goes out."""

from datetime import datetime
from typing import Annotated

from pydantic import MISSING, Field

from app.schemas.base import Email, InputModel, Line, OutputModel, Password, Username
from app.schemas.page import Page


class UserCreate(InputModel):
    email: Email
    username: Username
    full_name: Line | None = None
    password: Password


class UserUpdate(InputModel):
    """What users may change about themselves; e-mail and password need the current password."""

    email: Email | MISSING = MISSING
    full_name: Line | None | MISSING = MISSING
    password: Password | MISSING = MISSING
    current_password: Annotated[str, Field(max_length=128)] | None = None

    @property
    def needs_password(self) -> bool:
        return self.email is not MISSING or self.password is not MISSING


class UserAdminUpdate(InputModel):
    """What a superuser may change about anyone."""

    email: Email | MISSING = MISSING
    full_name: Line | None | MISSING = MISSING
    is_active: bool | MISSING = MISSING
    is_superuser: bool | MISSING = MISSING


class User(OutputModel):
    """A user as others see it: nothing secret."""

    id: int
    email: str
    username: str
    full_name: str | None
    is_active: bool
    created_at: datetime
    updated_at: datetime


class UserList(Page[User]):
    pass

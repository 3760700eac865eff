"""Users: what comes in at sign-up and update, and what goes out."""

from typing import Annotated

from pydantic import MISSING, Field
from timberframe.schemas import InputModel, OutputModel, Page
from timberframe.schemas.fields import CreatedAt, Email, Line, Password, RowId, UpdatedAt, Username


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
    current_password: Annotated[str, Field(max_length=128)] | None = Field(
        default=None,
        description="Needed for a new `email` or `password`",
        examples=["Correct-Horse-7"],
    )

    @property
    def needs_password(self) -> bool:
        return self.email is not MISSING or self.password is not MISSING


class UserAdminUpdate(InputModel):
    """What a superuser may change about anyone."""

    email: Email | MISSING = MISSING
    full_name: Line | None | MISSING = MISSING
    is_active: bool | MISSING = MISSING
    is_superuser: bool | MISSING = Field(
        default=MISSING, description="Whether they may read and change everything"
    )


class User(OutputModel):
    """A user as others see it: nothing secret."""

    id: RowId
    email: str = Field(
        description="In lower case; unique among all users", examples=["alice@example.com"]
    )
    username: str = Field(
        description="Unique among all users, in whatever case; never changed", examples=["alice"]
    )
    full_name: str | None = Field(description="As people read it", examples=["Alice Archer"])
    is_active: bool = Field(description="Whether they can sign in", examples=[True])
    created_at: CreatedAt
    updated_at: UpdatedAt


class UserList(Page[User]):
    pass

"""Sign-in."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from timberframe.schemas.models import InputModel


class LoginForm(InputModel):
    """OAuth2's password form (RFC 6749 section 4.3.2); `scope` and the client are not used.

    Other parameters are ignored, as section 3.2 there demands: extensions of OAuth add theirs.
    """

    model_config = ConfigDict(extra="ignore")

    grant_type: Literal["password"] = Field(default="password", description="The only grant type")
    username: str = Field(
        max_length=254, description="E-mail address or username", examples=["alice"]
    )
    password: str = Field(
        max_length=128,
        description="The user's password",
        examples=["Correct-Horse-7"],
        json_schema_extra={"format": "password"},
    )
    scope: str = Field(default="", max_length=1000, description="Not used")
    client_id: str = Field(default="", max_length=200, description="Not used")
    client_secret: str = Field(default="", max_length=200, description="Not used")


class Token(BaseModel):
    """RFC 6749 section 5.1."""

    access_token: str = Field(
        description="Sent as `Authorization: Bearer …`", examples=["eyJhbGciOiJIUzI1NiJ9.e30.c2ln"]
    )
    token_type: Literal["bearer"] = Field(default="bearer", description="RFC 6750")
    expires_in: int = Field(description="In seconds", examples=[1800])

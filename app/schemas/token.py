"""Signing in."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.schemas.base import InputModel


class LoginForm(InputModel):
    """OAuth2's password form (RFC 6749 section 4.3.2); `scope` and the client are not used.

    Other parameters are ignored, as section 3.2 there demands: extensions of OAuth add theirs.
    """

    model_config = ConfigDict(extra="ignore")

    grant_type: Literal["password"] = "password"
    username: Annotated[str, Field(max_length=254, description="E-mail address or username")]
    password: Annotated[str, Field(max_length=128, json_schema_extra={"format": "password"})]
    scope: Annotated[str, Field(max_length=1000)] = ""
    client_id: Annotated[str, Field(max_length=200)] = ""
    client_secret: Annotated[str, Field(max_length=200)] = ""


class Token(BaseModel):
    """RFC 6749 section 5.1; `expires_in` is in seconds."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the kind of token, not a token
    expires_in: int

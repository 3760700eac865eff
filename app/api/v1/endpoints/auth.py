"""Signing in."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response

from app import schemas
from app.api.errors import problems
from app.api.routing import StrictRoute
from app.api.sign_in import PasswordChecked
from app.core.config import settings
from app.core.errors import InvalidInput, NotAuthenticated, RateLimited, UnsupportedMediaType
from app.core.security import create_access_token

router = APIRouter(route_class=StrictRoute)


async def check_form(request: Request) -> None:
    """One value for each field that is used, in the encoding that RFC 6749 section 3.2 names.

    Two parsers could pick different ones of two values.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType("application/x-www-form-urlencoded")
    form = await request.form()
    for name in schemas.LoginForm.model_fields:
        if len(form.getlist(name)) > 1:
            raise InvalidInput.at("body", name, msg="must be sent only once")


@router.post(
    "/login",
    dependencies=[Depends(check_form)],
    responses=problems(NotAuthenticated, UnsupportedMediaType, RateLimited),
)
async def login(
    form: Annotated[schemas.LoginForm, Form()], password_check: PasswordChecked, response: Response
) -> schemas.Token:
    """Exchange an e-mail address or username and its password for an access token."""
    user = await password_check.authenticate(form.username, form.password)
    response.headers["Cache-Control"] = "no-store"  # RFC 6749 section 5.1
    return schemas.Token(
        access_token=create_access_token(user.id),
        expires_in=settings.ACCESS_TOKEN_EXPIRE_MINUTES * 60,
    )

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
    """One value a field, in the encoding the standard names: no parser may pick another one."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType("application/x-www-form-urlencoded")
    names = [name for name, _ in (await request.form()).multi_items()]
    if len(names) != len(set(names)):
        raise InvalidInput.at("body", msg="Fields must not be repeated")


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

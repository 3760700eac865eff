"""Signing in."""

from timberframe.errors import NotAuthenticated, RateLimited, UnsupportedMediaType
from timberframe.routes import Router, SignIn, problems

from app import schemas

router = Router()


@router.post("/login", responses=problems(NotAuthenticated, UnsupportedMediaType, RateLimited))
async def login(sign_in: SignIn) -> schemas.Token:
    """Exchange an e-mail address or username and its password for an access token."""
    return await sign_in.token()

"""Signing in with OAuth libraries: a wrong password reads as one."""

import os
from uuid import uuid4

import httpx
import requests
from authlib.integrations.base_client.errors import OAuthError  # type: ignore[import-untyped]
from authlib.integrations.requests_client import (  # type: ignore[import-untyped]
    OAuth2Session as AuthlibSession,
)
from httpx_auth import InvalidGrantRequest, OAuth2, OAuth2ResourceOwnerPasswordCredentials
from oauthlib.oauth2 import InvalidGrantError, LegacyApplicationClient
from requests_oauthlib import OAuth2Session

URL = os.environ["BASE_URL"]
TOKEN_URL = f"{URL}/api/v1/auth/login"
ME = f"{URL}/api/v1/users/me"
NAME = f"oauth-{uuid4().hex[:8]}"
RIGHT, WRONG = "Secret-Pass-1", "Wrong-Pass-1"

account = {"email": f"{NAME}@example.com", "username": NAME, "password": RIGHT}
assert requests.post(f"{URL}/api/v1/users/", json=account).status_code == 201


def passed(library: str) -> None:
    print(f"PASS {library}: sign-in, and a wrong password is invalid_grant")


authlib = AuthlibSession("client")
# `resource` is an extension that is not known here.
authlib.fetch_token(TOKEN_URL, username=NAME, password=RIGHT, resource="https://api.example.com")
assert authlib.get(ME).json()["username"] == NAME
try:
    AuthlibSession("client").fetch_token(TOKEN_URL, username=NAME, password=WRONG)
    raise AssertionError("a wrong password was taken")
except OAuthError as error:
    assert error.error == "invalid_grant", error
passed("authlib")

session = OAuth2Session(client=LegacyApplicationClient("client"))
session.fetch_token(TOKEN_URL, username=NAME, password=RIGHT, include_client_id=True)
assert session.get(ME).json()["username"] == NAME
try:
    session.fetch_token(TOKEN_URL, username=NAME, password=WRONG)
    raise AssertionError("a wrong password was taken")
except InvalidGrantError as error:
    assert error.description == "Incorrect username or password", error
passed("requests-oauthlib")


def credentials(password: str) -> OAuth2ResourceOwnerPasswordCredentials:
    return OAuth2ResourceOwnerPasswordCredentials(TOKEN_URL, username=NAME, password=password)


assert httpx.get(ME, auth=credentials(RIGHT)).json()["username"] == NAME
OAuth2.token_cache.clear()
try:
    httpx.get(ME, auth=credentials(WRONG))
    raise AssertionError("a wrong password was taken")
except InvalidGrantRequest as error:
    assert str(error).startswith("invalid_grant: Incorrect username or password"), error
passed("httpx-auth")

"""Users for the tests, and what they are made of."""

from typing import Any

import httpx2

KATE: dict[str, Any] = {
    "email": "kate@example.com",
    "username": "kate",
    "full_name": "Kate",
    "password": "Kate-Pass-1",
}
EMAIL_TAKEN = "User with this email already exists"


async def sign_up(client: httpx2.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await client.post("/users/", json=KATE | changes)
    assert answer.status_code == 201, answer.text
    user: dict[str, Any] = answer.json()
    return user


async def can_sign_in(client: httpx2.AsyncClient, username: str, password: str) -> bool:
    answer = await client.post("/auth/login", data={"username": username, "password": password})
    assert answer.status_code in (200, 401)
    return answer.status_code == 200

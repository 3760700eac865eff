"""myapi with one read through the ORM more for each request: what the guard has to notice."""

from typing import Any

from app import models
from app.main import app as myapi


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        async with myapi.state.database.transaction() as db:
            await db.get(models.Product, 1)
    await myapi(scope, receive, send)

"""Demo rows, made in bulk: enough to look around, or a million to measure with."""

import random
import secrets
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice, product
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from timberframe.models import Base

from app.core.security import passwords
from app.db.session import open_database
from app.models import Category, Product, User

BATCH = 5_000

KINDS = ("Small", "Large", "Light", "Heavy", "Folding", "Portable", "Classic", "Modern", "Quiet")
MATERIALS = ("Oak", "Steel", "Linen", "Cotton", "Glass", "Copper", "Leather", "Bamboo", "Wool")
CATEGORIES = {
    "furniture": ("chairs", "tables", "shelves", "desks"),
    "home": ("lamps", "blankets", "clocks", "bags"),
    "kitchen": ("kettles", "bowls"),
}
THINGS = {
    "Chair": "chairs",
    "Lamp": "lamps",
    "Table": "tables",
    "Kettle": "kettles",
    "Bag": "bags",
    "Blanket": "blankets",
    "Shelf": "shelves",
    "Clock": "clocks",
    "Bowl": "bowls",
    "Desk": "desks",
}
SALE_EVERY = 50
NAMES = list(product(KINDS, MATERIALS, THINGS))


async def seed_database(users: int, products: int) -> None:
    """Add that many rows in one transaction, and say how the demo users sign in."""
    password = f"Demo-{secrets.token_urlsafe(9)}-1"
    hashed_password = await passwords.hash(password)
    console = Console()
    async with open_database() as database, database.transaction() as db:
        with _progress(console) as progress:
            first_user = await _next_id(db, User)
            rows = _users(first_user, users, hashed_password)
            task = progress.add_task("Users", total=users)
            await _insert(db, User, rows, task, progress)
            demo_users = select(User.id).where(User.username.startswith("demo")).order_by(User.id)
            owners = list(await db.scalars(demo_users))
            await _add_categories(db)
            rows = _products(await _next_id(db, Product), products, owners)
            await _insert(
                db, Product, rows, progress.add_task("Products", total=products), progress
            )
    last_user = first_user + users - 1
    console.print(f"Sign in as demo{first_user} … demo{last_user} with the password {password}")


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console)


async def _next_id(db: AsyncSession, model: type[Base]) -> int:
    return (await db.scalar(select(func.max(model.id))) or 0) + 1


def _users(first: int, count: int, hashed_password: str) -> Iterator[dict[str, Any]]:
    for n in range(first, first + count):
        yield {
            "email": f"demo{n}@example.com",
            "username": f"demo{n}",
            "full_name": f"Demo User {n}",
            "hashed_password": hashed_password,
        }


async def _add_categories(db: AsyncSession) -> None:
    """Add the categories that do not exist yet."""
    known = set(await db.scalars(select(Category.slug)))
    for top, below in CATEGORIES.items():
        for slug, parent in ((top, None), *((each, top) for each in below)):
            if slug not in known:
                db.add(Category(slug=slug, name=slug.title(), parent=parent))
                await db.flush()


def _products(first: int, count: int, owners: list[int]) -> Iterator[dict[str, Any]]:
    choose = random.Random(first)  # noqa: S311 - demo data, the same every time
    for n in range(first, first + count):
        kind, material, thing = choose.choice(NAMES)
        name = f"{kind} {material} {thing}"
        yield {
            "sku": f"DEMO-{n}",
            "name": name,
            "description": f"{name}, number {n} of the demo catalogue.",
            "price": Decimal(choose.randrange(100, 100_000)) / 100,
            "currency": "EUR",
            "stock": choose.randrange(1000),
            "category": THINGS[thing],
            "tags": sorted([material.lower(), *([] if n % SALE_EVERY else ["sale"])]),
            "owner_id": choose.choice(owners),
        }


async def _insert(
    db: AsyncSession,
    model: type[Base],
    rows: Iterator[dict[str, Any]],
    task: Any,
    progress: Progress,
) -> None:
    while batch := list(islice(rows, BATCH)):
        # RETURNING, so that many rows are one statement: triggers run once per statement.
        await db.execute(insert(model).returning(model.id), batch)
        progress.advance(task, len(batch))

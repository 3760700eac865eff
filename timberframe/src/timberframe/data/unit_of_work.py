"""Sessions: one for reads only, and one for changes that belong together."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from timberframe.data.failures import ConstraintViolated
from timberframe.data.query import AnySelect, AnyStatement


class ReadSession(AsyncSession):
    """A SQLAlchemy session that also has the `fetch` of `Database`."""

    async def fetch(
        self, shape: Hashable, build: Callable[[], AnySelect], values: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """The rows of one query; `shape` is not used, because SQLAlchemy caches statements."""
        return (await self.execute(build(), values)).all()


class UnitOfWork(ReadSession):
    """Changes that are committed together, or not at all."""

    async def write(
        self,
        shape: Hashable,
        build: Callable[[], AnyStatement],
        values: Mapping[str, Any],
        *,
        lock: str | None = None,
    ) -> Sequence[Sequence[Any]]:
        """Run one statement that changes rows, and return its RETURNING rows.

        Raise `ConstraintViolated` if a constraint forbids it. `lock` is held until the unit of work
        ends.
        """
        if lock:
            await self.take_lock(lock)
        try:
            return (await self.execute(build(), values)).all()
        except IntegrityError as violation:
            raise ConstraintViolated.of(violation) from violation

    async def take_lock(self, name: str) -> None:
        """Take an advisory lock and hold it until the unit of work ends.

        Each later statement sees what earlier holders have committed. SQLite needs no lock: it has
        one writer at a time.
        """
        if self.get_bind().dialect.name == "postgresql":
            await self.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))

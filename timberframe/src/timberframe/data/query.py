"""A statement cache: queries are compiled once, and run directly on the driver."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Dialect, Select
from sqlalchemy.sql.dml import ReturningInsert

MAX_KEPT = 1_000

AnySelect = Select[*tuple[Any, ...]]
AnyStatement = AnySelect | ReturningInsert[*tuple[Any, ...]]
# Runs the query that `build` makes for a shape, with these values, and returns its rows.
Fetch = Callable[
    [Hashable, Callable[[], AnySelect], Mapping[str, Any]],
    Awaitable[Sequence[Sequence[Any]]],
]


class Rows(Protocol):
    """What reads and writes rows: a `Database`, or a `UnitOfWork` for several statements."""

    async def fetch(
        self, shape: Hashable, build: Callable[[], AnySelect], values: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]: ...

    async def write(
        self,
        shape: Hashable,
        build: Callable[[], AnyStatement],
        values: Mapping[str, Any],
        *,
        lock: str | None = None,
    ) -> Sequence[Sequence[Any]]: ...


class Query:
    """A statement compiled for one dialect; its values are given by name when it runs."""

    def __init__(self, statement: AnyStatement, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        self.sql = str(compiled)
        binds = {name: compiled.binds[name] for name in compiled.positiontup or ()}
        self._defaults = {name: bind.value for name, bind in binds.items() if not bind.required}
        self._parameters = [
            (name, bind_processor(binds[name].type, dialect)) for name in compiled.positiontup or ()
        ]

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """The values in the order of the placeholders; KeyError if one is missing."""
        given = {**self._defaults, **values}
        return [
            process(given[name]) if process else given[name] for name, process in self._parameters
        ]


def bind_processor(type_: Any, dialect: Dialect) -> Callable[[Any], Any] | None:
    """Converts a value to what the driver takes; None if it takes the value unchanged."""
    processor: Callable[[Any], Any] | None = type_.dialect_impl(dialect).bind_processor(dialect)
    return processor


class Queries:
    """An LRU cache of compiled queries, by shape."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._kept: OrderedDict[Hashable, Query] = OrderedDict()

    def get(self, shape: Hashable, build: Callable[[], AnyStatement]) -> Query:
        """`shape` must contain all that `build` depends on."""
        query = self._kept.get(shape)
        if query is None:
            query = self._kept[shape] = Query(build(), self._dialect)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(shape)
        return query

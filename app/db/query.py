"""Queries that are compiled once, and run on the driver itself."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Dialect, Select
from sqlalchemy.sql.dml import ReturningInsert

MAX_KEPT = 1_000

AnySelect = Select[*tuple[Any, ...]]
AnyStatement = AnySelect | ReturningInsert[*tuple[Any, ...]]
# Runs what is built for a shape of request, with these values, and returns its rows.
Execute = Callable[
    [Hashable, Callable[[], AnyStatement], Mapping[str, Any]],
    Awaitable[Sequence[Sequence[Any]]],
]
# The same for queries alone.
Fetch = Callable[
    [Hashable, Callable[[], AnySelect], Mapping[str, Any]],
    Awaitable[Sequence[Sequence[Any]]],
]


class Write(Protocol):
    """As `Execute`, for a statement that changes rows.

    With `lock`, it sees what others have committed who held the same lock, which is held until the
    transaction ends; SQLite has one writer at a time anyway.
    """

    async def __call__(
        self,
        shape: Hashable,
        build: Callable[[], AnyStatement],
        values: Mapping[str, Any],
        *,
        lock: str | None = None,
    ) -> Sequence[Sequence[Any]]: ...


class Query:
    """A statement in the words of an engine; its values are given by name when it is run."""

    def __init__(self, statement: AnyStatement, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        self.sql = str(compiled)
        binds = {name: compiled.binds[name] for name in compiled.positiontup or ()}
        self._defaults = {name: bind.value for name, bind in binds.items() if not bind.required}
        self._parameters = [
            (name, bind_processor(binds[name].type, dialect)) for name in compiled.positiontup or ()
        ]

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """In the order in which the driver wants them; KeyError if one is missing."""
        given = {**self._defaults, **values}
        return [
            process(given[name]) if process else given[name] for name, process in self._parameters
        ]


def bind_processor(type_: Any, dialect: Dialect) -> Callable[[Any], Any] | None:
    """What makes of a value what the driver takes for it, None if that is the value itself."""
    processor: Callable[[Any], Any] | None = type_.dialect_impl(dialect).bind_processor(dialect)
    return processor


class Queries:
    """The last ones used, by what tells one from another."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._kept: OrderedDict[Hashable, Query] = OrderedDict()

    def get(self, shape: Hashable, build: Callable[[], AnyStatement]) -> Query:
        """`shape` must say all that `build` depends on."""
        query = self._kept.get(shape)
        if query is None:
            query = self._kept[shape] = Query(build(), self._dialect)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(shape)
        return query

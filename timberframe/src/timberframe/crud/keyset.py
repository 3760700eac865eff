"""Keyset pagination: a page continues after another's last row, however many rows lie before."""

import binascii
import operator
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any, Self

from pydantic import PydanticSchemaGenerationError, TypeAdapter
from pydantic_core import from_json, to_json
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Integer,
    UnaryExpression,
    and_,
    bindparam,
    or_,
    tuple_,
)
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.elements import KeyedColumnElement
from sqlalchemy.types import TypeEngine

from timberframe.data.query import AnySelect
from timberframe.data.rows_as_json import SEPARATOR
from timberframe.errors import InvalidCursor
from timberframe.schemas.page import Pagination
from timberframe.security.keys import Keys

RANK = "*rank"  # how well a row matches a search; no field can have this name
_SIGNATURE_BYTES = 16
_WHOLE: TypeAdapter[Any] = TypeAdapter(int)


@dataclass(frozen=True)
class SortKey:
    """A sort key: a column that is never null, and the name of its field in an item."""

    name: str
    column: InstrumentedAttribute[Any] | KeyedColumnElement[Any]
    is_descending: bool
    reader: TypeAdapter[Any] = _WHOLE  # of its values in JSON; an id and a rank are whole numbers

    def order(self, *, is_reversed: bool) -> UnaryExpression[Any]:
        return self.column.desc() if self.is_descending is not is_reversed else self.column.asc()


@dataclass(frozen=True)
class CursorSigner:
    """Signs cursors: each is valid only for one list, with the `q` and `sort` of `context`."""

    keys: Keys
    context: bytes

    def sign(self, content: bytes) -> bytes:
        return self.keys.hash("cursor", self.context + b"\0" + content)[:_SIGNATURE_BYTES]


@dataclass(frozen=True)
class Cursor:
    """A position in an order, right after a row or right before it, and the number of that page."""

    position: Sequence[Any]
    is_before: bool
    page: int

    def signed_by(self, signer: CursorSigner) -> str:
        """The opaque, signed form; only the same signer opens it."""
        content = to_json([self.page, self.is_before, *self.position])
        return urlsafe_b64encode(signer.sign(content) + content).rstrip(b"=").decode()

    @classmethod
    def open(cls, signed: str, signer: CursorSigner, keys: Sequence[SortKey]) -> Self:
        """Raise `InvalidCursor` for anything that this signer did not sign."""
        try:
            decoded = urlsafe_b64decode(signed + "=" * (-len(signed) % 4))
        except (binascii.Error, ValueError):
            decoded = b""
        signature, content = decoded[:_SIGNATURE_BYTES], decoded[_SIGNATURE_BYTES:]
        if not compare_digest(signature, signer.sign(content)):
            raise InvalidCursor("The cursor does not belong to this list with this q and sort")
        page, is_before, *values = from_json(content)
        read = (key.reader.validate_python(v) for key, v in zip(keys, values, strict=True))
        return cls(tuple(read), is_before, page)

    def rows_beyond(self, keys: Sequence[SortKey]) -> ColumnElement[bool]:
        """Rows after the position, or before it if the cursor looks back."""
        place = [bindparam(f"place_{n}", type_=key.column.type) for n, key in enumerate(keys)]
        if len({key.is_descending for key in keys}) == 1:
            # A row comparison, for which an index on the keys is read from the position on.
            row = tuple_(*(key.column for key in keys))
            return self._beyond(keys[0])(row, tuple_(*place))
        return self._tied_or_beyond(keys, place)

    def values(self) -> dict[str, Any]:
        return {f"place_{n}": value for n, value in enumerate(self.position)}

    def _tied_or_beyond(
        self, keys: Sequence[SortKey], place: Sequence[BindParameter[Any]]
    ) -> ColumnElement[bool]:
        (key, *further), (value, *rest) = keys, place
        beyond = self._beyond(key)(key.column, value)
        if not further:
            return beyond
        # The first part is redundant, but tells an index on the key where to begin.
        not_before = self._beyond(key, or_at=True)(key.column, value)
        return and_(not_before, or_(beyond, self._tied_or_beyond(further, rest)))

    def _beyond(self, key: SortKey, *, or_at: bool = False) -> Callable[..., ColumnElement[bool]]:
        if key.is_descending is not self.is_before:
            return operator.le if or_at else operator.lt
        return operator.ge if or_at else operator.gt


@dataclass(frozen=True)
class Window:
    """The requested page: where it begins, in which order, and how long it is."""

    keys: Sequence[SortKey]
    signer: CursorSigner
    skip: int
    limit: int
    cursor: Cursor | None

    @classmethod
    def of(cls, params: Pagination, keys: Sequence[SortKey], signer: CursorSigner) -> Self:
        if params.cursor is None:
            return cls(keys, signer, params.skip, params.limit, cursor=None)
        if params.skip:
            raise InvalidCursor("A cursor and skip cannot be combined")
        cursor = Cursor.open(params.cursor, signer, keys)
        return cls(keys, signer, 0, params.limit, cursor)

    @property
    def looks_back(self) -> bool:
        return self.cursor is not None and self.cursor.is_before

    @property
    def page(self) -> int:
        return self.cursor.page if self.cursor else self.skip // self.limit + 1

    def shape(self) -> Hashable:
        """All that `cut` depends on except the values."""
        order = tuple((key.name, key.is_descending) for key in self.keys)
        return order, self.cursor is not None, self.looks_back, self.skip > 0

    def cut(self, rows: AnySelect) -> AnySelect:
        """The page's rows, and one more that tells whether others follow."""
        if self.cursor:
            rows = rows.where(self.cursor.rows_beyond(self.keys))
        if self.skip:
            rows = rows.offset(bindparam("skip", type_=Integer))
        order = (key.order(is_reversed=self.looks_back) for key in self.keys)
        return rows.order_by(*order).limit(bindparam("limit", type_=Integer))

    def values(self) -> dict[str, Any]:
        place = self.cursor.values() if self.cursor else {}
        return place | {"skip": self.skip, "limit": self.limit + 1}

    def page_of(
        self, found: str, ranks: Sequence[float | None] = ()
    ) -> tuple[str, str | None, str | None]:
        """The items in their order, the cursor of the next page, and that of the previous one.

        `found` holds JSON texts with a separator between them, and stays one string: splitting it
        would cost as much as the query. In a search, each item has a rank.
        """
        if not found:
            return found, None, None
        has_more = found.count(SEPARATOR) >= self.limit
        items = found[: found.rindex(SEPARATOR)] if has_more else found
        ranks = ranks[: self.limit] or (None,)
        if self.looks_back:
            items = SEPARATOR.join(reversed(items.split(SEPARATOR)))
            ranks = ranks[::-1]
        has_next = has_more or self.looks_back
        has_previous = has_more if self.looks_back else bool(self.cursor or self.skip)
        first, last = items.split(SEPARATOR, 1)[0], items.rsplit(SEPARATOR, 1)[-1]
        return (
            items,
            self._cursor_at(last, ranks[-1], is_before=False) if has_next else None,
            self._cursor_at(first, ranks[0], is_before=True) if has_previous else None,
        )

    def _cursor_at(self, item: str, rank: float | None, *, is_before: bool) -> str:
        page = max(1, self.page - 1) if is_before else self.page + 1
        fields = from_json(item) | {RANK: rank}
        return Cursor([fields[key.name] for key in self.keys], is_before, page).signed_by(
            self.signer
        )


def json_reader_of(type_: TypeEngine[Any]) -> TypeAdapter[Any]:
    """Reads a value of the column in JSON; raise TypeError if the type does not say how."""
    kind = getattr(type_, "filter_type", None) or type_.python_type
    with suppress(PydanticSchemaGenerationError):
        if kind is not object:
            return TypeAdapter(kind)
    raise TypeError(f"filter_type of {type_!r} is not known; state it on the type")

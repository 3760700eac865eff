"""The types a field may have: what each is in model, schemas, lists, migration and tests."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter, ValidationError

from timberframe.crud import EQUALITY, RANGE
from timberframe.data import column_types
from timberframe.schemas import fields


@dataclass(frozen=True)
class Kind:
    """All but the flags are Python source; `number` in `new` differs in each row."""

    python: str
    input: str
    migration: str
    sample: str
    other: str  # sorts after `sample`
    wrong: str
    new: str = ""  # without it, a value cannot be unique
    column: str = ""  # if `python` does not imply it
    suffix: str = ""  # of the column's name, for its unit
    default: str = ""  # an example, as it is typed; without it, a field cannot have one
    operators: tuple[str, ...] = ()
    is_sortable: bool = False
    may_be_indexed: bool = True
    may_be_searched: bool = False


KINDS = {
    "str": Kind(
        python="str",
        input="Line",
        migration="TEXT",
        sample='"Maple"',
        other='"Walnut"',
        new='f"N-{number:06}"',
        wrong="WRONG_LINES",
        default="new",
        operators=(*EQUALITY, "prefix"),
        is_sortable=True,
        may_be_searched=True,
    ),
    "text": Kind(
        python="str",
        input="Text",
        migration="TEXT",
        sample='"Ordered by phone"',
        other='"Cancelled"',
        wrong="WRONG_TEXTS",
        default="none",
        may_be_indexed=False,
        may_be_searched=True,
    ),
    "int": Kind(
        python="int",
        input="Whole",
        migration="sa.BigInteger()",
        sample="3",
        other="7",
        new="number",
        wrong="WRONG_WHOLES",
        default="0",
        operators=RANGE,
        is_sortable=True,
    ),
    "bool": Kind(
        python="bool",
        input="bool",
        migration="sa.Boolean()",
        sample="True",
        other="False",
        wrong="WRONG_BOOLEANS",
        default="false",
        operators=("eq",),
    ),
    "money": Kind(
        python="Decimal",
        input="Money",
        migration="sa.BigInteger()",
        sample='"19.90"',
        other='"20.00"',
        new='f"{number}.00"',
        wrong="WRONG_MONEY",
        default="0.00",
        column="Money",
        suffix="_cents",
        operators=RANGE,
        is_sortable=True,
    ),
    "decimal": Kind(
        python="Decimal",
        input="Number",
        migration="sa.BigInteger()",
        sample='"1.500000"',
        other='"2.250000"',
        new='f"{number}.000000"',
        wrong="WRONG_NUMBERS",
        default="1.5",
        column="FixedPoint",
        suffix="_millionths",
        operators=RANGE,
        is_sortable=True,
    ),
    "date": Kind(
        python="date",
        input="Day",
        migration="sa.Date()",
        sample='"2026-11-24"',
        other='"2026-12-01"',
        new="str(date(2026, 1, 1) + timedelta(days=number))",
        wrong="WRONG_DAYS",
        operators=RANGE,
        is_sortable=True,
    ),
    "datetime": Kind(
        python="datetime",
        input="Moment",
        migration="sa.DateTime(timezone=True)",
        sample='"2026-11-24T12:00:00Z"',
        other='"2026-11-24T12:30:00Z"',
        new='f"{date(2026, 1, 1) + timedelta(days=number)}T12:00:00Z"',
        wrong="WRONG_MOMENTS",
        column="UTCDateTime",
        operators=RANGE,
        is_sortable=True,
    ),
    "uuid": Kind(
        python="UUID",
        input="Uuid",
        migration="sa.Uuid()",
        sample='"8e03978e-40d5-43dd-bc93-6894a57f9324"',
        other='"b1a5c0de-0000-4000-8000-000000000001"',
        new="str(UUID(int=number))",
        wrong="WRONG_UUIDS",
        operators=EQUALITY,
    ),
    "json": Kind(
        python="Any",
        input="Document",
        migration="sa.JSON()",
        sample='["a", 1.5, None]',
        other="{}",
        wrong="WRONG_DOCUMENTS",
        column="Document",
        may_be_indexed=False,
    ),
    "ref": Kind(
        python="int",
        input="Id",
        migration="ID",
        sample="",
        other="",
        new="-",
        wrong="WRONG_IDS",
        operators=EQUALITY,
    ),
    "refs": Kind(
        python="list[int]",
        input="Ids",
        migration="TEXT",
        sample="[1, 4]",
        other="[4]",
        wrong="WRONG_ID_LISTS",
        column="IdList",
        may_be_indexed=False,
    ),
    "enum": Kind(
        python="str",
        input="",
        migration="TEXT",
        sample="",
        other="",
        wrong="WRONG_CHOICES",
        operators=EQUALITY,
    ),
}


@dataclass(frozen=True)
class Default:
    """The value of a field that is not sent, as Python source: in a schema, in JSON, in SQL."""

    python: str
    json: str
    sql: str


NOTHING_LISTED = Default("Field(default=[])", "[]", '"[]"')

_READERS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "bool": {"true": True, "false": False}.__getitem__,
    "Decimal": str,
}


def read_default(kind: Kind, text: str) -> Default | None:
    """None if the type does not take that value."""
    adapter: TypeAdapter[Any] = TypeAdapter(getattr(fields, kind.input, bool))
    try:
        value = adapter.validate_python(_READERS[kind.python](text))
    except (KeyError, ValueError, ValidationError):
        return None
    stored = repr(str(value))
    if kind.python == "bool":
        stored = f"{value}()".lower()
    elif isinstance(value, Decimal):
        places = getattr(column_types, kind.column).places
        stored = repr(str(int(value.scaleb(places))))
    return Default(repr(value), repr(adapter.dump_python(value, mode="json")), stored)

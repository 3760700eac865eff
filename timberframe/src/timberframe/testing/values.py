"""Values that no field of a type takes; None is wrong too, where a field must have a value."""

from typing import Any


def _nested(depth: int) -> list[Any]:
    document: list[Any] = []
    for _ in range(depth - 1):
        document = [document]
    return document


WRONG_LINES: tuple[object, ...] = ("", " ", "x" * 201, "a\x00b", "a\nb", "\u202e", 1, True, [], {})
WRONG_TEXTS: tuple[object, ...] = ("x" * 10_001, "a\x00b", "\u202e", "\x1b[31m", 1, True, [], {})
WRONG_CHOICES: tuple[object, ...] = ("", "another", 1, True, [], {})
WRONG_WHOLES: tuple[object, ...] = (
    1.5,
    "1",
    "",
    True,
    2**53,
    -(2**53),
    2**63,
    10**399,
    1e300,
    [],
    {},
)
WRONG_BOOLEANS: tuple[object, ...] = ("true", "", 0, 1, [], {})
WRONG_MONEY: tuple[object, ...] = (
    "-1",
    "1.999",
    "1e3",
    "10000000000",
    "NaN",
    "",
    0.001,
    -0.01,
    1e10,
    True,
    [],
    {},
)
WRONG_NUMBERS: tuple[object, ...] = (
    "1.0000001",
    "1e3",
    "1000000000",
    "NaN",
    "",
    "+1",
    1e-7,
    1e9,
    True,
    [],
    {},
)
WRONG_DAYS: tuple[object, ...] = (
    "2026-02-30",
    "2026-2-3",
    "20260203",
    "0000-01-01",
    "0001-01-01",
    "9999-12-31",
    "",
    20260203,
    True,
    [],
    {},
)
WRONG_MOMENTS: tuple[object, ...] = (
    *("2026-11-24", "2026-11-24T12:00:00", "2026-13-01T00:00:00Z", "1764000000", "", "now"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", 1764000000, True, [], {}),
)
WRONG_UUIDS: tuple[object, ...] = (
    "",
    "x",
    "0" * 32,
    f"{{{'0' * 8}-0000-0000-0000-{'0' * 12}}}",
    1,
    True,
    [],
    {},
)
WRONG_DOCUMENTS: tuple[object, ...] = ("text", "", "[]", 1, True, ["x" * 10_000], _nested(17))
# More than a list takes are refused before any is looked up.
WRONG_ID_LISTS: tuple[object, ...] = (
    *(1, "1", True, {}, [0], [-1], [1.5], ["1"], [True], [None], [[1]], [10**6], [2**63]),
    [*range(1, 102)],
)
WRONG_IDS: tuple[object, ...] = (0, -1, 1.5, "1", 10**6, 2**63, 10**399, True, [], {})

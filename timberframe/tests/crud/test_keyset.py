"""Places in an order: where a page ends is where the next one goes on."""

from sqlalchemy import Integer, column

from timberframe.crud.keyset import Cursor, CursorSigner, SortKey, Window
from timberframe.data.rows_as_json import SEPARATOR
from timberframe.security.keys import Keys

SIGNER = CursorSigner(Keys("secret"), b"context")


def test_field_may_have_any_name() -> None:
    """What a row ends with, be it a count or how well it fits, is none of its fields."""
    keys = [SortKey(name, column(name, Integer), is_descending=False) for name in ("rank", "id")]
    window = Window(keys, SIGNER, skip=0, limit=1, cursor=None)
    rows = SEPARATOR.join(f'{{"id":{number},"rank":{number * 10}}}' for number in (1, 2))
    _, following, _ = window.page_of(rows, [99, 99])
    assert following is not None
    assert Cursor.open(following, SIGNER, keys).position == (10, 1)

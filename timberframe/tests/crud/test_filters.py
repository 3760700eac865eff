"""Filters: the statements that clients can make the process compile and keep are few."""

import pytest

from specimen.crud import product_crud
from timberframe.crud.filters import MAX_CHOICES, MAX_REPEATED
from timberframe.data.query import Queries, Query
from timberframe.data.session import Database
from timberframe.schemas.page import CommonQueryParams


class Params(CommonQueryParams):
    sku__in: list[str] | None = None
    tag: list[str] | None = None


async def statements(
    database: Database, monkeypatch: pytest.MonkeyPatch, requests: list[Params]
) -> int:
    """How many are compiled for these requests."""
    compiled: list[Query] = []
    get = Queries.get

    def counting(self: Queries, shape, build):  # type: ignore[no-untyped-def]
        query = get(self, shape, build)
        if query not in compiled:
            compiled.append(query)
        return query

    with monkeypatch.context() as patch:
        patch.setattr(Queries, "get", counting)
        for params in requests:
            await product_crud.get_multi(database, params=params, viewer=None)
    return len(compiled)


async def test_lists_of_many_lengths_share_a_few_statements(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = [Params(sku__in=["a"] * length) for length in range(1, MAX_CHOICES + 1)]
    assert await statements(database, monkeypatch, choices) == 8  # 1, 2, 4 … 128
    tags = [Params(tag=["a"] * length) for length in range(1, MAX_REPEATED + 1)]
    assert await statements(database, monkeypatch, tags) == 5  # 1, 2, 4, 8, 16

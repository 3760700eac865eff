"""Lists of ids in a row, and the table of links that triggers keep."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel
from sqlalchemy import Connection, ForeignKey, delete, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from timberframe.crud.base import CRUDBase
from timberframe.crud.deletion import Deletion, check_nothing_forbids
from timberframe.crud.filters import HasAll
from timberframe.crud.policy import SERVER, Policy, Principal, owner
from timberframe.data import links
from timberframe.data.base import Base as AppBase
from timberframe.data.base import Identified, Versioned
from timberframe.data.column_types import IdList
from timberframe.data.links import link_table
from timberframe.data.schema_check import find_missing
from timberframe.data.session import Database
from timberframe.data.unit_of_work import UnitOfWork
from timberframe.errors import Conflict, UnknownReference, WrongDeclaration
from timberframe.http.resources import listed
from timberframe.schemas.fields import QueryId
from timberframe.schemas.models import OutputModel
from timberframe.testing import ALICE, BOB


class Base(DeclarativeBase):
    """Its tables are not in the project's schema."""

    metadata = type(AppBase.metadata)(naming_convention=AppBase.metadata.naming_convention)
    type_annotation_map: ClassVar = AppBase.type_annotation_map


class Reader(Identified, Base):
    __tablename__ = "readers"


class Subject(Identified, Versioned, Base):
    __tablename__ = "subjects"

    owner_id: Mapped[int] = mapped_column(ForeignKey("readers.id", ondelete="CASCADE"))


class Book(Identified, Versioned, Base):
    __tablename__ = "books"

    subject_ids: Mapped[list[int]] = mapped_column(IdList, server_default="[]")
    owner_id: Mapped[int] = mapped_column(ForeignKey("readers.id", ondelete="CASCADE"))


book_subjects = link_table(
    "book_subjects", Book.subject_ids, row="book_id", listed="subject_id", refers_to=Subject.id
)


class SubjectOut(OutputModel):
    id: int


class BookIn(BaseModel):
    subject_ids: list[int]


class BookOut(OutputModel):
    id: int
    subject_ids: list[int]


class CRUDSubject(CRUDBase[Any, Any, Any]):
    policy = Policy(read=owner(Subject.owner_id), write=owner(Subject.owner_id))
    schema = SubjectOut


subject_crud = CRUDSubject(Subject)


class CRUDBook(CRUDBase[Any, BookIn, BookIn]):
    policy = Policy(read=owner(Book.owner_id), write=owner(Book.owner_id))
    schema = BookOut
    references: ClassVar[dict[Any, Any]] = {Book.subject_ids: subject_crud}
    further_filters = (
        HasAll(
            "subject_id",
            "All of these",
            list[QueryId],
            book_subjects.c.subject_id,
            book_subjects.c.book_id,
            Book.id,
        ),
    )


book_crud = CRUDBook(Book)
ALICES, ALSO_ALICES, BOBS = 1, 2, 3
ALICE_AS_VIEWER = Principal(ALICE.id, is_superuser=False)
LISTED = ("books", "subject_ids")
LINKS = ("book_subjects", "book_id", "subject_id")


@pytest.fixture
async def library(database: Database) -> Database:
    """Two subjects of alice's, one of bob's."""
    async with database.transaction() as db:
        await (await db.connection()).run_sync(Base.metadata.create_all)
        await with_triggers(db, links.create_v1, *LISTED, *LINKS)
        await db.execute(insert(Reader), [{"id": ALICE.id}, {"id": BOB.id}])
        owners = {ALICES: ALICE.id, ALSO_ALICES: ALICE.id, BOBS: BOB.id}
        subjects = [{"id": each, "owner_id": whose, "version": 1} for each, whose in owners.items()]
        await db.execute(insert(Subject), subjects)
    return database


async def with_triggers(db: UnitOfWork, change: Callable[..., None], *names: str) -> None:
    def run(connection: Connection) -> None:
        change(connection.exec_driver_sql, connection.dialect.name, *names)

    await (await db.connection()).run_sync(run)


async def create(library: Database, *ids: int, viewer: Principal = SERVER) -> int:
    book_in = BookIn(subject_ids=list(ids))
    created = await book_crud.create(library, obj_in=book_in, viewer=viewer, owner_id=ALICE.id)
    return created.id


async def update(library: Database, book_id: int, *ids: int, viewer: Principal = SERVER) -> None:
    async with library.transaction() as db:
        book = await book_crud.get_writable(db, book_id, viewer=viewer)
        book_in = BookIn(subject_ids=list(ids))
        await book_crud.update(db, db_obj=book, obj_in=book_in, viewer=viewer)


async def delete_subject(library: Database, subject_id: int) -> None:
    async with library.transaction() as db:
        subject = await subject_crud.get_writable(db, subject_id, viewer=SERVER)
        await subject_crud.delete(db, db_obj=subject)


async def linked(library: Database) -> list[tuple[int, int]]:
    columns = (book_subjects.c.book_id, book_subjects.c.subject_id)
    async with library.reading() as db:
        return [(row[0], row[1]) for row in await db.execute(select(*columns).order_by(*columns))]


async def test_links_follow_the_ids_whoever_writes_them(library: Database) -> None:
    book = await create(library, ALICES, BOBS)
    other = await create(library)
    assert await linked(library) == [(book, ALICES), (book, BOBS)]
    await update(library, book, ALSO_ALICES, BOBS)
    async with library.transaction() as db:
        await db.execute(text("UPDATE books SET subject_ids = '[1]' WHERE id = :id"), {"id": other})
    assert await linked(library) == [(book, ALSO_ALICES), (book, BOBS), (other, ALICES)]
    await update(library, book)
    assert await linked(library) == [(other, ALICES)]
    async with library.transaction() as db:
        await db.execute(delete(Book))
    assert await linked(library) == []


async def test_filter_finds_rows_that_list_all(library: Database) -> None:
    await create(library, ALICES, BOBS)
    await create(library, BOBS)
    for sent, found in (((ALICES, BOBS), 1), ((BOBS,), 2), ((ALSO_ALICES,), 0)):
        ids = [str(each) for each in sent]
        params = listed(book_crud).model.model_validate({"subject_id": ids})
        page = await book_crud.get_multi(library, params=params, viewer=SERVER)
        assert page.total == found


async def test_id_of_a_hidden_or_missing_row_is_refused(library: Database) -> None:
    book = await create(library, ALICES, viewer=ALICE_AS_VIEWER)
    for wrong in (BOBS, 10**6):
        with pytest.raises(UnknownReference):
            await create(library, ALICES, wrong, viewer=ALICE_AS_VIEWER)
        with pytest.raises(UnknownReference):
            await update(library, book, ALICES, wrong, viewer=ALICE_AS_VIEWER)
    assert await linked(library) == [(book, ALICES)]


async def test_id_that_stays_is_not_checked_again(library: Database) -> None:
    book = await create(library, ALICES, BOBS)
    await update(library, book, ALSO_ALICES, BOBS, viewer=ALICE_AS_VIEWER)
    assert await linked(library) == [(book, ALSO_ALICES), (book, BOBS)]


async def test_row_that_is_listed_stays(library: Database) -> None:
    book = await create(library, ALICES, BOBS)
    with pytest.raises(Conflict):
        await delete_subject(library, ALICES)
    await update(library, book, BOBS)
    await delete_subject(library, ALICES)


async def test_owner_is_deleted_with_what_lists_and_what_is_listed(library: Database) -> None:
    await create(library, ALICES, ALSO_ALICES)
    async with library.transaction() as db:
        await db.execute(delete(Reader).where(Reader.id == ALICE.id))
    assert await linked(library) == []


async def test_the_same_in_batches(library: Database) -> None:
    await create(library, ALICES, ALSO_ALICES)
    readers: Any = Reader.__table__
    async with library.reading() as db:
        await check_nothing_forbids(db, readers, readers.c.id == ALICE.id)
    assert await Deletion(library, seconds=60).run(readers, [ALICE.id])
    assert await linked(library) == []


async def test_missing_trigger_is_noticed_at_the_start(library: Database) -> None:
    async def missing() -> list[str]:
        async with library.reading() as db:
            connection = await db.connection()
            return await connection.run_sync(lambda sync: list(find_missing(sync, Base.metadata)))

    assert await missing() == []
    async with library.transaction() as db:
        await with_triggers(db, links.drop_v1, *LISTED)
    assert "books_subject_ids_inserted of books" in await missing()


def test_list_whose_crud_is_of_another_table_is_refused_at_the_start() -> None:
    class CRUDWrong(CRUDBook):
        references: ClassVar[dict[Any, Any]] = {Book.subject_ids: book_crud}

    with pytest.raises(WrongDeclaration, match="subject_ids refer to Book"):
        CRUDWrong(Book)


Write = Callable[[Database], Awaitable[None]]


async def write_new(library: Database) -> None:
    await create(library, ALICES, ALSO_ALICES)


async def write_existing(library: Database) -> None:
    async with library.reading() as db:
        book = (await db.scalars(select(Book.id))).one()
    await update(library, book, ALICES, ALSO_ALICES)


async def during_the_deletion(library: Database, write: Write) -> tuple[object, bool]:
    """What becomes of a write that lists a subject whose deletion is not yet committed.

    And whether it waited.
    """
    async with library.transaction() as db:
        await db.execute(delete(Subject).where(Subject.id == ALICES))
        writing = asyncio.create_task(asyncio.wait_for(write(library), 10))
        await asyncio.sleep(0.3)
        is_waiting = not writing.done()
    (outcome,) = await asyncio.gather(writing, return_exceptions=True)
    return outcome, is_waiting


@pytest.mark.parametrize("write", [write_new, write_existing])
async def test_row_that_is_deleted_meanwhile_is_not_listed(library: Database, write: Write) -> None:
    await create(library)
    outcome, was_waiting = await during_the_deletion(library, write)
    assert isinstance(outcome, (Conflict, UnknownReference)), outcome
    assert was_waiting
    assert await linked(library) == []


@pytest.mark.parametrize("write", [write_new, write_existing])
@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_control_without_the_links_it_would_be(library: Database, write: Write) -> None:
    """SQLite has one writer at a time."""
    await create(library)
    async with library.transaction() as db:
        await with_triggers(db, links.drop_v1, *LISTED)
    outcome, _ = await during_the_deletion(library, write)
    assert not isinstance(outcome, Exception)
    async with library.reading() as db:
        assert [ALICES, ALSO_ALICES] in list(await db.scalars(select(Book.subject_ids)))
        assert await db.get(Subject, ALICES) is None

"""The base of all models: constraint names, and mixins."""

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, MetaData, Table, func, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from timberframe.data.column_types import BigInt, Text, UTCDateTime

MAX_ID = 2**63 - 1


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )

    type_annotation_map: ClassVar = {int: BigInteger, str: Text}

    id: Mapped[int]

    def __repr__(self) -> str:
        # By what is known without a query: an attribute may have to be loaded.
        identity = inspect(self).identity
        return f"<{type(self).__name__} {', '.join(map(str, identity or ('not stored',)))}>"


def utc_now() -> datetime:
    return datetime.now(UTC)


class Identified:
    """A positive 64-bit key that is never reused, so that an old token cannot match a new user."""

    id: Mapped[int] = mapped_column(BigInt, primary_key=True, sort_order=-1)

    @classmethod
    def __table_cls__(cls, *arguments: Any, **options: Any) -> Table:
        # Without AUTOINCREMENT, SQLite would reuse the highest key after its row is deleted.
        return Table(*arguments, sqlite_autoincrement=True, **options)


class Timestamped:
    """Set in Python, with microseconds on both engines; the server default is for plain SQL."""

    created_at: Mapped[datetime] = mapped_column(
        UTCDateTime, default=utc_now, server_default=func.now(), sort_order=1
    )
    updated_at: Mapped[datetime] = mapped_column(
        UTCDateTime,
        default=lambda context: context.get_current_parameters()["created_at"],
        onupdate=utc_now,
        server_default=func.now(),
        sort_order=1,
    )


class Versioned:
    """A version counter: updating a row that changed since it was read raises `StaleDataError`."""

    version: Mapped[int] = mapped_column(default=1, server_default="1", sort_order=2)

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805 - called with the class
        return {"version_id_col": cls.version}


class SoftDeletable:
    """Deleted rows are hidden and can be restored; meanwhile others may use their unique values."""

    deleted_at: Mapped[datetime | None] = mapped_column(UTCDateTime, sort_order=2)


class Record(Identified, Timestamped, Versioned, Base):
    """The usual base of a model: an id, `created_at` and `updated_at`, and a version."""

    __abstract__ = True

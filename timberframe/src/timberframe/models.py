"""Base classes of models, and types of columns that behave alike on both engines."""

from timberframe.data.base import Base, Identified, Record, SoftDeletable, utc_now
from timberframe.data.column_types import (
    BigInt,
    Document,
    FixedPoint,
    IdList,
    Money,
    StringList,
    Text,
    UTCDateTime,
)
from timberframe.data.links import link_table
from timberframe.data.schema_check import need_triggers

__all__ = [
    "Base",
    "BigInt",
    "Document",
    "FixedPoint",
    "IdList",
    "Identified",
    "Money",
    "Record",
    "SoftDeletable",
    "StringList",
    "Text",
    "UTCDateTime",
    "link_table",
    "need_triggers",
    "utc_now",
]

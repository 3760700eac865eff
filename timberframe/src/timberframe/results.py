"""What crud returns and routes answer with: rows as JSON that the database made."""

from timberframe.crud.results import Created, Slice, Stored

__all__ = ["Created", "Slice", "Stored"]

"""The bases of your models: `Record` has an id, times and a version, `Base` has none of them."""

from timberframe.models import Base, Record

__all__ = ["Base", "Record"]

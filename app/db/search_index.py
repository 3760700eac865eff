"""The index of full-text search, which migrations create; it is the frame's."""

from timberframe.search.index import create_v1, drop_v1

__all__ = ["create_v1", "drop_v1"]

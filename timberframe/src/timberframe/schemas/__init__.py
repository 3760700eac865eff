"""Schemas of input and output; `timberframe.schemas.fields` has types for their fields."""

from timberframe.schemas.message import Message, Problem
from timberframe.schemas.models import InputModel, OutputModel
from timberframe.schemas.page import Page, Pagination

__all__ = ["InputModel", "Message", "OutputModel", "Page", "Pagination", "Problem"]

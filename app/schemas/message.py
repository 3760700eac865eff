"""Answers that are no resource: a plain message, and RFC 9457 problem details."""

from pydantic import BaseModel

from app.schemas.bulk import RowError


class Message(BaseModel):
    message: str


class FieldError(BaseModel):
    loc: list[str | int]
    msg: str
    type: str


class Problem(BaseModel):
    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldError] | list[RowError] | None = None

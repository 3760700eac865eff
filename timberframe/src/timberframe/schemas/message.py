"""Answers other than resources: a plain message, and RFC 9457 problem details."""

from pydantic import BaseModel, Field

from timberframe.schemas.bulk import RowError


class Message(BaseModel):
    message: str = Field(
        description="What happened, for people", examples=["Notification will be sent"]
    )


class FieldError(BaseModel):
    """What is wrong with one field; the value that was sent is never repeated."""

    loc: list[str | int] = Field(
        description="Where: `body`, `query`, `path` or `header`, then names and indexes",
        examples=[["body", "username"]],
    )
    msg: str = Field(
        description="What would be accepted",
        examples=["must be 3 to 50 letters, digits, dots, hyphens or underscores"],
    )
    type: str = Field(description="The kind of error, for programs", examples=["value_error"])


class Problem(BaseModel):
    """RFC 9457; some errors have further members, depending on their `code`."""

    type: str = Field(description="What the title means", examples=["about:blank"])
    title: str = Field(description="The reason phrase of the status", examples=["Unauthorized"])
    status: int = Field(description="The status of the answer", examples=[401])
    detail: str = Field(
        description="What went wrong, for people", examples=["Could not validate credentials"]
    )
    code: str = Field(description="What went wrong, for programs", examples=["not_authenticated"])
    request_id: str = Field(
        description="Identifies the request in the log",
        examples=["c0225fc47ed8f46faadce03d32f594d3"],
    )
    errors: list[FieldError] | list[RowError] | None = Field(
        default=None, description="What is wrong with fields, or with rows of a file"
    )
    error: str | None = Field(
        default=None,
        description="Only at the token endpoint: RFC 6749 section 5.2",
        examples=["invalid_grant"],
    )
    error_description: str | None = Field(
        default=None,
        description="Only at the token endpoint: RFC 6749 section 5.2",
        examples=["Incorrect username or password"],
    )

"""The base classes of all schemas: strict input, plain output."""

from pydantic import BaseModel, ConfigDict


class InputModel(BaseModel):
    """What a client sends: unknown fields are refused, and values are not coerced.

    The documentation takes a field's description from the answer, unless it has one here.
    """

    model_config = ConfigDict(extra="forbid", strict=True)


class OutputModel(BaseModel):
    """What a client gets, read from a model's attributes; describe each field, with an example."""

    model_config = ConfigDict(from_attributes=True)

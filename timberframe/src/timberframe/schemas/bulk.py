"""Import and export: their parameters, and the report of an import."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from timberframe.schemas.page import Sortable

MAX_ROW_ERRORS = 100


class _ImportMode(BaseModel):
    mode: Literal["all", "skip"] = Field(
        default="all",
        description="`all`: import every row or none; `skip`: leave out rows that are refused",
    )
    dry_run: bool = Field(
        default=False, description="Check and report everything, but keep nothing"
    )


class ImportParams(_ImportMode):
    """Unknown parameters are refused: `dryrun=true` would otherwise import."""

    model_config = ConfigDict(extra="forbid")

    delimiter: Literal["comma", "semicolon", "tab"] = Field(
        default="comma", description="What separates the cells of a CSV file"
    )
    decimal: Literal["point", "comma"] = Field(
        default="point", description="The decimal mark of numbers in a CSV file"
    )


class ExportParams(Sortable):
    format: Literal["csv", "jsonl"] = Field(
        default="csv", description="`csv`: for spreadsheets; `jsonl`: one JSON object a line"
    )


class RowError(BaseModel):
    """Why a row was refused."""

    line: int = Field(description="Where the row begins in the file, from 1", examples=[2])
    field: str | None = Field(
        description="The field that is wrong; null for the whole row", examples=["number"]
    )
    reason: str = Field(description="What would be accepted", examples=["must be a whole number"])


class ImportReport(_ImportMode):
    """How many rows were created, updated, unchanged or refused; lists only the first errors."""

    created: int = Field(default=0, description="New rows")
    updated: int = Field(default=0, description="Existing rows that have changed")
    unchanged: int = Field(default=0, description="Existing rows that are as in the file")
    refused: int = Field(default=0, description="Rows that were refused")
    errors_total: int = Field(
        default=0, description="How many errors there are in all refused rows"
    )
    errors: list[RowError] = Field(
        default=[], max_length=MAX_ROW_ERRORS, description="The first errors"
    )

    @property
    def is_full(self) -> bool:
        """Whether further errors are only counted."""
        return len(self.errors) >= MAX_ROW_ERRORS

    def refuse(
        self, line: int, errors: Sequence[tuple[str | None, str]] = (), *, count: int | None = None
    ) -> None:
        """Count a refused row, with the fields at fault and the reasons.

        `count` is the number of errors where `errors` is left out, because nobody would see them.
        """
        self.refused += 1
        self.errors_total += len(errors) if count is None else count
        room = MAX_ROW_ERRORS - len(self.errors)
        self.errors += [
            RowError(line=line, field=field, reason=reason) for field, reason in errors[:room]
        ]

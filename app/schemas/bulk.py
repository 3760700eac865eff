"""Import and export: what may be asked for, and what came of it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.schemas.page import Sortable

MAX_ROW_ERRORS = 100


class ImportParams(BaseModel):
    """Unknown parameters are refused: `dryrun=true` would otherwise import."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["all", "skip"] = Field(
        default="all", description="`all`: every row or none; `skip`: those that are good"
    )
    dry_run: bool = Field(default=False, description="Do all, tell all, and keep nothing")


class ExportParams(Sortable):
    format: Literal["csv", "jsonl"] = "csv"


class RowError(BaseModel):
    """`line` is where the row begins in the file, 1-based; `field` is null for the whole row."""

    line: int
    field: str | None
    reason: str


class ImportReport(ImportParams):
    """Rows by what became of them; of the errors only the first ones are listed."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    errors_total: int = 0
    errors: Annotated[list[RowError], Field(max_length=MAX_ROW_ERRORS)] = []

    def refuse(self, line: int, *errors: tuple[str | None, str]) -> None:
        """Count a row that cannot be taken, for these reasons of its fields."""
        self.refused += 1
        self.errors_total += len(errors)
        room = MAX_ROW_ERRORS - len(self.errors)
        self.errors += [
            RowError(line=line, field=field, reason=reason) for field, reason in errors[:room]
        ]

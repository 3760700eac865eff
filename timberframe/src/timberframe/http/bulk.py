"""Dependencies of routes that import or export the rows of any resource as a file."""

from collections.abc import Awaitable, Callable
from email.message import Message
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel
from sqlalchemy.orm import InstrumentedAttribute

from timberframe.bulk.exports import export
from timberframe.bulk.files import MEDIA_TYPES, TAKEN_MEDIA_TYPES, Format
from timberframe.bulk.imports import Import
from timberframe.crud.base import CRUDBase
from timberframe.errors import (
    BrokenFile,
    ContentTooLarge,
    ImportRefused,
    InvalidInput,
    NotPermitted,
    RequestTimeout,
    Unavailable,
    UnsupportedMediaType,
)
from timberframe.http.dependencies import CurrentUser, OptionalUser, accounts_of, database_of
from timberframe.http.problems import problems
from timberframe.http.resources import exported
from timberframe.http.transfers import STALLED_SECONDS, Download, Slots, uploaded
from timberframe.schemas.bulk import ExportParams, ImportParams, ImportReport

_FILE = {"schema": {"type": "string"}}
IMPORT_RESPONSES = problems(
    NotPermitted,
    RequestTimeout,
    ContentTooLarge,
    UnsupportedMediaType,
    ImportRefused,
    BrokenFile,
    Unavailable,
)
_EXPORTED = {"content": dict.fromkeys(MEDIA_TYPES.values(), _FILE), "description": "The file"}
EXPORT_RESPONSES: dict[int | str, dict[str, Any]] = {200: _EXPORTED, **problems(Unavailable)}


class TransferSlots:
    """How many uploads, imports and exports this process runs at once."""

    def __init__(self, pool_size: int) -> None:
        # An import takes its slot once the file has arrived, so a slow upload blocks nobody's
        # import. A user may have a second upload, because the server may notice late that the
        # first one broke off.
        self.uploads = Slots(16, "Upload", each=2)
        self.imports = Slots(2, "Import", each=1)
        # Each export holds a connection, and searches may hold half of them: leave some free.
        self.exports = Slots(max(1, pool_size // 4), "Export")


async def takes_file(request: Request) -> None:
    """Mark a route whose body is a file, so that the limits of imports apply to it."""


def body_is_file(dependant: Dependant) -> bool:
    return dependant.call is takes_file or any(map(body_is_file, dependant.dependencies))


def import_of(
    crud: CRUDBase[Any, Any, Any],
    schema: type[BaseModel],
    *,
    owner: InstrumentedAttribute[Any] | None = None,
) -> Callable[..., Awaitable[ImportReport]]:
    """A dependency that upserts rows of `schema` from the body, matched by their natural key.

    The caller becomes the `owner`. Its route must not be a `Route`: that buffers the whole body to
    retry a request after a conflict, while an import opens its own units of work and retries
    those. It takes no Idempotency-Key either, because an upsert is idempotent.
    """

    async def run_import(
        request: Request,
        marked: Annotated[None, Depends(takes_file)],
        current_user: CurrentUser,
        params: Annotated[ImportParams, Query()],
    ) -> ImportReport:
        file_format = _format_of(request)
        if file_format != "csv":
            for name in params.model_fields_set & {"delimiter", "decimal"}:
                raise InvalidInput.at("query", name, msg="is only for CSV")
        database, accounts = database_of(request), accounts_of(request)
        slots = _slots_of(request)
        importing = Import(
            database,
            crud,
            schema,
            params,
            viewer=current_user,
            check_rights=partial(accounts.check_rights, viewer=current_user),
            values={owner.key: current_user.id} if owner else {},
        )
        slots.imports.check(current_user.id)  # before the file is uploaded in vain
        with slots.uploads.take(current_user.id):
            async with uploaded(request) as file:
                await accounts.check_rights(database.fetch, current_user)
                with slots.imports.take(current_user.id):
                    try:
                        report = await importing.run(file, file_format)
                    finally:  # some batches may be committed, even if the import failed
                        await accounts.note_write(database, current_user.id)
        if report.mode == "all" and report.refused:
            raise ImportRefused(report.model_dump())
        return report

    return run_import


def export_of(
    crud: CRUDBase[Any, Any, Any], schema: type[BaseModel]
) -> Callable[..., Awaitable[Download]]:
    """A dependency that gives a list as a file, with the fields of `schema`."""
    params_of = exported(crud)

    async def start_export(
        request: Request, params: Annotated[ExportParams, Depends(params_of)], viewer: OptionalUser
    ) -> Download:
        database = database_of(request)
        return Download(
            export(database, crud, schema, params.format, params=params, viewer=viewer),
            _slots_of(request).exports,
            filename=f"{crud.model.__tablename__}.{params.format}",
            media_type=MEDIA_TYPES[params.format],
            # PostgreSQL ends a transaction that is idle for twice the statement timeout.
            stalled_seconds=min(STALLED_SECONDS, 1.5 * database.options.statement_timeout),
        )

    return start_export


def file_body(max_bytes: int) -> dict[str, Any]:
    """The body of an import, for the documentation of its route."""
    file = {"schema": {"type": "string", "maxLength": max_bytes}}
    return {"required": True, "content": dict.fromkeys(TAKEN_MEDIA_TYPES, file)}


def _format_of(request: Request) -> Format:
    sent = Message()
    sent["Content-Type"] = request.headers.get("content-type", "")
    file_format = TAKEN_MEDIA_TYPES.get(sent.get_content_type())
    if file_format is None or sent.get_content_charset("utf-8") != "utf-8":
        raise UnsupportedMediaType(f"{' or '.join(MEDIA_TYPES.values())}, in UTF-8")
    return file_format


def _slots_of(request: Request) -> TransferSlots:
    slots: TransferSlots = request.app.state.transfer_slots
    return slots

"""Products in bulk: a file of them in, and a list of them out as a file."""

from email.message import Message
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, status

from app import schemas
from app.api.errors import problems
from app.api.resources import exported
from app.api.routing import LineRoute
from app.api.transfers import Download, Places, uploaded
from app.bulk.exports import export
from app.bulk.files import MEDIA_TYPES, TAKEN_MEDIA_TYPES, Format
from app.bulk.imports import Import
from app.core.config import settings
from app.core.errors import (
    BrokenFile,
    ContentTooLarge,
    ImportRefused,
    InvalidInput,
    NotPermitted,
    RequestTimeout,
    Unavailable,
    UnsupportedMediaType,
)
from app.crud.product import product_crud
from app.crud.user import user_crud
from app.db.session import Database
from app.dependencies import OPTIONAL_AUTH, CurrentUser, OptionalUser
from app.schemas.bulk import ExportParams

# Not StrictRoute: it keeps the whole body, to run a request again after a conflict. An import
# opens its own units of work and runs these again. Nor has it an Idempotency-Key: done twice, an
# upsert has done what it did once.
router = APIRouter(route_class=LineRoute)

_FILE = {"schema": {"type": "string", "maxLength": settings.IMPORT_MAX_BODY_BYTES}}
FILES = dict.fromkeys(MEDIA_TYPES.values(), _FILE)
TAKEN = dict.fromkeys(TAKEN_MEDIA_TYPES, _FILE)
IMPORT_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": TAKEN}}
EXPORTED: dict[int | str, dict[str, Any]] = {200: {"content": FILES, "description": "The file"}}

# A file that comes slowly keeps nobody from an import, whose place is taken when it is there. A
# second upload is for a user whose first one broke off, which the server learns late.
uploads = Places(16, "Upload", each=2)
imports = Places(2, "Import", each=1)
# Each export holds a connection, and searches may hold half of them: some are for others.
exports = Places(max(1, settings.DATABASE_POOL_SIZE // 4), "Export")

ExportedProducts = Annotated[ExportParams, Depends(exported(product_crud))]


@router.post(
    "/import",
    response_model=schemas.ImportReport,
    responses=problems(
        NotPermitted,
        RequestTimeout,
        ContentTooLarge,
        UnsupportedMediaType,
        ImportRefused,
        BrokenFile,
        Unavailable,
    ),
    openapi_extra=IMPORT_BODY,
)
async def import_products(
    request: Request,
    current_user: CurrentUser,
    params: Annotated[schemas.ImportParams, Query()],
) -> schemas.ImportReport:
    """Create products, and update those of the caller that have the same sku, from a file."""
    file_format = _format_of(request)
    if file_format != "csv":
        for name in params.model_fields_set & {"delimiter", "decimal"}:
            raise InvalidInput.at("query", name, msg="is for CSV alone")
    database: Database = request.app.state.database
    importing = Import(
        database,
        product_crud,
        schemas.ProductCreate,
        params,
        viewer=current_user,
        owner_id=current_user.id,
    )
    imports.check(current_user.id)  # before a file is sent for nothing
    with uploads.take(current_user.id):
        async with uploaded(request) as file:
            await user_crud.check_rights(database.fetch, current_user)
            with imports.take(current_user.id):
                try:
                    report = await importing.run(file, file_format)
                finally:  # some of its batches may be written, whatever came then
                    await user_crud.note_write(database, current_user.id)
    if report.mode == "all" and report.refused:
        raise ImportRefused(report.model_dump())
    return report


def _format_of(request: Request) -> Format:
    sent = Message()
    sent["Content-Type"] = request.headers.get("content-type", "")
    file_format = TAKEN_MEDIA_TYPES.get(sent.get_content_type())
    if file_format is None or sent.get_content_charset("utf-8") != "utf-8":
        raise UnsupportedMediaType(f"{' or '.join(MEDIA_TYPES.values())}, in UTF-8")
    return file_format


@router.get(
    "/export",
    status_code=status.HTTP_200_OK,  # FastAPI looks for it in StreamingResponse's own signature
    response_class=Download,
    responses=EXPORTED | problems(Unavailable),
    openapi_extra=OPTIONAL_AUTH,
)
async def export_products(
    request: Request, params: ExportedProducts, viewer: OptionalUser
) -> Download:
    """Export a list of products as a file that can be imported again."""
    database: Database = request.app.state.database
    return Download(
        export(
            database,
            product_crud,
            schemas.ProductCreate,
            params.format,
            params=params,
            viewer=viewer,
        ),
        exports,
        filename=f"products.{params.format}",
        media_type=MEDIA_TYPES[params.format],
    )

"""Products in bulk: a file of them in, and a list of them out as a file."""

from typing import Annotated

from fastapi import APIRouter, Depends, status
from timberframe.routes import (
    EXPORT_RESPONSES,
    IMPORT_RESPONSES,
    Download,
    LineRoute,
    export_of,
    import_of,
)

from app import schemas
from app.crud import product_crud
from app.models import Product

router = APIRouter(route_class=LineRoute)

ImportedProducts = Annotated[
    schemas.ImportReport,
    Depends(import_of(product_crud, schemas.ProductCreate, owner=Product.owner_id)),
]
ExportedProducts = Annotated[Download, Depends(export_of(product_crud, schemas.ProductCreate))]


@router.post("/import", response_model=schemas.ImportReport, responses=IMPORT_RESPONSES)
async def import_products(report: ImportedProducts) -> schemas.ImportReport:
    """Create products, and update those of the caller that have the same sku, from a file."""
    return report


@router.get(
    "/export",
    status_code=status.HTTP_200_OK,  # FastAPI looks for it in StreamingResponse's own signature
    response_class=Download,
    responses=EXPORT_RESPONSES,
)
async def export_products(download: ExportedProducts) -> Download:
    """Export a list of products as a file that can be imported again."""
    return download

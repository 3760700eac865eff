"""The routes that are timed."""
# ruff: noqa: B008 - the guide declares dependencies as defaults

from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Query
from sqlalchemy.orm import Session

from benchmarks.guide import crud, models, schemas
from benchmarks.guide.dependencies import get_current_active_user, get_db

products = APIRouter()
users = APIRouter()


@products.get("/", response_model=schemas.ProductList)
def read_products(
    db: Session = Depends(get_db),
    skip: int = Query(0, ge=0),
    limit: int = Query(100, ge=1, le=100),
) -> Any:
    items = crud.product.get_multi(db, skip=skip, limit=limit)
    total = db.query(models.Product).count()
    return {"items": items, "total": total, "page": skip // limit + 1, "size": limit}


@products.post("/", response_model=schemas.Product, status_code=201)
def create_product(
    *,
    db: Session = Depends(get_db),
    product_in: schemas.ProductCreate,
    current_user: models.User = Depends(get_current_active_user),
) -> Any:
    return crud.product.create(db, obj_in=product_in, owner_id=current_user.id)


@products.get("/{product_id}", response_model=schemas.Product)
def read_product(product_id: int, db: Session = Depends(get_db)) -> Any:
    product = crud.product.get(db, product_id)
    if product is None:
        raise HTTPException(status_code=404, detail="Product not found")
    return product


@users.get("/me", response_model=schemas.User)
def read_user_me(current_user: models.User = Depends(get_current_active_user)) -> Any:
    return current_user

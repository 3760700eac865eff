"""Reading and writing rows as objects."""

from typing import Any, Generic, TypeVar

from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel
from sqlalchemy.orm import Session

from benchmarks.guide import models

ModelT = TypeVar("ModelT", bound=models.Base)


class CRUDBase(Generic[ModelT]):
    def __init__(self, model: type[ModelT]) -> None:
        self.model = model

    def get(self, db: Session, id: Any) -> ModelT | None:
        return db.query(self.model).filter(self.model.id == id).first()

    def get_multi(self, db: Session, *, skip: int = 0, limit: int = 100) -> list[ModelT]:
        # Ordered, unlike the guide's, or two systems would not answer the same rows.
        return db.query(self.model).order_by(self.model.id).offset(skip).limit(limit).all()

    def create(self, db: Session, *, obj_in: BaseModel, **values: Any) -> ModelT:
        obj_in_data = jsonable_encoder(obj_in)
        db_obj = self.model(**obj_in_data, **values)
        db.add(db_obj)
        db.commit()
        db.refresh(db_obj)
        return db_obj


user = CRUDBase(models.User)
product = CRUDBase(models.Product)

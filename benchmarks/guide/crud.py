"""Reading rows as objects."""

from typing import Any, Generic, TypeVar

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


user = CRUDBase(models.User)
product = CRUDBase(models.Product)

"""People who may sign in."""

from sqlalchemy.orm import Mapped
from timberframe.accounts import Account


class User(Account):
    __tablename__ = "users"

    full_name: Mapped[str | None]

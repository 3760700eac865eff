"""Users: who may read and write them, and the filters and orders of their lists."""

from timberframe.accounts import Accounts
from timberframe.crud import EQUALITY, RANGE, Policy, Search, everybody, owner, superusers

from app import schemas
from app.core.security import passwords
from app.crud.base import CRUDBase
from app.models import User
from app.schemas import UserAdminUpdate, UserCreate, UserUpdate


class CRUDUser(
    CRUDBase[User, UserCreate, UserUpdate | UserAdminUpdate],
    Accounts[User, UserCreate, UserUpdate | UserAdminUpdate],
):
    sign_up = UserCreate
    passwords = passwords
    policy = Policy(read=owner(User.id), write=superusers, create=everybody)
    schema = schemas.User
    filters = {
        User.email: (*EQUALITY, "prefix"),
        User.username: (*EQUALITY, "prefix"),
        User.full_name: ("isnull",),
        User.is_active: ("eq",),
        User.is_superuser: ("eq",),
        User.created_at: RANGE,
        User.updated_at: RANGE,
    }
    events = True
    search = Search(User, User.email, User.username, User.full_name)
    sorted_by = (User.email, User.username, User.created_at, User.updated_at)


user_crud = CRUDUser(User)

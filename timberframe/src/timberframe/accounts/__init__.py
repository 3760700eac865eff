"""User accounts: the columns of their table, and the operations on them."""

from timberframe.accounts.crud import Accounts
from timberframe.accounts.model import Account

__all__ = ["Account", "Accounts"]

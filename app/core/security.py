"""Passwords and tokens of this project; the frame does the work."""

from timberframe.security.passwords import Passwords
from timberframe.security.tokens import Tokens

from app.core.config import settings

passwords = Passwords()
tokens = Tokens.of(settings)

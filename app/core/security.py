"""The passwords of this project; `Passwords(HashCost(…))` makes their hashes cost more."""

from timberframe.security.passwords import Passwords

passwords = Passwords()

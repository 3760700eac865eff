"""The passwords of this project.

`Passwords(HashCost(…))` makes their hashes cost more; `Passwords(hasher)` makes others.
"""

from timberframe.security.passwords import Passwords

passwords = Passwords()

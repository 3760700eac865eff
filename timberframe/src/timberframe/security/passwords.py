"""Password hashes: by default Argon2id as OWASP recommends it, in few threads of their own."""

import asyncio
import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.exceptions import PwdlibError
from pwdlib.hashers import HasherProtocol
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher

from timberframe.errors import Unavailable

T = TypeVar("T")

MAX_WAITING_HASHES = 256
MAX_HASHING_SECONDS = 30  # including the wait for the hashes before it

_HASHING_NICENESS = 15  # a thirtieth of a core that others compete for
_M_MMAP_THRESHOLD = -3  # of mallopt(3)


@dataclass(frozen=True)
class HashCost:
    """The parameters of Argon2id."""

    memory_kib: int
    passes: int
    lanes: int


# https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html
OWASP = HashCost(memory_kib=19 * 1024, passes=2, lanes=1)


class Passwords:
    """Hashes and verifies passwords; its threads start with the first password.

    New hashes are made by `hasher`: Argon2id at a `HashCost`, or any hasher of pwdlib or with its
    protocol. Hashes of `also_verifies` are verified too, and replaced at the next sign-in. Only
    tests should make hashes cheaper than OWASP recommends.

    Where a hasher does not take every password, such as bcrypt those of more than 72 bytes, the
    schemas must bound them: it raises ValueError.
    """

    def __init__(
        self,
        hasher: HashCost | HasherProtocol = OWASP,
        *,
        also_verifies: Iterable[HasherProtocol] = (Argon2Hasher(), BcryptHasher()),
    ) -> None:
        if isinstance(hasher, HashCost):
            hasher = Argon2Hasher(
                time_cost=hasher.passes, memory_cost=hasher.memory_kib, parallelism=hasher.lanes
            )
        self._hashers = PasswordHash((hasher, *also_verifies))
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """Raise `Unavailable` when too many hashes wait already."""
        return await self._run(lambda: self._hashers.hash(password))

    async def verify(self, password: str, hashed_password: str | None) -> tuple[bool, str | None]:
        """Whether the password is right, and a new hash when the stored one is outdated.

        Without a stored hash one is made, which is the same work, so that response times do not
        reveal who has an account.
        """
        return await self._run(lambda: self._verify(password, hashed_password))

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        """A hash costs about 20 ms of a core and 19 MiB: few at once, and one core left free."""
        _return_large_blocks()
        count = max(1, (os.cpu_count() or 1) - 1)
        return ThreadPoolExecutor(count, thread_name_prefix="hash", initializer=_lower_priority)

    def _verify(self, password: str, hashed_password: str | None) -> tuple[bool, str | None]:
        # The errors: an unknown hash format, or more than the 72 bytes that bcrypt reads.
        with suppress(PwdlibError, ValueError):
            if not hashed_password:
                self._hashers.hash(password)
                return False, None
            try:
                return self._hashers.verify_and_update(password, hashed_password)
            except ValueError:  # perhaps only the hasher of new hashes does not take it
                return self._hashers.verify(password, hashed_password), None
        return False, None

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= MAX_WAITING_HASHES:
            raise Unavailable("Password checking")
        self._waiting += 1
        try:
            async with asyncio.timeout(MAX_HASHING_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except TimeoutError:
            raise Unavailable("Password checking") from None
        finally:
            self._waiting -= 1


def _return_large_blocks() -> None:
    """Let glibc return the 19 MiB of a hash to the system, instead of keeping them for the next."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # another libc
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1024 * 1024)


def _lower_priority() -> None:
    """Let requests that need no hash go first."""
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        with suppress(OSError):  # not permitted here
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _HASHING_NICENESS)

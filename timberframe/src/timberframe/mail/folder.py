"""The folder that mail is written to: one file for each message, for its owner's eyes only."""

import os
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple

SUFFIX = ".eml"


class MailFile(NamedTuple):
    name: str
    written_at: datetime


def write_message(message: EmailMessage, folder: Path) -> None:
    """Write the message so that a reader of the folder never sees a part of it."""
    content = message.as_bytes()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S-%f}_{uuid.uuid4().hex[:8]}{SUFFIX}"
    temporary = folder / f".{name}.tmp"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        temporary.replace(folder / name)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def list_messages(folder: Path) -> list[MailFile]:
    """The files of messages, newest first; links are left out, since they may lead elsewhere."""
    found = []
    with suppress(FileNotFoundError), os.scandir(folder) as entries:  # nothing was written yet
        for entry in entries:
            # A name that is not printable, such as one that is not UTF-8, cannot stand in a link.
            if entry.name.endswith(SUFFIX) and entry.name.isprintable():
                with suppress(FileNotFoundError):  # gone by now
                    if entry.is_file(follow_symlinks=False):
                        found.append((entry.stat().st_mtime_ns, entry.name))
    found.sort(reverse=True)
    return [MailFile(name, datetime.fromtimestamp(at / 1e9, UTC)) for at, name in found]


def find_message(folder: Path, name: str) -> MailFile | None:
    """The file of that name, if the folder has it: a name is compared, and never made a path."""
    return next((file for file in list_messages(folder) if file.name == name), None)


def read_message(folder: Path, file: MailFile, max_bytes: int) -> bytes:
    """The beginning of a file; nothing if it cannot be read."""
    try:
        with (folder / file.name).open("rb") as opened:
            return opened.read(max_bytes)
    except OSError:
        return b""

"""Mail without a server: files in a folder, whole and for their owner only."""

import os
import stat
from email.message import EmailMessage
from email.policy import SMTPUTF8
from pathlib import Path

import pytest

from timberframe.mail import MailNotSent, MailOptions, send


@pytest.fixture
def options(tmp_path: Path) -> MailOptions:
    return MailOptions(
        sender="shop@example.com", folder=tmp_path / "mail/outbox", project_name="Shop"
    )


def message() -> EmailMessage:
    made = EmailMessage(SMTPUTF8)
    made["From"], made["To"], made["Subject"] = "shop@example.com", "jürgen@example.com", "Hello"
    made.set_content("Hello\n")
    return made


async def test_message_is_a_file(options: MailOptions) -> None:
    await send(message(), options, message_id="job-17")
    [file] = options.folder.iterdir()
    assert file.suffix == ".eml"
    lines = file.read_text().splitlines()
    assert {"To: jürgen@example.com", "Message-ID: <job-17@example.com>"} <= set(lines)
    assert lines[-1] == "Hello"


async def test_files_and_folder_are_for_their_owner_only(options: MailOptions) -> None:
    before = os.umask(0)  # the most that others could be given
    try:
        await send(message(), options)
    finally:
        os.umask(before)
    [file] = options.folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(options.folder.stat().st_mode) == 0o700


async def test_reader_never_sees_a_part_of_a_message(
    options: MailOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message has its name only once it is complete."""
    seen = []
    replace = Path.replace

    def replace_noting(self: Path, target: Path) -> Path:
        seen.append((list(options.folder.glob("*.eml")), self.read_bytes()))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_noting)
    await send(message(), options)
    [(complete, content)] = seen
    [file] = options.folder.iterdir()
    assert complete == []
    assert content == file.read_bytes()


async def test_failed_write_is_an_error_and_leaves_nothing(
    options: MailOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(MailNotSent, match="OSError No space left on device"):
            await send(message(), options)
    assert list(options.folder.iterdir()) == []
    await send(message(), options)  # the control
    assert len(list(options.folder.iterdir())) == 1


async def test_folder_that_cannot_be_made_is_an_error(options: MailOptions) -> None:
    options.folder.parent.write_text("a file")
    with pytest.raises(MailNotSent, match="NotADirectoryError"):
        await send(message(), options)

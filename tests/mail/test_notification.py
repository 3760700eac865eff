"""The notification, from the route to a mailbox: a real SMTP server, or the folder."""

import re
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import httpx2
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from pydantic import SecretStr
from structlog.testing import capture_logs
from timberframe.testing import create_app, free_port, run_jobs

from app.core.config import settings


class Mailbox:
    """What the SMTP server took in."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[str] = []

    async def handle_DATA(  # noqa: N802 - the name that aiosmtpd calls
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        assert isinstance(envelope.content, bytes)
        self.messages.append(message_from_bytes(envelope.content, policy=default))
        self.recipients += envelope.rcpt_tos
        return "250 OK"


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    mailbox = Mailbox()
    port = free_port()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port, enable_SMTPUTF8=True)
    controller.start()
    monkeypatch.setattr(settings, "SMTP_URL", SecretStr(f"smtp://127.0.0.1:{port}"))
    yield mailbox
    controller.stop()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "outbox"
    monkeypatch.setattr(settings, "MAIL_FOLDER", folder)
    return folder


async def notify(client: httpx2.AsyncClient, email: str, **headers: str) -> httpx2.Response:
    return await client.post("/send-notification/", params={"email": email}, headers=headers)


async def test_notification_reaches_the_mailbox(
    admin: httpx2.AsyncClient, mailbox: Mailbox
) -> None:
    for email in ("carol@example.com", "jürgen@example.com"):
        answer = await notify(admin, email)
        assert answer.status_code == 200
        assert answer.json() == {"message": "Notification will be sent"}
        assert mailbox.recipients == []  # until it is committed
        [done] = await run_jobs()
        assert done.status == "done"
        assert mailbox.recipients == [email]
        (message,) = mailbox.messages
        assert message["To"] == email
        assert message["From"] == settings.MAIL_FROM
        assert message["Subject"] == settings.PROJECT_NAME
        assert message["Auto-Submitted"] == "auto-generated"
        assert message["Message-ID"] == f"<job-{done.id}@localhost>"
        text, html = message.iter_parts()
        assert isinstance(text, EmailMessage)
        assert isinstance(html, EmailMessage)
        assert text.get_content().strip() == "Registration successful"
        assert '<p style="margin: 0;">Registration successful</p>' in html.get_content()
        mailbox.recipients.clear()
        mailbox.messages.clear()


async def test_retry_is_mailed_once(admin: httpx2.AsyncClient, mailbox: Mailbox) -> None:
    keys = ("first", "first", "second")  # the last is the control
    answers = [await notify(admin, "carol@example.com", **{"Idempotency-Key": key}) for key in keys]
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, answers[0].text)}
    assert ["idempotency-replayed" in answer.headers for answer in answers] == [False, True, False]
    await run_jobs()
    assert len(mailbox.messages) == 2


async def test_without_a_server_mail_is_written_to_the_folder(
    admin: httpx2.AsyncClient, folder: Path
) -> None:
    await notify(admin, "carol@example.com")
    await run_jobs()
    (file,) = folder.iterdir()
    assert "To: carol@example.com" in file.read_text()


async def test_developers_see_it_without_a_mailbox(admin: httpx2.AsyncClient, folder: Path) -> None:
    await notify(admin, "carol@example.com")
    await run_jobs()
    transport = httpx2.ASGITransport(create_app())
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as browser:
        page = (await browser.get("/dev/mail")).text
        [link] = re.findall(r'href="(/dev/mail/[^"]+)"', page)
        text = (await browser.get(f"{link}?view=text")).text
    assert "carol@example.com" in page
    assert "Registration successful" in text


SLIPPED = (
    *("carol@example.com\r\nBcc: bob@example.com", "carol@example.com,bob@example.com"),
    *("<a@b>", ""),
)


async def test_nothing_is_slipped_into_the_message(admin: httpx2.AsyncClient, folder: Path) -> None:
    for email in SLIPPED:
        assert (await notify(admin, email)).status_code == 422, email
    assert await run_jobs() == []
    assert not folder.exists()


async def test_mail_waits_while_the_server_is_down(
    admin: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "SMTP_URL", SecretStr("smtp://127.0.0.1:1"))
    assert (await notify(admin, "carol@example.com")).status_code == 200
    with capture_logs() as logs:
        [failed] = await run_jobs()
    assert (failed.status, failed.attempts) == ("queued", 1)
    assert failed.error == "MailNotSent: SMTPConnectError ConnectionRefusedError"
    assert "job_failed" in [line["event"] for line in logs]
    assert "carol" not in str(logs)


async def test_mailbox_that_does_not_exist_is_tried_once(
    admin: httpx2.AsyncClient, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> str:
        return "550 5.1.1 no such mailbox"

    monkeypatch.setattr(mailbox, "handle_DATA", refuse)
    await notify(admin, "carol@example.com")
    [dead] = await run_jobs()
    assert (dead.status, dead.attempts) == ("dead", 1)

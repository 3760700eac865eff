"""Sends mail over SMTP, or writes it to a folder where no server is set."""

import uuid
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import localtime, make_msgid
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiosmtplib
import anyio
import structlog

from timberframe.settings import Settings

log = structlog.get_logger()


async def send_mail(message: EmailMessage, settings: Settings) -> None:
    """Deliver `message`, or log that it was lost; the reason, never the address."""
    message["Date"] = localtime()
    message["Message-ID"] = make_msgid(domain=settings.MAIL_FROM.rpartition("@")[2])
    try:
        if settings.SMTP_URL:
            await _send_over_smtp(message, settings.SMTP_URL.get_secret_value())
        else:
            await _write_to_folder(message, settings.MAIL_FOLDER)
    except (aiosmtplib.SMTPException, OSError) as failed:
        log.error("mail_lost", error=type(failed).__name__)


async def _send_over_smtp(message: EmailMessage, url: str) -> None:
    server = urlsplit(url)
    await aiosmtplib.send(
        message,
        hostname=server.hostname,
        port=server.port,
        username=unquote(server.username) if server.username else None,
        password=unquote(server.password) if server.password else None,
        use_tls=server.scheme == "smtps",
        timeout=10,
    )


async def _write_to_folder(message: EmailMessage, folder: Path) -> None:
    name = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}_{uuid.uuid4().hex[:8]}.eml"
    path = anyio.Path(folder)
    await path.mkdir(parents=True, exist_ok=True)
    await (path / name).write_bytes(message.as_bytes())

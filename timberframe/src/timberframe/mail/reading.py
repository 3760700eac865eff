"""Reads messages that were written to the folder, however broken they are."""

from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.message import EmailMessage, MIMEPart
from email.parser import BytesParser
from pathlib import Path

from timberframe.mail.folder import MailFile, find_message, list_messages, read_message

MAX_HEADER_BYTES = 64 * 1024
MAX_BYTES = 5 * 1024 * 1024
_SHOWN = ("From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID", "List-Unsubscribe")


@dataclass(frozen=True)
class Summary:
    """A line in the list of messages."""

    name: str
    written_at: datetime
    subject: str
    to: str


@dataclass(frozen=True)
class Letter:
    """A message with its parts; `source` is all of it, as it would be sent."""

    summary: Summary
    headers: list[tuple[str, str]]
    text: str | None
    html: str | None
    attachments: list[str]
    source: str
    is_cut: bool


def summaries(folder: Path, *, skip: int, limit: int) -> tuple[list[Summary], int]:
    """The newest messages, and how many there are; only those returned are opened."""
    files = list_messages(folder)
    shown = []
    for file in files[skip : skip + limit]:
        head = read_message(folder, file, MAX_HEADER_BYTES)
        shown.append(_summary(file, _parsed(head, headers_only=True)))
    return shown, len(files)


def letter(folder: Path, name: str) -> Letter | None:
    """The message in the file of that name, if there is one."""
    file = find_message(folder, name)
    if file is None:
        return None
    content = read_message(folder, file, MAX_BYTES + 1)
    message = _parsed(content[:MAX_BYTES])
    headers = [(each, value) for each in _SHOWN if (value := _header(message, each))]
    return Letter(
        summary=_summary(file, message),
        headers=headers,
        text=_body(message, "plain"),
        html=_body(message, "html"),
        attachments=_attachments(message),
        source=content[:MAX_BYTES].decode(errors="replace"),
        is_cut=len(content) > MAX_BYTES,
    )


def _parsed(content: bytes, *, headers_only: bool = False) -> EmailMessage:
    parser = BytesParser(EmailMessage, policy=policy.default)
    try:
        return parser.parsebytes(content, headersonly=headers_only)
    except Exception:  # parts within parts, a thousand deep
        return EmailMessage() if headers_only else _parsed(content, headers_only=True)


def _summary(file: MailFile, message: EmailMessage) -> Summary:
    return Summary(file.name, file.written_at, _header(message, "Subject"), _header(message, "To"))


def _header(message: EmailMessage, name: str) -> str:
    # Python's parser raises errors of many kinds at what is broken: IndexError, AttributeError …
    try:
        value = str(message.get(name, ""))
    except Exception:
        raw = next((v for n, v in message.raw_items() if n.lower() == name.lower()), "")
        value = str(raw)
    return _repaired(value)


def _repaired(value: str) -> str:
    """Python reads headers as ASCII, and keeps the bytes of UTF-8 as surrogates."""
    try:
        return value.encode(errors="surrogateescape").decode(errors="replace")
    except UnicodeEncodeError:  # other surrogates, which the message spelled out
        return value.encode(errors="replace").decode()


def _body(message: EmailMessage, kind: str) -> str | None:
    try:
        part = message.get_body((kind,))
    except Exception:
        return None
    return None if part is None else _content(part)


def _content(part: MIMEPart) -> str:
    try:
        return str(part.get_content())
    except Exception:  # such as a charset that nobody knows
        payload = part.get_payload(decode=True)
        return payload.decode(errors="replace") if isinstance(payload, bytes) else str(payload)


def _attachments(message: EmailMessage) -> list[str]:
    try:
        parts = list(message.iter_attachments())
        names = [f"{part.get_filename('unnamed')} ({part.get_content_type()})" for part in parts]
        return [_repaired(name) for name in names]
    except Exception:
        return []

"""The settings that mail needs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from timberframe.mail.addresses import parse_mailbox
from timberframe.settings import Settings


@dataclass(frozen=True)
class MailOptions:
    """`url` is that of an SMTP server; without one, mail is written to `folder`.

    `sender` is an address, or a name and an address: `Shop <shop@example.com>`. Times are in
    seconds: `step_timeout` bounds each answer of the server, `timeout` the delivery as a whole.
    """

    sender: str
    folder: Path
    project_name: str
    url: str | None = field(default=None, repr=False)
    step_timeout: float = 10
    timeout: float = 60

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            sender=settings.MAIL_FROM,
            folder=settings.MAIL_FOLDER,
            project_name=settings.PROJECT_NAME,
            url=settings.SMTP_URL.get_secret_value() if settings.SMTP_URL else None,
        )

    @property
    def domain(self) -> str:
        """The sender's domain in ASCII, for ids of messages."""
        return parse_mailbox(self.sender).domain.encode("idna").decode()

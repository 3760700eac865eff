"""Sends a message over SMTP, or writes it to the folder where no server is set."""

import re
from contextlib import suppress
from copy import copy
from email.message import EmailMessage
from email.utils import localtime, make_msgid
from ssl import SSLCertVerificationError
from urllib.parse import unquote, urlsplit

import aiosmtplib
import anyio
import structlog

from timberframe.mail.folder import write_message
from timberframe.mail.options import MailOptions

log = structlog.get_logger()

_FAILURES = (aiosmtplib.SMTPException, OSError, ValueError)
# What another attempt may find mended, and 530 too: the server wants a password.
_ABOUT_SETTINGS = (
    aiosmtplib.SMTPAuthenticationError,
    aiosmtplib.SMTPConnectResponseError,
    aiosmtplib.SMTPHeloError,
    aiosmtplib.SMTPSenderRefused,
)
_ENHANCED_CODE = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?= |$)")  # RFC 3463
_ID = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


class MailNotSent(Exception):
    """A message was not taken; `is_permanent` if sending it again would not help.

    It says why in terms that hold neither the recipient nor the server's password.
    """

    def __init__(self, reason: str, *, is_permanent: bool = False) -> None:
        super().__init__(reason)
        self.is_permanent = is_permanent


async def send(
    message: EmailMessage, options: MailOptions, *, message_id: str | None = None
) -> None:
    """Hand the message over, or raise `MailNotSent`.

    With `message_id`, such as `job-17`, each attempt has the same Message-ID, by which a mailbox
    that gets two can know them for one. Of several recipients, one that is taken is enough.
    """
    message = _stamped(message, options, message_id)
    failure = None
    try:
        if options.url:
            await _send_over_smtp(message, options.url, options)
        else:
            await anyio.to_thread.run_sync(write_message, message, options.folder)
    except _FAILURES as failed:
        failure = _explained(failed)
    # Not raised above: the context of the error would be that of SMTP, which has the address.
    if failure:
        raise failure


def _stamped(message: EmailMessage, options: MailOptions, message_id: str | None) -> EmailMessage:
    """A copy, so that the same message can be sent again."""
    stamped = copy(message)
    del stamped["Date"]  # which also makes a list of headers of its own
    stamped["Date"] = localtime()
    if message_id is not None:
        if not _ID.fullmatch(message_id):
            raise ValueError("message_id must be letters, digits, - and _, with dots between them")
        del stamped["Message-ID"]
        stamped["Message-ID"] = f"<{message_id}@{options.domain}>"
    elif "Message-ID" not in stamped:
        stamped["Message-ID"] = make_msgid(domain=options.domain)
    return stamped


async def _send_over_smtp(message: EmailMessage, url: str, options: MailOptions) -> None:
    server = urlsplit(url)
    username = unquote(server.username) if server.username else None
    is_implicit_tls = server.scheme == "smtps"
    client = aiosmtplib.SMTP(
        hostname=server.hostname,
        port=server.port,
        username=username,
        password=unquote(server.password or "") if username else None,
        use_tls=is_implicit_tls,
        # Without a password STARTTLS is used if it is offered; with one it is required.
        start_tls=True if username and not is_implicit_tls else None,
        timeout=options.step_timeout,
    )
    try:
        with anyio.fail_after(options.timeout):
            await client.connect()
            try:
                refused, _ = await client.send_message(message)
            except (aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused):
                await _quit(client, options)
                raise
        if refused:
            codes = sorted({answer.code for answer in refused.values()})
            log.warning("mail_partly_refused", codes=codes)
        await _quit(client, options)
    finally:
        client.close()


async def _quit(client: aiosmtplib.SMTP, options: MailOptions) -> None:
    """End politely. The message is taken or refused: what goes wrong here does not change that."""
    with suppress(*_FAILURES), anyio.move_on_after(options.step_timeout):
        await client.quit()


def _explained(failed: Exception) -> MailNotSent:
    """The reason without the server's own words, in which it often repeats the address."""
    answer: BaseException = failed
    if isinstance(failed, aiosmtplib.SMTPRecipientsRefused) and failed.recipients:
        # One that may be taken later is a reason to try again.
        answer = min(failed.recipients, key=lambda refused: refused.code)
    details = [type(failed).__name__]
    is_permanent = False
    if isinstance(answer, aiosmtplib.SMTPResponseException):
        enhanced = _ENHANCED_CODE.match(answer.message)
        details += [str(answer.code), *([enhanced[0]] if enhanced else [])]
        # 552: the message is too large, which servers say as soon as they are told the sender.
        is_permanent = answer.code == 552 or (
            answer.code >= 500 and answer.code != 530 and not isinstance(answer, _ABOUT_SETTINGS)
        )
    elif type(failed) in (aiosmtplib.SMTPException, aiosmtplib.SMTPNotSupported):
        details.append(str(failed))  # the client's own words
    elif isinstance(unverified := failed.__cause__ or failed, SSLCertVerificationError):
        details.append(unverified.verify_message)
    elif failed.__cause__:
        details.append(type(failed.__cause__).__name__)
    elif isinstance(failed, OSError) and failed.strerror:
        details.append(failed.strerror)  # of the folder, such as a full disk
    elif isinstance(failed, ValueError):
        is_permanent = True  # an address or a part that cannot be sent
    return MailNotSent(" ".join(details), is_permanent=is_permanent)

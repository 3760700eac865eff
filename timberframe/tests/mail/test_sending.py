"""Sending over SMTP: real servers, with TLS and without, that take mail, refuse it, or hang."""

import asyncio
import re
import subprocess
import time
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTPUTF8, default
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any, NamedTuple
from urllib.parse import quote

import anyio
import psutil
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from structlog.testing import capture_logs

from timberframe.mail import MailNotSent, MailOptions, send
from timberframe.testing import free_port

CAROL = "carol@example.com"
USER, PASSWORD = "mailer", "cänary:p@ss/w%rd"
OPTIONS = MailOptions(
    sender="Shop <shop@example.com>", folder=Path("/nonexistent"), project_name="Shop"
)


def message(to: str = CAROL, text: str = "Hello\n") -> EmailMessage:
    made = EmailMessage(SMTPUTF8)
    made["From"], made["To"], made["Subject"] = "shop@example.com", to, "Hello"
    made.set_content(text)
    return made


class Delivery(NamedTuple):
    message: EmailMessage
    recipients: list[str]
    is_encrypted: bool
    is_authenticated: bool


class Mailbox:
    """What the SMTP server took in, and the passwords that it was told."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.passwords: list[str] = []
        self.answers: dict[str, str] = {}  # to recipients, instead of 250

    async def handle_RCPT(  # noqa: N802 - the name that aiosmtpd calls
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address not in self.answers:
            envelope.rcpt_tos.append(address)
        return self.answers.get(address, "250 OK")

    async def handle_DATA(  # noqa: N802 - as above
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        assert isinstance(envelope.content, bytes)
        assert server.transport
        read = message_from_bytes(envelope.content, _class=EmailMessage, policy=default)
        is_encrypted = server.transport.get_extra_info("ssl_object") is not None
        self.deliveries.append(
            Delivery(read, envelope.rcpt_tos, is_encrypted, bool(session.authenticated))
        )
        return "250 OK"

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.passwords.append(data.password.decode())
        is_right = (data.login.decode(), data.password.decode()) == (USER, PASSWORD)
        return AuthResult(success=is_right, handled=False)


Serve = Callable[..., MailOptions]


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
async def serve(mailbox: Mailbox) -> AsyncIterator[Serve]:
    """Starts an SMTP server and returns the options to send to it."""
    started: list[Controller] = []

    def serve(scheme: str = "smtp", credentials: str = "", **options: Any) -> MailOptions:
        port = free_port()
        options = {"enable_SMTPUTF8": True} | options
        controller = Controller(mailbox, hostname="127.0.0.1", port=port, **options)
        controller.start()
        started.append(controller)
        return replace(OPTIONS, url=f"{scheme}://{credentials}127.0.0.1:{port}")

    yield serve
    # TLS ends with a message each way, and uvloop must not be closed before.
    for _ in range(500):
        if not connections_to({controller.port for controller in started}):
            break
        await anyio.sleep(0.01)
    for controller in started:
        controller.stop()


def connections_to(ports: set[int]) -> list[int]:
    connected = [each.raddr.port for each in psutil.Process().net_connections() if each.raddr]
    return [port for port in connected if port in ports]


def credentials(password: str = PASSWORD) -> str:
    return f"{USER}:{quote(password, safe='')}@"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a self-signed certificate for a name, with its key in the same file."""
    folder = tmp_path_factory.mktemp("certificates")

    def make(name: str) -> Path:
        path = folder / f"{re.sub(r'[^a-z0-9]', '-', name)}.pem"
        if not path.exists():
            command = (
                "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
                " -subj /CN=test -keyout key -out certificate"
            )
            subprocess.run(
                [*command.split(), "-addext", f"subjectAltName={name}"],
                cwd=folder,
                check=True,
                capture_output=True,
            )
            path.write_text((folder / "key").read_text() + (folder / "certificate").read_text())
        return path

    return make


Tls = Callable[..., SSLContext]


@pytest.fixture
def tls(certificate: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Tls:
    """The context of a server, whose certificate this process trusts unless told otherwise."""

    def context(name: str = "IP:127.0.0.1", *, is_trusted: bool = True) -> SSLContext:
        path = certificate(name)
        if is_trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(path))
        made = SSLContext(PROTOCOL_TLS_SERVER)
        made.load_cert_chain(path)
        return made

    return context


async def failure_of(options: MailOptions, sent: EmailMessage | None = None) -> MailNotSent:
    """The error of a delivery, which must not give anything away, however it is written down."""
    with pytest.raises(MailNotSent) as caught:
        await send(sent or message(), options)
    error = caught.value
    # All of the chain, also what a traceback leaves out.
    chain: BaseException | None = error
    while chain:
        written = f"{chain!r} {vars(chain)} {''.join(traceback.format_exception_only(chain))}"
        for secret in ("carol", PASSWORD, quote(PASSWORD, safe=""), "cänary", "canary"):
            assert secret not in written
        chain = chain.__cause__ or chain.__context__
    return error


async def test_message_arrives(serve: Serve, mailbox: Mailbox) -> None:
    await send(message(), serve())
    [delivery] = mailbox.deliveries
    assert delivery.recipients == [CAROL]
    assert delivery.message["To"] == CAROL
    assert delivery.message["Date"].datetime.tzinfo
    assert delivery.message.get_content() == "Hello\r\n"
    assert not delivery.is_encrypted


@pytest.mark.parametrize(
    "text",
    [
        ".\n..\nMAIL FROM:<eve@example.com>\nRCPT TO:<eve@example.com>\nDATA\n",
        "a\r\n.\r\nQUIT\r\n",
        "ü" * 3000,
        "x" * 3000,
        "From here\n\n\n",
    ],
    ids=["dots", "end of data", "long line of UTF-8", "long line", "From"],
)
async def test_text_arrives_as_it_is(serve: Serve, mailbox: Mailbox, text: str) -> None:
    await send(message(text=text), serve())
    [delivery] = mailbox.deliveries
    assert delivery.recipients == [CAROL]
    assert delivery.message.get_content().splitlines() == text.splitlines()


async def test_message_id_is_stable_where_it_is_given(serve: Serve, mailbox: Mailbox) -> None:
    options, sent = serve(), message()
    for message_id in ("job-17", "job-17", None, None):
        await send(sent, options, message_id=message_id)
    ids = [each.message["Message-ID"] for each in mailbox.deliveries]
    assert ids[:2] == ["<job-17@example.com>"] * 2
    assert len(set(ids)) == 3
    assert all(each.endswith("@example.com>") for each in ids)
    assert all(each.message.keys().count("Date") == 1 for each in mailbox.deliveries)
    assert "Message-ID" not in sent  # the message of the caller stays as it is


async def test_message_keeps_an_id_of_its_own(serve: Serve, mailbox: Mailbox) -> None:
    sent = message()
    sent["Message-ID"] = "<own@example.com>"
    await send(sent, serve())
    assert mailbox.deliveries[0].message.get_all("Message-ID") == ["<own@example.com>"]


@pytest.mark.parametrize("message_id", ["", "a b", "a@b", "a>\r\nBcc: eve@example.com", "a..b"])
async def test_message_id_is_a_word(serve: Serve, mailbox: Mailbox, message_id: str) -> None:
    with pytest.raises(ValueError, match="message_id"):
        await send(message(), serve(), message_id=message_id)
    assert mailbox.deliveries == []


async def test_address_of_any_letters_needs_a_server_that_takes_it(
    serve: Serve, mailbox: Mailbox
) -> None:
    sent = message("carol.jürgen@bücher.example")
    error = await failure_of(serve(enable_SMTPUTF8=False), sent)
    assert "SMTPUTF8" in str(error)
    await send(sent, serve())  # the control
    assert [each.recipients for each in mailbox.deliveries] == [["carol.jürgen@bücher.example"]]


async def test_implicit_tls(serve: Serve, mailbox: Mailbox, tls: Tls) -> None:
    await send(message(), serve("smtps", ssl_context=tls()))
    assert [each.is_encrypted for each in mailbox.deliveries] == [True]


async def test_starttls_is_used_where_it_is_offered(
    serve: Serve, mailbox: Mailbox, tls: Tls
) -> None:
    await send(message(), serve(tls_context=tls()))
    await send(message(), serve())  # the control: it is not offered
    assert [each.is_encrypted for each in mailbox.deliveries] == [True, False]


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize(
    ("name", "is_trusted", "reason"),
    [
        ("IP:127.0.0.1", False, "self-signed certificate"),
        ("DNS:mail.example.com", True, "IP address mismatch"),
    ],
    ids=["unknown", "of another host"],
)
async def test_wrong_certificate_is_refused(
    serve: Serve,
    mailbox: Mailbox,
    tls: Tls,
    scheme: str,
    name: str,
    is_trusted: bool,
    reason: str,
) -> None:
    context = tls(name, is_trusted=is_trusted)
    option = {"smtp": "tls_context", "smtps": "ssl_context"}[scheme]
    error = await failure_of(serve(scheme, **{option: context}))
    assert reason in str(error)
    assert not error.is_permanent
    assert mailbox.deliveries == []


async def test_plain_server_is_no_tls_server(serve: Serve, mailbox: Mailbox) -> None:
    options = replace(serve("smtps"), step_timeout=0.5)
    assert not (await failure_of(options)).is_permanent
    assert mailbox.deliveries == []


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_password_is_sent_over_tls(
    serve: Serve, mailbox: Mailbox, tls: Tls, scheme: str
) -> None:
    option = {"smtp": "tls_context", "smtps": "ssl_context"}[scheme]
    # aiosmtpd takes only STARTTLS for encryption.
    needs_tls = {"auth_require_tls": scheme == "smtp"}
    options = serve(
        scheme,
        credentials(),
        **{option: tls()},
        **needs_tls,
        authenticator=mailbox.authenticate,
        auth_required=True,
    )
    await send(message(), options)
    assert [(d.is_encrypted, d.is_authenticated) for d in mailbox.deliveries] == [(True, True)]
    assert set(mailbox.passwords) == {PASSWORD}


async def test_wrong_password_is_an_error_that_may_pass(
    serve: Serve, mailbox: Mailbox, tls: Tls
) -> None:
    options = serve(
        "smtp",
        credentials("canary"),
        tls_context=tls(),
        authenticator=mailbox.authenticate,
        auth_required=True,
    )
    error = await failure_of(options)
    assert str(error).startswith("SMTPAuthenticationError 535")
    assert not error.is_permanent  # the message can be sent once the setting is right
    assert set(mailbox.passwords) == {"canary"}
    assert mailbox.deliveries == []


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
async def test_password_is_never_sent_in_clear(serve: Serve, mailbox: Mailbox) -> None:
    takes_passwords = {"authenticator": mailbox.authenticate, "auth_require_tls": False}
    error = await failure_of(serve("smtp", credentials(), **takes_passwords))
    assert "STARTTLS" in str(error)
    assert mailbox.passwords == []
    assert mailbox.deliveries == []
    await send(message(), serve("smtp", **takes_passwords))  # the control: no password is at stake
    assert len(mailbox.deliveries) == 1


def test_options_do_not_show_the_password() -> None:
    assert "cänary" not in repr(replace(OPTIONS, url=f"smtp://{credentials()}localhost"))
    assert quote("cänary") not in repr(replace(OPTIONS, url=f"smtp://{credentials()}localhost"))


@pytest.mark.parametrize(
    ("answer", "reason", "is_permanent"),
    [
        ("550 5.1.1 <carol@example.com> is unknown", "SMTPRecipientsRefused 550 5.1.1", True),
        ("550 No such user carol", "SMTPRecipientsRefused 550", True),
        ("450 4.2.1 carol@example.com is busy", "SMTPRecipientsRefused 450 4.2.1", False),
    ],
)
async def test_refused_recipient_is_an_error_without_the_address(
    serve: Serve, mailbox: Mailbox, answer: str, reason: str, is_permanent: bool
) -> None:
    mailbox.answers[CAROL] = answer
    error = await failure_of(serve())
    assert str(error) == reason
    assert error.is_permanent == is_permanent
    assert mailbox.deliveries == []


async def test_one_recipient_that_is_taken_is_enough(serve: Serve, mailbox: Mailbox) -> None:
    mailbox.answers[CAROL] = "550 5.1.1 carol is unknown"
    with capture_logs() as logs:
        await send(message(f"{CAROL}, dave@example.com"), serve())
    assert [each.recipients for each in mailbox.deliveries] == [["dave@example.com"]]
    [line] = logs
    assert (line["event"], line["codes"]) == ("mail_partly_refused", [550])
    assert "carol" not in str(line)


async def test_too_large_message_is_refused_for_good(serve: Serve, mailbox: Mailbox) -> None:
    error = await failure_of(serve(data_size_limit=100), message(text="x" * 1000))
    assert "552" in str(error)
    assert error.is_permanent


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
async def test_message_waits_for_settings_that_are_mended(serve: Serve, mailbox: Mailbox) -> None:
    needs_password = {"authenticator": mailbox.authenticate, "auth_required": True}
    error = await failure_of(serve(**needs_password, auth_require_tls=False))
    assert str(error) == "SMTPSenderRefused 530 5.7.0"
    assert not error.is_permanent


async def test_server_that_is_down(serve: Serve) -> None:
    error = await failure_of(replace(OPTIONS, url=f"smtp://127.0.0.1:{free_port()}"))
    assert str(error) == "SMTPConnectError ConnectionRefusedError"
    assert not error.is_permanent


SILENCE, ENDLESS = "", "endless"
ANSWERS = {
    "greeting": "220 slow.example.com",
    "EHLO": "250 slow.example.com",
    "MAIL": "250 OK",
    "RCPT": "250 OK",
    "DATA": "354 Go on",
    ".": "250 Taken",
    "QUIT": "221 Bye",
}


@asynccontextmanager
async def scripted(answers: Mapping[str, str], pause: float = 0) -> AsyncIterator[MailOptions]:
    """A server that gives these answers, each after a pause; silence where one is empty."""
    writers = []

    async def answer(writer: asyncio.StreamWriter, command: str) -> None:
        await asyncio.sleep(pause)
        while answers[command] is ENDLESS:
            if writer.is_closing():
                raise ConnectionResetError
            writer.write(b"250-and so on\r\n")
            await asyncio.sleep(0.02)
        if answers[command]:
            writer.write(f"{answers[command]}\r\n".encode())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await answer(writer, "greeting")
            is_data = False
            async for line in reader:
                command = "." if line == b".\r\n" else line[:4].decode().strip()
                if not is_data or command == ".":
                    await answer(writer, command)
                    is_data = command == "DATA"
        except ConnectionError:
            pass

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield replace(OPTIONS, url=f"smtp://127.0.0.1:{port}", step_timeout=0.3)
        for writer in writers:
            writer.close()


@pytest.mark.parametrize("step", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("answer", [SILENCE, ENDLESS], ids=["silent", "endless"])
async def test_server_that_hangs_is_given_up(step: str, answer: str) -> None:
    async with scripted(ANSWERS | {step: answer}) as options:
        started = time.perf_counter()
        error = await failure_of(options)
        assert 0.25 < time.perf_counter() - started < 2
    assert "Timeout" in str(error)
    assert not error.is_permanent


async def test_server_that_is_slow_is_waited_for_as_long_as_it_may_take() -> None:
    async with scripted(ANSWERS, pause=0.1) as options:
        await send(message(), options)  # the control: each step is in time
        with pytest.raises(MailNotSent, match="Timeout"):
            await send(message(), replace(options, timeout=0.35))


async def test_message_that_was_taken_counts_as_sent_whatever_follows() -> None:
    for answer in (SILENCE, "421 Go away", "500 What?"):
        async with scripted(ANSWERS | {"QUIT": answer}) as options:
            started = time.perf_counter()
            await send(message(), options)
            assert time.perf_counter() - started < 2

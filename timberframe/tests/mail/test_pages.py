"""The pages of /dev/mail: what they show, and what a message cannot do on them."""

import os
import random
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from email.message import EmailMessage
from email.policy import SMTPUTF8
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from fastapi import FastAPI

from specimen.asgi import call
from specimen.config import settings
from timberframe.http.dev_mail import PAGE_SIZE
from timberframe.mail import MailOptions, send
from timberframe.testing import ADMIN, create_app

SCRIPT = "<script>alert(1)</script>"
HTML = (
    "<!doctype html><html><head><style>p { color: red }</style></head><body onload='alert(2)'>"
    f"<p>Grüße</p>{SCRIPT}<a href='https://example.com/confirm'>Confirm</a></body></html>"
)


class Page(HTMLParser):
    """The tags of a page, each with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def links(self) -> list[str]:
        return [str(link["href"]) for link in self.all("a")]


def browser(
    app: FastAPI, host: str = "testserver", headers: dict[str, str] | None = None
) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url=f"http://{host}", headers=headers
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mail") / "outbox"


@pytest.fixture
def outbox(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One folder, so that the tests can share an application; it is empty at first."""
    shutil.rmtree(folder, ignore_errors=True)
    monkeypatch.setattr(settings, "MAIL_FOLDER", folder)
    return folder


@pytest.fixture(scope="module")
def app_of_pages(folder: Path) -> Iterator[FastAPI]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "MAIL_FOLDER", folder)
        yield create_app()


@pytest.fixture
async def pages(app_of_pages: FastAPI, outbox: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async with browser(app_of_pages) as client:
        yield client


def message(
    subject: str = "Hello",
    text: str = "Hello https://example.com/reset?a=1&b=2\n",
    html: str = HTML,
) -> EmailMessage:
    made = EmailMessage(SMTPUTF8)
    made["From"], made["To"], made["Subject"] = "shop@example.com", "jürgen@example.com", subject
    made.set_content(text)
    made.add_alternative(html, subtype="html")
    return made


async def write(*messages: EmailMessage) -> list[str]:
    """Write the messages as the application does, a second apart; the names of their files."""
    names: list[str] = []
    for at, each in enumerate(messages):
        before = set(names)
        await send(each, MailOptions.of(settings))
        [file] = [file for file in settings.MAIL_FOLDER.iterdir() if file.name not in before]
        os.utime(file, (at, at))
        names.append(file.name)
    return names


def put(content: bytes, name: str = "a.eml") -> str:
    settings.MAIL_FOLDER.mkdir(exist_ok=True)
    (settings.MAIL_FOLDER / name).write_bytes(content)
    return f"/dev/mail/{quote(name, safe='')}"


def policy_of(answer: httpx2.Response) -> dict[str, list[str]]:
    [policy] = answer.headers.get_list("content-security-policy")
    return {name: values for name, *values in map(str.split, policy.split("; "))}


async def test_list_is_empty_before_the_first_message(pages: httpx2.AsyncClient) -> None:
    answer = await pages.get("/dev/mail")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "0 messages" in answer.text


async def test_newest_message_is_first(pages: httpx2.AsyncClient) -> None:
    names = await write(message("First"), message("Zweite, für Jürgen"), message("Third"))
    answer = await pages.get("/dev/mail")
    assert Page(answer.text).links == [f"/dev/mail/{name}" for name in reversed(names)]
    assert re.findall("Third|Zweite, für Jürgen|First", answer.text) == (
        ["Third", "Zweite, für Jürgen", "First"]
    )
    assert answer.text.count("jürgen@example.com") == 3
    assert "1970-01-01 00:00:02" in answer.text


async def test_message_has_tabs_for_its_parts(pages: httpx2.AsyncClient) -> None:
    [name] = await write(message())
    url = f"/dev/mail/{name}"
    tabs = [f"{url}?view={view}" for view in ("html", "text", "source")]
    answers = {tab: await pages.get(tab) for tab in (url, *tabs)}
    for answer in answers.values():
        assert answer.status_code == 200
        assert Page(answer.text).links[:4] == ["/dev/mail", *tabs]
    assert answers[url].text == answers[tabs[0]].text
    assert "Hello <a href=" in answers[tabs[1]].text
    assert "Content-Type: multipart/alternative" in answers[tabs[2]].text
    assert "To: jürgen@example.com" in answers[tabs[2]].text
    assert (await pages.get(f"{url}?view=other")).status_code == 422


async def test_message_without_html_shows_its_text(pages: httpx2.AsyncClient) -> None:
    url = put(b"Subject: Plain\r\n\r\nOnly text\r\n")
    assert "<pre>Only text" in (await pages.get(url)).text
    assert "no such part" in (await pages.get(f"{url}?view=html")).text
    assert (await pages.get(f"{url}/html")).status_code == 404


async def test_attachments_are_named(pages: httpx2.AsyncClient) -> None:
    sent = message()
    sent.add_attachment(b"1", maintype="application", subtype="pdf", filename="<b>bill.pdf")
    [name] = await write(sent)
    answer = await pages.get(f"/dev/mail/{name}")
    assert "&lt;b&gt;bill.pdf (application/pdf)" in answer.text


async def test_html_of_a_message_runs_nothing_and_loads_nothing(pages: httpx2.AsyncClient) -> None:
    [name] = await write(message())
    answer = await pages.get(f"/dev/mail/{name}/html")
    assert SCRIPT in answer.text  # the control: there is something to be kept from running
    assert "<p>Grüße</p>" in answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert policy_of(answer) == {
        "sandbox": ["allow-popups", "allow-popups-to-escape-sandbox"],
        "default-src": ["'none'"],
        "style-src": ["'unsafe-inline'"],
        "img-src": ["data:"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'self'"],
    }


async def test_frame_around_a_message_is_a_sandbox(pages: httpx2.AsyncClient) -> None:
    [name] = await write(message())
    answer = await pages.get(f"/dev/mail/{name}?view=html")
    page = Page(answer.text)
    [frame] = page.all("iframe")
    assert frame["src"] == f"/dev/mail/{name}/html"
    assert frame["sandbox"] == "allow-popups allow-popups-to-escape-sandbox"
    assert policy_of(answer) == {
        "default-src": ["'none'"],
        "style-src": ["'unsafe-inline'"],
        "frame-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        (HTML, '<!doctype html><html><head><base target="_blank"><style>'),
        ("<!DOCTYPE html>\n<p>x", '<!DOCTYPE html><base target="_blank">\n<p>x'),
        ("<header>x</header>", '<base target="_blank"><header>x</header>'),
        ("<HEAD lang='en'><title>", "<HEAD lang='en'><base target=\"_blank\"><title>"),
    ],
    ids=["head", "doctype", "neither", "attributes"],
)
async def test_links_of_a_message_open_in_a_new_tab(
    pages: httpx2.AsyncClient, html: str, expected: str
) -> None:
    [name] = await write(message(html=html))
    answer = await pages.get(f"/dev/mail/{name}/html")
    assert answer.text.replace("\r\n", "\n").startswith(expected)
    text = Page((await pages.get(f"/dev/mail/{name}?view=text")).text)
    [link] = [each for each in text.all("a") if "reset" in str(each["href"])]
    assert link["href"] == "https://example.com/reset?a=1&b=2"
    assert (link["target"], link["rel"]) == ("_blank", "noopener noreferrer")


@pytest.mark.parametrize("view", ["", "html", "text", "source"])
async def test_values_of_a_message_are_text_on_the_page(
    pages: httpx2.AsyncClient, view: str
) -> None:
    sent = message(subject=f"{SCRIPT}\"'", text=f"{SCRIPT}\nhttps://example.com/\"onclick='x'\n")
    sent["Reply-To"] = '"<img src=x onerror=alert(1)>" <a@example.com>'
    sent.add_attachment(SCRIPT, filename=f"{SCRIPT}.txt")
    [name] = await write(sent)
    os.rename(settings.MAIL_FOLDER / name, settings.MAIL_FOLDER / "<script>'\".eml")
    name = quote("<script>'\".eml", safe="")
    url = f"/dev/mail/{name}?view={view}" if view else "/dev/mail"
    answer = await pages.get(url)
    assert answer.status_code == 200
    page = Page(answer.text)
    assert page.all("script") == page.all("img") == []
    names = {name for _, attributes in page.tags for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert "&lt;script&gt;alert(1)" in answer.text


async def test_names_lead_to_no_other_file(
    app_of_pages: FastAPI, pages: httpx2.AsyncClient, outbox: Path
) -> None:
    secret = outbox.parent / "secret.eml"
    secret.write_text("Subject: canary\n\ncanary")
    real = put(b"Subject: canary\n\ncanary")
    put(b"canary", "other.txt")
    put(b"canary", ".a.eml.tmp")
    (outbox / "link.eml").symlink_to(secret)
    (outbox / "folder.eml").mkdir()
    names = [
        *("../secret.eml", "..\\secret.eml", "%2e%2e/secret.eml", "..%2fsecret.eml", "/etc/passwd"),
        *(
            str(secret),
            "../outbox/a.eml",
            "./a.eml",
            "a.eml/.",
            "..",
            ".",
            "folder.eml",
            "link.eml",
        ),
        *("other.txt", ".a.eml.tmp", "a", "A.EML", "*.eml", "a.eml ", "a.eml\0"),
    ]
    for name in names:
        for path in (f"/dev/mail/{name}", f"/dev/mail/{name}/html"):
            # As servers hand it over: decoded once, and not made shorter by the client.
            answer = await call(app_of_pages, ("host", "localhost"), path=path)
            assert answer.status == 404, path
            assert b"<pre>canary" not in answer.body
        for encoded in (quote(name, safe="").replace(".", "%2e"), quote(quote(name, safe=""))):
            answered = await pages.get(f"/dev/mail/{encoded}/html")
            assert answered.status_code == 404, encoded
    assert "canary" in (await pages.get(real)).text  # the control
    assert Page((await pages.get("/dev/mail")).text).links == [real]


async def test_every_name_in_the_list_can_be_opened(
    pages: httpx2.AsyncClient, outbox: Path
) -> None:
    names = ["a b.eml", "a#b?c=d.eml", "50%41.eml", "ü.eml", "a&b;.eml", "'.eml", "..eml"]
    for name in names:
        put(f"Subject: {name}\n\n{name}".encode(), name)
    (outbox / os.fsdecode(b"\xff.eml")).write_bytes(b"not UTF-8")
    (outbox / "a\nb.eml").write_bytes(b"two lines")
    page = Page((await pages.get("/dev/mail")).text)
    assert len(page.links) == len(names)
    for link in page.links:
        answer = await pages.get(link)
        assert answer.status_code == 200, link
        assert "<pre>" in answer.text


BROKEN = [
    b"",
    b"\0" * 100,
    b"\r\r\r\n\n\n",
    b"no header at all",
    b"Subject",
    b"Subject: =?nonsense?q?=FF?=\nTo: <\n\nx",
    b"Subject: =?utf-8?b?=====?=\nTo: a@b@c, <>,, ;:\nFrom: \xff\xfe\n\nx",
    b'To: "unclosed <a@b\nCc: =?utf-8?q?\nDate: yesterday\nMessage-ID: <\n\nx',
    b"Content-Type: text/html; charset=nonsense\n\n<p>\xff</p>",
    b'Content-Type: text/plain; charset="\nContent-Transfer-Encoding: base64\n\n!!!',
    b"Content-Type: text/html\nContent-Transfer-Encoding: nonsense\n\n<p>x</p>",
    b"Content-Type: multipart/alternative\n\n--x\n\nno boundary",
    b"Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: multipart/mixed; boundary=x",
    b"Content-Type: message/rfc822\n\nContent-Type: message/rfc822\n\n",
    b'Content-Type: multipart/related; boundary=x; start="<\n\n--x\n\n--x--',
    b"Content-Disposition: attachment; filename*=utf-8''%ff%\nContent-Type: /\n\nx",
    b"Subject: " + b"x" * 100_000 + b"\n\nx",
    b"".join(b"X-%d: %s\n" % (n, b"y" * 60) for n in range(1200)) + b"Subject: late\n\nx",
    b"Content-Type: message/rfc822\n\n" * 1200,
    bytes(range(256)) * 20,
    b"Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: multipart/related\n\ny\n",
    b"Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Disposition: attachment; a*\n\ny\n",
    b"Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Disposition: attachment;"
    b' filename="\xff\xc3\xbc.pdf"\n\ny\n--x--',
    b"Content-Type: nonsense; charset=\xff\n\n\xff",
    b"Subject: =?unicode_escape?q?=5Cud800?=\n\nx",
    b"Content-Type: text/html; charset=unicode_escape\n\n\\ud800",
]


def mutated(content: bytes, seed: int) -> bytes:
    """The message with a few bytes lost, repeated or replaced."""
    chance = random.Random(seed)  # noqa: S311 - the same at each run
    changed = bytearray(content)
    for _ in range(chance.randint(1, 30)):
        at = chance.randrange(len(changed))
        changed[at : at + chance.randint(0, 20)] = chance.choice(
            [b"", b"\n", b"\xff", b'"', b"<", b"=?", b"?=", b";", b":", chance.randbytes(4)]
        )
    return bytes(changed)


async def test_broken_messages_do_not_break_the_pages(pages: httpx2.AsyncClient) -> None:
    whole = message().as_bytes()
    contents = [*BROKEN, *(mutated(whole, seed) for seed in range(30))]
    for at, content in enumerate(contents):
        url = put(content, f"{at}.eml")
        for view in ("html", "text", "source"):
            answer = await pages.get(f"{url}?view={view}")
            assert answer.status_code == 200, content[:200]
        assert (await pages.get(f"{url}/html")).status_code in (200, 404)
    answer = await pages.get("/dev/mail")
    assert answer.status_code == 200
    assert len(Page(answer.text).links) == len(contents)


async def test_file_that_cannot_be_read_is_shown_as_empty(
    pages: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = put(b"Subject: x\n\nx")

    def refuse(*_: Any) -> Any:
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)
    assert "(no subject)" in (await pages.get(url)).text


async def test_long_message_is_cut(pages: httpx2.AsyncClient) -> None:
    url = put(b"Subject: long\n\n" + b"x" * 20_000_000)
    answer = await pages.get(f"{url}?view=source")
    assert "too long" in answer.text
    assert len(answer.text) < 6_000_000
    assert "too long" not in (await pages.get(put(b"Subject: short\n\nx", "b.eml"))).text


async def test_hundreds_of_messages_have_pages(pages: httpx2.AsyncClient, outbox: Path) -> None:
    content = message().as_bytes()
    for number in range(2 * PAGE_SIZE + 50):
        put(content, f"{number}.eml")
        os.utime(outbox / f"{number}.eml", (number, number))
    started = time.perf_counter()
    url, seen = "/dev/mail", []
    while url:
        links = Page((await pages.get(url)).text).links
        seen += [link for link in links if "?page=" not in link]
        older = f"/dev/mail?page={int(url.partition('=')[2] or 1) + 1}"
        url = older if older in links else ""
    assert time.perf_counter() - started < 5
    assert seen == [f"/dev/mail/{number}.eml" for number in reversed(range(2 * PAGE_SIZE + 50))]
    for page, status in (("99", 200), ("0", 422), ("x", 422), ("9" * 30, 422)):
        assert (await pages.get(f"/dev/mail?page={page}")).status_code == status


async def test_pages_are_not_in_the_document(pages: httpx2.AsyncClient) -> None:
    assert "/dev" not in (await pages.get("/api/openapi.json")).text


@pytest.mark.parametrize("headers", [{}, ADMIN.headers], ids=["anonymous", "admin"])
async def test_production_has_no_such_pages(
    app_of_pages: FastAPI, outbox: Path, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    url = put(b"Subject: canary\n\ncanary")
    paths = ("/dev/mail", url, f"{url}/html", f"{url}?view=source", "/dev/mail/", "/dev")
    async with browser(app_of_pages, headers=headers) as client:
        assert [(await client.get(path)).status_code for path in paths[:2]] == [200, 200]
    monkeypatch.setattr(settings, "ENVIRONMENT", "production")
    async with browser(create_app(), headers=headers) as client:
        for path in paths:
            answer = await client.get(path)
            assert answer.status_code == 404, path
            assert answer.headers["content-type"] == "application/problem+json"
            assert "canary" not in answer.text


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "shop.localhost"])
async def test_pages_are_served_to_this_machine(
    app_of_pages: FastAPI, outbox: Path, host: str
) -> None:
    async with browser(app_of_pages, host) as client:
        assert (await client.get("/dev/mail")).status_code == 200


async def test_name_of_another_site_does_not_get_them(
    app_of_pages: FastAPI, outbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with browser(app_of_pages, "evil.example") as client:
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/dev/mail")).status_code == 404
    monkeypatch.setattr(settings, "ALLOWED_HOSTS", ["shop.example"])
    async with browser(create_app(), "shop.example") as client:
        assert (await client.get("/dev/mail")).status_code == 200


async def test_links_have_the_prefix_of_a_proxy(
    outbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "ROOT_PATH", "/shop")
    put(b"Content-Type: text/html\n\n<p>x</p>")
    async with browser(create_app()) as client:
        page = Page((await client.get("/shop/dev/mail")).text)
        assert page.links == ["/shop/dev/mail/a.eml"]
        page = Page((await client.get(page.links[0])).text)
        assert all(link.startswith("/shop/dev/mail") for link in page.links)
        [frame] = page.all("iframe")
        assert (await client.get(str(frame["src"]))).status_code == 200

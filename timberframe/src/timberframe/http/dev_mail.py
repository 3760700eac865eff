"""Pages of the mail that was written to the folder: in development only."""

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

import anyio
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from timberframe.errors import NotFound
from timberframe.mail import MailOptions
from timberframe.mail.reading import Letter, letter, summaries

PAGE_SIZE = 100
MAX_PAGE = 100_000
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
# A message is a stranger's page: it runs nothing, loads nothing, and is of no origin. Its links
# open in a tab of their own, where none of this holds.
_SANDBOX = "allow-popups allow-popups-to-escape-sandbox"
_MESSAGE_POLICY = (
    f"sandbox {_SANDBOX}; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_HEAD = re.compile(r"<head(\s[^>]{0,500})?>", re.IGNORECASE)
_DOCTYPE = re.compile(r"\s*<!doctype[^>]*>", re.IGNORECASE)
_NEW_TAB = '<base target="_blank">'

View = Literal["text", "html", "source"]


def add_mail_pages(app: FastAPI, options: MailOptions, *, takes_any_host: bool) -> None:
    """Serve /dev/mail, the messages in the folder of `options`."""
    checks = [Depends(check_host)] if takes_any_host else []
    router = APIRouter(prefix="/dev/mail", include_in_schema=False, dependencies=checks)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = lambda name: quote(name, safe="")

    async def find(name: str) -> Letter:
        found = await anyio.to_thread.run_sync(letter, options.folder, name)
        if found is None:
            raise NotFound("Message")
        return found

    @router.get("")
    async def read_mail(
        request: Request, page: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 1
    ) -> HTMLResponse:
        """List the messages, newest first."""
        shown, total = await anyio.to_thread.run_sync(
            lambda: summaries(options.folder, skip=(page - 1) * PAGE_SIZE, limit=PAGE_SIZE)
        )
        html = environment.get_template("mail_list.html").render(
            url=_url(request),
            messages=shown,
            total=total,
            page=page,
            has_more=page * PAGE_SIZE < total,
            folder=options.folder,
            is_sent=options.url is not None,
        )
        return _answer(html, _POLICY)

    @router.get("/{name}")
    async def read_message(request: Request, name: str, view: View | None = None) -> HTMLResponse:
        """Show a message: its text, its HTML or its source."""
        found = await find(name)
        first: View = "html" if found.html is not None else "text"
        html = environment.get_template("mail_message.html").render(
            url=_url(request),
            message=found,
            view=view or first,
            views=("html", "text", "source"),
            sandbox=_SANDBOX,
        )
        return _answer(html, _POLICY)

    @router.get("/{name}/html")
    async def read_html(name: str) -> HTMLResponse:
        """The HTML part alone, for the frame on the page of the message."""
        found = await find(name)
        if found.html is None:
            raise NotFound("Message")
        return _answer(_with_links_in_new_tabs(found.html), _MESSAGE_POLICY)

    app.include_router(router)


async def check_host(request: Request) -> None:
    """Refuse a host name that may be of another site's: messages have links that sign people in.

    Without `ALLOWED_HOSTS` a page of `evil.example` could have that name lead to this machine, and
    read all that is served here to its own origin (DNS rebinding).
    """
    if not _is_local(request.url.hostname or ""):
        raise NotFound("Page")


def _is_local(host: str) -> bool:
    """An address, or a name that no public server of names has."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(".localhost")
    return True


def _url(request: Request) -> str:
    return f"{request.scope.get('root_path', '')}/dev/mail"


def _answer(html: str, policy: str) -> HTMLResponse:
    # A message may hold what cannot be encoded.
    content = html.encode(errors="replace")
    headers = {"content-security-policy": policy, "cache-control": "no-store"}
    return HTMLResponse(content, headers=headers)


def _with_links_in_new_tabs(html: str) -> str:
    """Put `base` into the head; before the doctype it would have browsers lay out as of old."""
    place: Callable[[str], re.Match[str] | None]
    for place in (_HEAD.search, _DOCTYPE.match):
        if found := place(html):
            return f"{html[: found.end()]}{_NEW_TAB}{html[found.end() :]}"
    return f"{_NEW_TAB}{html}"

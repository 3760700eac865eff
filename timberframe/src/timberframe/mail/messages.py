"""Makes messages of templates: a text part, an HTML part, and headers that values cannot break."""

import re
from email.headerregistry import Address, BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTPUTF8, Policy
from pathlib import Path
from typing import cast

from jinja2 import (
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PrefixLoader,
    StrictUndefined,
    TemplateNotFound,
    select_autoescape,
)

from timberframe.mail.addresses import display_name, one_line, parse_mailbox
from timberframe.mail.options import MailOptions

MAX_SUBJECT = 200
_HTTPS_URL = re.compile(r"https://[!#-;=?-Z\[\]_a-z~%]{1,800}")  # a line has up to 998 octets


class _UrlInBrackets(UnstructuredHeader):
    """A header that is never folded: Python would encode a long URL, which no client decodes."""

    max_count = 1

    def fold(self, *, policy: Policy) -> str:
        return f"List-Unsubscribe: {self}{policy.linesep}"


_registry = HeaderRegistry()
# The registry itself adds the base class that it is annotated to take.
_registry.map_to_type("list-unsubscribe", cast("type[BaseHeader]", _UrlInBrackets))
_POLICY = SMTPUTF8.clone(header_factory=_registry)  # addresses may hold any letters (RFC 6531)


class MailTemplates:
    """The templates in a folder: `welcome.txt` is the text of a message, `welcome.html` its HTML.

    HTML templates may extend `timberframe/layout.html`. Values are escaped in HTML, and one that is
    missing is an error.
    """

    def __init__(self, folder: Path, options: MailOptions) -> None:
        layouts = FileSystemLoader(Path(__file__).with_name("templates"))
        self._options = options
        self._environment = Environment(
            loader=ChoiceLoader([FileSystemLoader(folder), PrefixLoader({"timberframe": layouts})]),
            autoescape=select_autoescape(["html"], default=False),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )

    def message(
        self,
        name: str,
        /,
        *,
        to: str,
        subject: str,
        to_name: str = "",
        unsubscribe_url: str | None = None,
        **values: object,
    ) -> EmailMessage:
        """Make the message of `name.txt` and, if it exists, `name.html`, for one recipient.

        Templates are given `values`, `subject` and `project_name`. `subject` is plain text, not a
        template. `unsubscribe_url` takes a POST of a mail client (RFC 8058).
        """
        subject = one_line(subject, MAX_SUBJECT)
        values = {"project_name": self._options.project_name, "subject": subject, **values}
        message = EmailMessage(_POLICY)
        message["From"] = parse_mailbox(self._options.sender)
        message["To"] = _recipient(to, to_name)
        message["Subject"] = subject
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answers of absent people
        if unsubscribe_url is not None:
            if not _HTTPS_URL.fullmatch(unsubscribe_url):
                raise ValueError("unsubscribe_url must be an https URL in ASCII")
            message["List-Unsubscribe"] = f"<{unsubscribe_url}>"
            message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        message.set_content(self._environment.get_template(f"{name}.txt").render(values))
        try:
            html = self._environment.get_template(f"{name}.html")
        except TemplateNotFound:
            return message
        message.add_alternative(html.render(values), subtype="html")
        return message


def _recipient(to: str, name: str) -> Address:
    mailbox = parse_mailbox(to)
    if mailbox.display_name:
        raise ValueError("the recipient's name goes into to_name")
    return Address(display_name(name), mailbox.username, mailbox.domain)

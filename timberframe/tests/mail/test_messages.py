"""Messages from templates: what is in them, and what a value cannot do to them."""

import re
from collections.abc import Callable, Mapping
from email import message_from_bytes, message_from_string
from email.message import EmailMessage
from email.policy import SMTP, default
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from timberframe.mail import MailOptions, MailTemplates

TEMPLATES = {
    "welcome.txt": "Welcome {{ name }}, says {{ project_name }}.\n",
    "welcome.html": '{% extends "timberframe/layout.html" %}\n'
    "{% block content %}<p>Welcome {{ name }}</p>{% endblock %}",
    "plain.txt": "Only text, and {{ name }}\n",
}
CAROL = "carol@example.com"
# All that ends a line for one of the programs on the way, and characters that no header may have.
LINE_ENDS = ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
CONTROLS = ["\x00", "\x08", "\x7f", "\x9b", "\ud800"]
OPTIONS = MailOptions(sender="Shop <shop@example.com>", folder=Path("outbox"), project_name="Shop")

Make = Callable[..., EmailMessage]


def maker(folder: Path, templates: Mapping[str, str] = TEMPLATES) -> Make:
    for name, source in templates.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(source)
    compiled = MailTemplates(folder, OPTIONS)

    def make(name: str = "welcome", /, **values: Any) -> EmailMessage:
        return compiled.message(
            name, **{"to": CAROL, "subject": "Welcome", "name": "Carol"} | values
        )

    return make


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    return maker(tmp_path_factory.mktemp("templates"))


def parsed(message: EmailMessage) -> list[EmailMessage]:
    """As a server gets it, in ASCII, and as it is stored, in UTF-8."""
    return [
        message_from_bytes(content, _class=EmailMessage, policy=default)
        for content in (message.as_bytes(policy=SMTP), message.as_bytes())
    ]


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


def test_message_has_a_text_and_an_html_part(make: Make) -> None:
    for message in parsed(make()):
        assert message.get_content_type() == "multipart/alternative"
        assert part(message, "plain") == "Welcome Carol, says Shop.\n"
        assert "<p>Welcome Carol</p>" in part(message, "html")
        assert message["From"] == "Shop <shop@example.com>"
        assert message["To"] == CAROL
        assert message["Subject"] == "Welcome"
        assert message["Auto-Submitted"] == "auto-generated"
        assert "List-Unsubscribe" not in message


def test_without_an_html_template_a_message_is_text(make: Make) -> None:
    for message in parsed(make("plain")):
        assert message.get_content_type() == "text/plain"
        assert part(message, "plain") == "Only text, and Carol\n"


def test_values_are_escaped_in_html_only(make: Make) -> None:
    for message in parsed(make(name="<b>&</b>")):
        assert "Welcome <b>&</b>," in part(message, "plain")
        assert "<p>Welcome &lt;b&gt;&amp;&lt;/b&gt;</p>" in part(message, "html")


def test_values_are_not_templates(make: Make) -> None:
    [message, _] = parsed(make(name="{{ 7 * 7 }}", subject="{{ project_name }}"))
    assert "{{ 7 * 7 }}" in part(message, "plain")
    assert message["Subject"] == "{{ project_name }}"


@pytest.mark.parametrize("missing_in", ["txt", "html"])
def test_missing_value_is_an_error(tmp_path: Path, missing_in: str) -> None:
    make = maker(tmp_path, TEMPLATES | {f"welcome.{missing_in}": "{{ order_number }}"})
    with pytest.raises(UndefinedError, match="order_number"):
        make()
    assert make(order_number=7)


def test_layout_loads_nothing_and_knows_dark_mode_and_narrow_screens(make: Make) -> None:
    html = part(make(), "html")
    for stated in ("prefers-color-scheme: dark", 'name="color-scheme"', "max-width: 600px"):
        assert stated in html
    assert 'name="viewport"' in html
    for loading in ("src=", "href=", "url(", "@import", "<script", "http:", "https:"):
        assert loading not in html


def test_owner_may_have_a_layout_of_their_own(tmp_path: Path) -> None:
    layout = "<main>{% block content %}{% endblock %}</main>"
    make = maker(tmp_path, TEMPLATES | {"timberframe/layout.html": layout})
    assert part(make(), "html").strip() == "<main><p>Welcome Carol</p></main>"


@pytest.mark.parametrize("end", LINE_ENDS + CONTROLS, ids=ascii)
@pytest.mark.parametrize("argument", ["subject", "to_name"])
def test_value_in_a_header_begins_no_other(make: Make, argument: str, end: str) -> None:
    plain = make(**{argument: "Hello"})
    broken = make(**{argument: f"Hello{end}Bcc: eve@example.com{end}{end}<script>"})
    for message in parsed(broken):
        assert message.keys() == plain.keys()
        assert part(message, "plain") == part(plain, "plain")
        header = message["Subject"] if argument == "subject" else message["To"]
        assert re.findall(r"\w+", header)[:5] == ["Hello", "Bcc", "eve", "example", "com"]
        assert [each.addr_spec for each in message["To"].addresses] == [CAROL]


@pytest.mark.parametrize("end", LINE_ENDS + CONTROLS + [" ", "\t", ",", ";", ">"], ids=ascii)
def test_address_with_anything_besides_is_refused(make: Make, end: str) -> None:
    for address in (
        f"carol@example.com{end}",
        f"{end}carol@example.com",
        f"ca{end}rol@example.com",
    ):
        with pytest.raises(ValueError, match="not an e-mail address") as refused:
            make(to=address)
        assert "carol" not in str(refused.value)
    for address in (f"{CAROL}{end}Bcc: eve@example.com", f"{CAROL}{end}eve@example.com"):
        with pytest.raises(ValueError, match="not an e-mail address"):
            make(to=address)


@pytest.mark.parametrize("address", ["", "carol", "@example.com", "carol@", "a@b@c", "a..b@c.d"])
def test_what_is_no_address_is_refused(make: Make, address: str) -> None:
    with pytest.raises(ValueError, match="not an e-mail address"):
        make(to=address)


def test_recipient_is_one_address_without_a_name(make: Make) -> None:
    with pytest.raises(ValueError, match="to_name"):
        make(to=f"Carol <{CAROL}>")


@pytest.mark.parametrize(
    "address", [CAROL, "jürgen@bücher.example", "用户@例え.jp", "o'b+x@localhost"]
)
@pytest.mark.parametrize(
    "name",
    [
        "",
        "Carol",
        "Müller, Jörg",
        "O'Brien, Pat (Sales)",
        'ä" <eve@example.com>, "',
        "ß, " * 60,
        "Eve eve@example.com, " * 9,
    ],
)
def test_names_and_addresses_of_any_letters_stay_one_recipient(
    make: Make, address: str, name: str
) -> None:
    content = make(to=address, to_name=name).as_bytes()
    message = message_from_string(content.decode(), policy=default)
    assert [each.addr_spec for each in message["To"].addresses] == [address]
    shown = message["To"].addresses[0].display_name
    words, shown_words = (" ".join(re.findall(r"\w+", each)) for each in (name, shown))
    assert shown_words == words or (shown.endswith("…") and words.startswith(shown_words))
    assert len(shown) <= 100


@pytest.mark.parametrize("word", ["x", "ü", "漢", "x ", "ü "])
def test_long_values_make_no_long_lines(make: Make, word: str) -> None:
    message = make(subject=word * 2000, to_name=word * 2000, name=word * 5000)
    for content in (message.as_bytes(policy=SMTP), message.as_bytes()):
        assert max(map(len, content.split(b"\r\n"))) <= 998  # RFC 5322 section 2.1.1
        assert b"\n" not in content.replace(b"\r\n", b"")
    for read in parsed(message):
        assert len(read["Subject"]) <= 200
        assert read["Subject"].endswith("…")
        assert word * 5000 in part(read, "plain")


def test_one_click_unsubscription(make: Make) -> None:
    url = f"https://example.com/unsubscribe/{'x' * 300}?a=1&b=%20"
    message = make(unsubscribe_url=url)
    content = message.as_bytes(policy=SMTP)
    # A folded or encoded URL is one that mail clients do not understand.
    assert f"\r\nList-Unsubscribe: <{url}>\r\n".encode() in content
    assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in content


@pytest.mark.parametrize(
    "url",
    ["", "http://example.com/", "mailto:a@example.com", "https://", "https://example.com/ x"]
    + ["https://example.com/>,<mailto:eve@example.com", "https://exämple.com/", '"https://x/"']
    + [f"https://example.com/{end}Bcc: eve@example.com" for end in LINE_ENDS]
    + [f"https://example.com/{'x' * 1000}"],
)
def test_unsubscription_is_one_https_url(make: Make, url: str) -> None:
    with pytest.raises(ValueError, match="https URL"):
        make(unsubscribe_url=url)

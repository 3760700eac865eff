"""Addresses of mail: one mailbox in a header, and nothing besides."""

import re
from email.headerregistry import Address

from timberframe.settings import MAILBOX

MAX_NAME = 100
_PUNCTUATION = re.compile(r"[\"<>()\[\]:;@,\\]")
# Spaces, all that ends a line somewhere (U+0085 and U+2028 too), and controls. A lone surrogate
# cannot be encoded.
_BETWEEN_WORDS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def parse_mailbox(text: str) -> Address:
    """Parse `carol@example.com` or `Carol <carol@example.com>`, with any letters (RFC 6531)."""
    found = MAILBOX.fullmatch(text)
    if found is None:
        # Without the address: errors are logged.
        raise ValueError("not an e-mail address")
    return Address(display_name(found["name"] or ""), found["local"], found["domain"])


def display_name(text: str) -> str:
    """A name without punctuation that has a meaning beside an address.

    Within quotes it would have none, but Python drops the quotes when it folds a long name, and
    what follows a comma would become another recipient.
    """
    return one_line(_PUNCTUATION.sub(" ", text), MAX_NAME)


def one_line(text: str, max_length: int) -> str:
    """Fold to one line: whatever a value brings along, it cannot begin another header."""
    line = _BETWEEN_WORDS.sub(" ", text).strip()
    return line if len(line) <= max_length else f"{line[: max_length - 1].rstrip()}…"

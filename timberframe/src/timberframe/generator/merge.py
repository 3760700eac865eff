"""Applies a change of generated code to a file that was edited in other places since."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher


class Conflict(Exception):
    """What has to change was edited; the message is what was generated there."""


def merge(before: str, after: str, edited: str) -> str:
    """Make the change from `before` to `after` in `edited`, which was `before` once.

    Raise `Conflict` where it is not certain what that means.
    """
    lines = (text.splitlines(keepends=True) for text in (before, after, edited))
    return "".join(_merge(*lines))


def _merge(
    before: Sequence[str], after: Sequence[str], edited: Sequence[str], *, are_words: bool = False
) -> list[str]:
    base, result = list(before), list(edited)
    changes = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    # From the end, so that the positions of the others stay right.
    for kind, start, end, first, last in reversed(changes):
        part = list(after[first:last])
        is_layout = are_words and not "".join([*base[start:end], *part]).strip()
        if kind != "equal" and not is_layout:
            result = _replace(base, start, end, part, result, are_words=are_words)
        base[start:end] = part
    return result


def _replace(
    base: list[str], start: int, end: int, part: list[str], edited: list[str], *, are_words: bool
) -> list[str]:
    """Replace `base[start:end]` in `edited` by `part`."""
    where = {-1: -1, len(base): len(edited)}  # in `edited` stands what was not edited
    for at, there, size in SequenceMatcher(
        None, base, edited, autojunk=False
    ).get_matching_blocks():
        where |= zip(range(at, at + size), range(there, there + size), strict=True)
    if start == end and not are_words:
        # Either neighbour says where; the next one does if lines were added between them.
        if end in where:
            return [*edited[: where[end]], *part, *edited[where[end] :]]
        if start - 1 in where:
            return [*edited[: where[start - 1] + 1], *part, *edited[where[start - 1] + 1 :]]
    # Words are alike in many places: both neighbours must be as they were, too.
    needed = range(start - 1, end + 1) if are_words else range(start, end)
    offsets = {where[at] - at if at in where else None for at in needed}
    if len(offsets) == 1 and None not in offsets:
        offset = where[needed[0]] - needed[0]
        return [*edited[: start + offset], *part, *edited[end + offset :]]
    if are_words:
        raise Conflict
    return _merge_words(base, start, end, part, edited, where)


def _merge_words(
    base: list[str],
    start: int,
    end: int,
    part: list[str],
    edited: list[str],
    where: dict[int, int],
) -> list[str]:
    """The same by words: what changes may stand beside what was edited."""
    first = max(at for at in where if at < start)
    last = min(at for at in where if at >= end)
    old = base[first + 1 : last]
    new = [*base[first + 1 : start], *part, *base[end:last]]
    there = edited[where[first] + 1 : where[last]]
    try:
        words = _merge(_words(old), _words(new), _words(there), are_words=True)
    except Conflict:
        raise Conflict("".join(base[start:end] or old).strip()) from None
    return [*edited[: where[first] + 1], "".join(words), *edited[where[last] :]]


def _words(lines: Sequence[str]) -> list[str]:
    return re.findall(r"\w+|\s+|[^\w\s]", "".join(lines))

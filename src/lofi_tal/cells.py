"""Text in cells of a table that a spreadsheet may open, and in subtitles.

A spreadsheet runs a cell that begins like a formula, and one that splits at semicolons finds cells where we see none.
So an apostrophe, which spreadsheets take for "this is text", comes before ``=``, ``+``, ``-``, ``@``, a tab or a
carriage return at the start of a cell, and after a separator or line break in it. A plain number stays one. Text that
has such an apostrophe already gets one more, so that :func:`unguarded` gives back what :func:`guarded` took.

Source: https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import re

from lofi_tal.errors import one_line

_FORMULA = "[=+\\-@\t\r＝＋－＠]"
_BEGINS = re.compile(f"(^|[;\t|\r\n])('*)(?={_FORMULA})")
_GUARDED = re.compile(f"(^|[;\t|\r\n])'('*)(?={_FORMULA})")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?")
_TAG = re.compile(r"<(?=[/a-zA-Z])")


def guarded(text: str) -> str:
    """Return a text as a cell that no spreadsheet runs.

    >>> guarded("=1+1"), guarded("-5"), guarded("jump"), guarded("'=x")
    ("'=1+1", '-5', 'jump', "''=x")
    """
    return text if _NUMBER.fullmatch(text) else _BEGINS.sub(r"\1'\2", text)


def unguarded(cell: str) -> str:
    """Return the text of a cell that :func:`guarded` made.

    >>> unguarded("'=1+1"), unguarded("'tis"), unguarded("''=x")
    ('=1+1', "'tis", "'=x")
    """
    return _GUARDED.sub(r"\1\2", cell)


def caption(text: str) -> str:
    r"""Return a text as one line of a subtitle that is shown as it is: no arrow, tag or code of a position in it.

    >>> caption("a\n\n2\n00:00:00,000 --> 00:00:09,000"), caption("<b>x</b>")
    ('a 2 00:00:00,000 → 00:00:09,000', '‹b>x‹/b>')
    """
    line = one_line(" ".join(text.split())).replace("-->", "→").replace("{\\", "{ \\")
    return _TAG.sub("‹", line)

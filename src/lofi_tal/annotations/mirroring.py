"""Whether training videos may be mirrored: not where class names speak of left and right, in whatever spelling.

Names are compared without case and accents, cut at blanks, ``_``, digits and camelCase. A name that cannot be read for
this (a number, a code, an unknown script) makes the answer "unsure", which counts as no.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_GENERIC = frozenset(
    ("action", "activity", "class", "classe", "clase", "klasse", "category", "event", "gesture", "id", "label")
)
"""Words that say nothing of an action: ``class_3`` is a number."""
_SCRIPTS = tuple(
    "LATIN CJK IDEOGRAPHIC HIRAGANA KATAKANA HANGUL CYRILLIC GREEK ARABIC HEBREW DEVANAGARI THAI".split()  # noqa: SIM905
)
"""First words of the Unicode names of letters whose words for left and right are listed here."""
_SYMBOLS = re.compile("[←→↖↗↘↙⇐⇒⇦⇨⟵⟶⬅➡↰↱↶↷↺↻⟲⟳👈👉◀▶◁▷]")
_NOT_SIDES = re.compile(
    "^(?:bright|upright|fright|alright|outright|forthright|birthright|copyright|cleft|leftover|righteous|rightful|"
    "(?:play|ship|wheel|mill|cart)?wright)"
)
_TWINS = "l r|lt rt|li re|g d|sx dx|izq der|izda dcha|esq dir|east west|ost west|est ouest|este oeste|est ovest|e w"
_PAIRS = [(a, b) for pair in _TWINS.split("|") for a, b in (pair.split(), pair.split()[::-1])]
"""Words that mean the two sides if two names differ in nothing else."""
_SYMBOL_PAIRS = [*zip("<东東동>西西서", ">西西서<东東동", strict=True)]


def _plain(text: str) -> str:
    """Return a text without accents and case, its camelCase cut."""
    letters = unicodedata.normalize("NFKD", text)
    bare = unicodedata.normalize("NFC", "".join(one for one in letters if unicodedata.category(one) != "Mn"))
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", bare).casefold()


def _words(text: str) -> tuple[str, ...]:
    return tuple(_plain(text).split())


_WITHIN = _words(
    # English; German and Dutch; French; Spanish; Italian; Portuguese and Catalan
    "left right clockwise starboard links rechts uhrzeiger gauche droite izquierd derech sinistr destra esquer direit "
    # Chinese, Japanese, Korean
    "左 右 顺时 逆时 順時 逆時 时针 時針 時計回 時計周 ひだり みぎ ヒダリ ミギ レフト ライト "
    "왼 오른 좌회 우회전 좌측 우측 좌향 우향 좌우 시계방향 "
    # Nordic, Slavic, Greek, Finnish, Romanian, Hebrew, Arabic, Hindi, Thai
    "vänster höger venstre højre høyre влево вправо налево направо слева справа αριστερ δεξι vasem vasen oikea stânga "
    "dreapta שמאל ימין يسار يمين बाए बाये बाया दाए दाये दाया ซ้าย ขวา"
)
"""Parts of words."""
_BEGINNING = _words("dextr levogir zurd diestr mancin canhot lewo lewa lewy lewe praw vlev vprav dolev doprav лев прав")
"""Beginnings of words."""
_WHOLE = frozenset(
    _words(
        "l r lh rh lhs rhs lft rgt rght rigth rihgt letf lfet cw ccw acw clokwise southpaw linke linker linken linkes "
        "linkem rechte rechter rechten rechtes rechtem droit droits horaire horaires antihoraire aiguilles horario "
        "antihorario agujas manecillas izq izda izdo dcha dcho sx dx destro destre destri orario antiorario oraria "
        "antioraria lancette esq ponteiros dreta leva prava levy pravy levou pravou sol sag sola saga soldan sagdan "
        "trái phải kiri kanan bal jobb balra jobbra 좌 우"
    )
)
"""Whole words."""


@dataclass(frozen=True)
class Mirroring:
    """Whether a mirrored action keeps its class.

    Args:
        safe: It does, as far as class names tell; False if they are unclear.
        contradicted: Class names say that it does not.
        reason: Why, with the names.
    """

    safe: bool
    contradicted: bool
    reason: str


def judge_mirroring(labels: Iterable[str]) -> Mirroring:
    """Say whether videos of these classes may be mirrored.

    Args:
        labels: Class names.

    >>> judge_mirroring(["SwipeLeft", "SwipeRight"]).reason
    "'SwipeLeft', 'SwipeRight' speak of left or right: a mirrored action would be another class"
    >>> judge_mirroring(["bright_light", "copyright"]).safe
    True
    """
    names = list(dict.fromkeys(labels))
    if sided := [name for name in names if _speaks_of_sides(name)]:
        verb = "speaks" if len(sided) == 1 else "speak"
        text = f"{_quoted(sided)} {verb} of left or right: a mirrored action would be another class"
        return Mirroring(False, True, text)
    if twins := [" and ".join(map(repr, pair)) for pair in _mirrored_pairs(names)]:
        text = f"{', '.join(twins[:3])} look like mirror images: a mirrored action would be another class"
        return Mirroring(False, True, text)
    if unclear := [name for name in names if not _readable(name)]:
        text = (
            f"unsure: {_quoted(unclear)} may or may not mean left and right; set it to true if a mirrored action keeps "
            "its class"
        )
        return Mirroring(False, False, text)
    text = "no class name speaks of left or right; set it to false if a mirrored action is another class"
    return Mirroring(True, False, text)


def _tokens(name: str) -> list[str]:
    """Return the words of a name, plain."""
    return re.findall(r"[^\W\d_]+", _plain(name))


def _speaks_of_sides(name: str) -> bool:
    if _SYMBOLS.search(name):
        return True
    uncut = _tokens(name.casefold())  # moveLEFTward
    tokens = [_NOT_SIDES.sub("", token) for token in [*_tokens(name), *uncut]]
    if any(word in "".join(uncut) for word in ("clockwise", "시계방향")):  # written apart
        return True
    return any(
        token in _WHOLE or token.startswith(_BEGINNING) or any(part in token for part in _WITHIN) for token in tokens
    )


def _mirrored_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return names that differ only in what may be the side."""
    by_plain: dict[str, str] = {}
    for name in names:
        by_plain.setdefault(_key(name), name)
    found: dict[frozenset[str], tuple[str, str]] = {}
    for key, name in by_plain.items():
        for other in _mirrored(key):
            if other != key and other in by_plain:
                found.setdefault(frozenset((key, other)), (name, by_plain[other]))
    return list(found.values())


def _key(name: str) -> str:
    """Return a name as it is compared: blanks between all its parts."""
    return " ".join(re.findall(r"[^\W\d_]+|\d+|[^\w\s]", _plain(name)))


def _mirrored(key: str) -> Iterator[str]:
    """Yield a key with one part replaced by its mirror image."""
    tokens = key.split(" ")
    for index, token in enumerate(tokens):
        for a, b in _PAIRS:
            if token == a:
                yield " ".join([*tokens[:index], b, *tokens[index + 1 :]])
        for a, b in (("l", "r"), ("r", "l")):  # larm, rarm; punchl, punchr
            if token.startswith(a):
                yield " ".join([*tokens[:index], b + token[1:], *tokens[index + 1 :]])
            if token.endswith(a):
                yield " ".join([*tokens[:index], token[:-1] + b, *tokens[index + 1 :]])
    for a, b in _SYMBOL_PAIRS:
        yield key.replace(a, b)
    arrow = key.replace("< -", "- >")
    yield arrow if arrow != key else key.replace("- >", "< -")


def _readable(name: str) -> bool:
    """Say whether a name has a word, in a script whose words for the sides are known."""
    tokens = _tokens(name)
    letters = {letter for token in tokens for letter in token if not letter.isascii()}
    if not all(unicodedata.name(letter, "").startswith(_SCRIPTS) for letter in letters):
        return False
    return any(_is_word(token) for token in tokens)


def _is_word(token: str) -> bool:
    if not token.isascii():
        return True
    return token not in _GENERIC and (len(token) > 2 or (len(token) == 2 and bool(set(token) & set("aeiouy"))))


def _quoted(names: Sequence[str], most: int = 3) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + rest

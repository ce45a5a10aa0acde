"""Where sentences end, by the punctuation of many scripts, and by what a full stop may stand for besides.

Rules alone, with nothing learned: where a full stop is in doubt, as in "the U.S. Army", the sentence goes on. A chunk
that holds one sentence more does less harm than a name that is cut in two. Scripts without such marks (Thai, Lao) end
their sentences with their lines here; a line of more tokens than a chunk may have is cut at white space, which in these
scripts stands between sentences and clauses, not between words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# Marks that are nothing but the end of a sentence, so that no white space need follow: of the CJK scripts, Devanagari,
# Arabic and Urdu, Armenian, Ethiopic, Burmese, Khmer, Tibetan.
CLEAR_MARKS: Final = "。！？｡।॥؟۔։።፧፨။។៕༎‼⁇⁈⁉"  # noqa: RUF001
CLOSERS: Final = "\\])}\"'”’“‘»›」』）】》〉*_"  # noqa: RUF001
OPENERS: Final = "([{\"'“‘„«‹¿¡*_"  # noqa: RUF001

# One mark, what closes behind it, the white space after it. Takes linear time: no part can match in two ways.
_CANDIDATE: Final = re.compile(rf"[{CLEAR_MARKS}]+[{CLOSERS}]*\s*|[.!?…．][{CLOSERS}]*\s+")  # noqa: RUF001
_LOOK_BACK: Final = 16  # characters; no abbreviation is longer
_LAST_WORD: Final = re.compile(rf"[^\s{re.escape(OPENERS)}/–—-]*\Z")  # noqa: RUF001
_DOTTED: Final = re.compile(r"(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}")  # U.S  e.g  Ph.D  z.B
_DOTTED_NEXT: Final = re.compile(r"[^\W\d_]\.")  # what follows the "z." of "z. B."

# Before a name or more of the sentence; without the full stop, in lower case, by language.
_BEFORE_MORE: Final = (
    "mr mrs ms dr prof rev hon st messrs gen col lt sgt capt cmdr adm gov sen rep pres al cf vs viz approx resp incl",
    "bzw ggf evtl inkl exkl vgl sog bspw ca geb hrsg hl dipl ing fr frl mag zzgl abzgl mind max tel",
    "mme mlle mgr av env sr sra srta dra ud uds exmo sig dott avv",
    "bijv dhr mevr drs tzn tzw np ul tzv napr např",
    "ул им тов акад проф гл",
)
# The same, but words or ends of sentences as well, unless a number follows.
_BEFORE_NUMBERS: Final = (
    "no nos fig figs eq eqs vol vols ch chap sec p pp art par jan feb mar apr jun jul aug sep sept oct nov dec",
    "nr abb tab kap bd s okt dez núm pág págs n num pag č str",
    "рис стр см табл п ст с",  # noqa: RUF001
)
# German ordinals are numbers with a full stop, before a noun and so before a capital: "am 3. Mai", "der 4. Stock".
_ORDINAL_BEFORE: Final = re.compile(
    r"(?<!\bI )\b(?:am|vom|zum|zur|beim|im|ins|ans|bis|d(?:er|ie|as|em|en|es)|(?:jed|sein|ihr|unser)e[mnrs]?)\s+\Z",
    re.IGNORECASE,
)
_ORDINAL_AFTER: Final = re.compile(
    r"(?:Jänner|Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember"
    r"|Jahr(?:hundert|tausend|estag|gang)\w*|Jh)\b"
)
ABBREVIATIONS: Final = frozenset(" ".join(_BEFORE_MORE).split())
BEFORE_NUMBERS: Final = frozenset(" ".join(_BEFORE_NUMBERS).split())


def sentence_ends(text: str, start: int, end: int) -> Iterator[int]:
    """Positions in text[start:end] where a sentence has ended, the white space behind it included, in order."""
    for match in _CANDIDATE.finditer(text, start, end):
        if text[match.start()] in CLEAR_MARKS or _is_end(text, match.start(), match.end(), end):
            yield match.end()


def _is_end(text: str, mark: int, after: int, end: int) -> bool:
    """Whether the mark, one that has other uses too, ends a sentence; `after` is where what follows starts."""
    first = text[after : min(end, after + 2)].lstrip(OPENERS)[:1]
    if first.islower():  # no sentence starts with a small letter: "Yahoo! is", "etc. and", '"Why?" he asked'
        return False
    if text[mark] != ".":
        return True
    found = _LAST_WORD.search(text, max(0, mark - _LOOK_BACK), mark)
    word = found.group() if found else ""
    if len(word) == 1 and word.isupper() and word != "I":  # an initial
        return False
    if len(word) == 1 and word.islower() and _DOTTED_NEXT.match(text, after):
        return False
    folded = word.casefold()
    if folded in ABBREVIATIONS or _DOTTED.fullmatch(word) or (folded in BEFORE_NUMBERS and first.isdigit()):
        return False
    number = mark - len(word)
    is_short = word.isdigit() and len(word) <= 3
    # The number of a list or a heading: "1. Introduction", "a. First".
    is_item = (is_short or len(word) == 1) and word.isalnum() and _starts_line(text, number)
    return not (is_item or (is_short and _is_ordinal(text, number, after)))


def _is_ordinal(text: str, number: int, after: int) -> bool:
    """Whether the number that starts at `number` is an ordinal, by the word before it or what follows its full stop."""
    if _ORDINAL_AFTER.match(text, after):
        return True
    return _ORDINAL_BEFORE.search(text, max(0, number - _LOOK_BACK), number) is not None


def _starts_line(text: str, position: int) -> bool:
    """Whether nothing but blanks stands between a line's start and `position`."""
    before = text[max(0, position - _LOOK_BACK) : position].rstrip(" \t")
    return before.endswith(("\n", "\r")) or (not before and position <= _LOOK_BACK)

"""Where sentences end: marks of many scripts, and full stops that end nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longspan.late_chunking.chunking import sentence_spans
from longspan.text.sentences import CLEAR_MARKS, sentence_ends


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    "want",
    [
        ["One. ", "Two! ", "Three? ", "Four… ", "Five... ", "Six."],
        ['He said "No." ', "(Then he left.) ", "‘So be it.’ ", "**Bold.** ", "End"],  # noqa: RUF001
        ["Er kam, „sah.“ ", "«Fini.» ", "Danach."],
        ["¿Qué? ", "¡Nada! ", "Ya."],
        ["東京は大きい。", "人口は多い！", "本当？」", "はい｡", "終"],  # noqa: RUF001
        ["यह बड़ा है। ", "हाँ॥ ", "नहीं"],
        ["هل هذا صحيح؟ ", "نعم. ", "یہ اچھا ہے۔ ", "جی"],  # noqa: RUF001
        ["Այո։ ", "Ոչ"],  # noqa: RUF001
        ["አዎ። ", "አይ"],
        ["Это так. ", "Нет."],
        ["A paragraph\n\n", "ends one.\n", "A line\ndoes not."],
        ["Crowded.\r\n\r\n", "Lines.\r\n", "End"],
        ["So do I. ", "Then go."],
        ["It cost $3.50. ", "Version 2.0 is out. ", "In 1999. ", "See example.com. ", "Yes."],
        ["He said no. ", "She said yes. ", "We ate figs. ", "Good."],
    ],
    ids=lambda want: want[0],
)
def test_sentences(want: list[str]) -> None:
    assert sentences("".join(want)) == want


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith met Mr. J. R. Jones and Prof. Lee.",
        "The U.S. Army, e.g. Patton, i.e. him, had a Ph.D. Student.",
        "See Fig. 3, Eq. 4, No. 5 and pp. 6 of Vol. 7, of Jan. 8.",
        "Das ist z. B. Herr Dr. Maier, d. h. er, bzw. Frau u.a. Bekannte.",
        "Mme. Curie, Sr. García y Dra. Ruiz, al. Długa.",
        "А. С. Пушкин, ул. Тверская, рис. 5, т.е. Москва.",  # noqa: RUF001
        'Yahoo! is here, "why?" he asked... and left.',
        "Am 3. Mai kam der 2. Band, im 16. und 17. Jahrhundert zum 1. Mal, bis 8. Oktober auf dem 12. Platz.",
        "1. Introduction",
        "a. First",
    ],
)
def test_what_ends_no_sentence(text: str) -> None:
    assert sentences(text) == [text]


def test_numbers_of_lists_start_their_line() -> None:
    assert sentences("Do this.\n1. Mix\n  2. Stir it.\n13. Eat") == ["Do this.\n", "1. Mix\n  2. Stir it.\n", "13. Eat"]
    assert sentences("We were 13. Then more came.") == ["We were 13. ", "Then more came."]


def test_not_every_number_is_an_ordinal() -> None:
    for want in (
        ["I am 13. ", "You are not."],
        ["Das war 1913. ", "Dann kam der Krieg."],
        ["Es waren 27. ", "Aber wer?"],
        ["It was the summer of 69. ", "Then what?"],
    ):
        assert sentences("".join(want)) == want


@given(st.text(alphabet="aB1. !\n。\"'(", max_size=60), st.integers(0, 20), st.integers(0, 20))
def test_ends_rise_within_their_bounds(text: str, start: int, cut: int) -> None:
    end = max(start, len(text) - cut)
    ends = list(sentence_ends(text, start, end))
    assert ends == sorted(set(ends)) and all(start < place <= end for place in ends)


def test_clear_marks_need_no_white_space() -> None:
    for mark in CLEAR_MARKS:
        assert sentences(f"x{mark}y") == [f"x{mark}", "y"]

"""A few texts, a question to each, and a longer document, for tests that ask a framework's store."""

from __future__ import annotations

TEXTS = [
    "A generator resumes where it left off when the next value is asked for.",
    "A decorator is applied to a function when the function is defined.",
    "Bread rises because yeast makes carbon dioxide.",
    "The river floods the meadows every spring.",
]
QUESTIONS = ["what does @ before a def do?", "why does dough grow?", "high water in April", "yield in a loop"]
ANSWERS = [1, 2, 3, 0]  # places in TEXTS
DOCUMENT = (
    "Berlin is the capital of Germany. It lies on the river Spree. The city has 3.8 million people. "
    "Paris is the capital of France. It lies on the Seine. The city has 2.1 million people. "
    "Bread rises because yeast makes carbon dioxide. It is baked at 230 degrees."
)

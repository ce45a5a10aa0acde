"""Hybrid search: meaning and words, each in its index, made one ranking.

SPLADE's vectors have a weight for entries of the vocabulary, so that a match can be read; dense vectors find what uses
other words. Reciprocal rank fusion needs no scores that compare.
"""

import numpy as np

from longspan import BinaryIndex, Encoder, SparseEncoder, SparseIndex, fuse_ranks

PASSAGES = [
    "Error E1042 is raised when the licence key has expired.",
    "Renew the key in the account page before it runs out.",
    "Invoices are sent on the first day of each month.",
    "The update is installed when the machine restarts.",
]
QUESTIONS = ["E1042", "my key is no longer valid"]

dense = Encoder("sentence-transformers/all-MiniLM-L6-v2")
sparse = SparseEncoder("naver/splade-cocondenser-ensembledistil")
by_meaning, by_words = BinaryIndex(dense.dim, store="float32"), SparseIndex(sparse.dim)
by_meaning.add(dense.encode_document(PASSAGES))
by_words.add(sparse.encode_document(PASSAGES))

near = by_meaning.search(np.atleast_2d(dense.encode_query(QUESTIONS)), k=3)
same = by_words.search(sparse.encode_query(QUESTIONS), k=3)
best = fuse_ranks([near.ids, same.ids], k=2)
for question, ids in zip(QUESTIONS, best.ids):
    print(question, [PASSAGES[number] for number in ids if number >= 0])
print(sparse.decode(sparse.encode_query("E1042"), top_k=5))  # what the question asks for, in words

"""Semantic search: texts into a binary index, saved, loaded and asked.

An index keeps a bit a dimension and finds candidates by Hamming distance; `store="int8"` keeps a byte as well, so that
the best candidates can be scored again.
"""

from longspan import BinaryIndex, Encoder

PASSAGES = [
    "Open the sign-in page and choose 'Forgot password' to set a new one.",
    "The licence covers the source form and every work that is made from it.",
    "Invoices are sent on the first day of each month, by mail.",
    "A generator resumes where it left off when the next value is asked for.",
]

encoder = Encoder("sentence-transformers/all-MiniLM-L6-v2")
index = BinaryIndex(encoder.dim, store="int8")
index.add(encoder.encode_document(PASSAGES), origin=encoder.origin)  # the index remembers whose vectors these are
index.save("passages.index")

index = BinaryIndex.load("passages.index")  # mapped: nothing is read before it is needed
question = "how do I reset my password"
found = index.search(encoder.encode_query(question), k=2, origin=encoder.origin)
print(question)
for number, score in zip(found.ids, found.scores):
    print(f"  {score:.3f}  {PASSAGES[number]}")

"""Two stages with token vectors: one vector a text finds candidates, MaxSim puts them in order.

The store keeps a vector for every token, may be larger than memory, and ranking reads what the candidates need.
"""

from longspan import BinaryIndex, Encoder, MultiVectorEncoder, MultiVectorStore

PASSAGES = [
    "A decorator is applied when a function is defined.",
    "A generator resumes where it left off.",
    "An iterator gives one item after the other.",
    "The at sign before a definition names a decorator.",
    "A coroutine waits without holding up the others.",
]
QUESTION = "what does @ before a def do?"

encoder = Encoder("sentence-transformers/all-MiniLM-L6-v2")
index = BinaryIndex(encoder.dim, store="int8")
ids = index.add(encoder.encode_document(PASSAGES))

colbert = MultiVectorEncoder("jinaai/jina-colbert-v2")
store = MultiVectorStore(colbert.dim, store="int8")
store.add(colbert.encode_documents(PASSAGES), ids)

candidates = index.search(encoder.encode_query(QUESTION), k=4).ids
for ranked in colbert.rank(QUESTION, store, top_k=3, candidates=candidates):
    print(f"{ranked.score:6.2f}  {PASSAGES[ranked.document]}")

"""A reranker behind a search: it reads question and passage together.

Slower than comparing vectors, and better: so it orders what a first search found. Many questions run in one pass.
"""

from longspan import Reranker

CANDIDATES = [
    "Passwords are hashed before they are stored.",
    "Open the sign-in page and choose 'Forgot password'.",
    "A password must have twelve characters.",
]

reranker = Reranker("cross-encoder/ms-marco-MiniLM-L6-v2")
for entry in reranker.rank("how do I reset my password", CANDIDATES, top_k=2, return_documents=True):
    print(f"{entry['score']:.3f}  {entry['text']}")

rankings = reranker.rank(["how long must it be", "is it kept in clear"], CANDIDATES)
print([ranking[0]["corpus_id"] for ranking in rankings])
print(reranker.predict([("reset a password", CANDIDATES[1])]))  # scores alone, in the order of the pairs

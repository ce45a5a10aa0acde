"""Passages for a language model: late chunking, then the best chunks as a prompt.

Each chunk's vector is the mean of its tokens' vectors, which have seen the whole document. Whether that ranks better
than chunks by themselves depends on model and texts, so both are shown.
"""

from longspan import Encoder

DOCUMENT = """Berlin is the capital of Germany, both by area and by population. Its 3.85 million inhabitants make it the
most populous city of the European Union. The city is also one of the states of Germany, and is the third smallest of
them by area. Museums and galleries are spread over all its districts. Most of them are closed on Mondays."""
QUESTION = "How many people live in Berlin?"

encoder = Encoder("jinaai/jina-embeddings-v2-small-en")
question = encoder.encode_query(QUESTION)
late = encoder.encode_chunks(DOCUMENT, chunks="sentence", chunk_tokens=32)
alone = encoder.encode_chunks(DOCUMENT, chunks="sentence", chunk_tokens=32, mode="naive")
for name, chunks in (("late", late), ("alone", alone)):
    scores = encoder.similarity(question, chunks.embeddings)[0]
    print(name, [round(float(score), 3) for score in scores])

best = encoder.similarity(question, late.embeddings)[0].argsort()[::-1][:2]
context = "\n".join(f"- {late.texts[place]}" for place in sorted(best))
print(f"Answer from these passages:\n{context}\n\nQuestion: {QUESTION}")

"""Several tasks in one pass: each text has its own adapter and prompt, and no batch is split for it.

jina-embeddings-v3 has an adapter a task; all of them stay loaded, and every token of a batch runs with its text's own.
"""

from longspan import Encoder

encoder = Encoder("jinaai/jina-embeddings-v3")
print(encoder.tasks)

texts = [
    "how do I reset my password",
    "Open the sign-in page and choose 'Forgot password'.",
    "I lost my password",
    "My parcel has not arrived",
]
tasks = ["retrieval.query", "retrieval.passage", "classification", "classification"]
vectors = encoder.encode(texts, task=tasks)
print(encoder.similarity(vectors[0], vectors[1]))  # a question and its passage
print(encoder.similarity(vectors[2], vectors[3]))  # two complaints, by the classification adapter

short = encoder.encode_query(texts[0], truncate_dim=32)  # Matryoshka: leading values, of unit length again
print(short.shape)

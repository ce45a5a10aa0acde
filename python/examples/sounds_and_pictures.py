"""Words, pictures, sounds and videos in one space: what fits a sentence, and a mixture as one vector.

jina-embeddings-v5-omni reads all of them in one sequence. A dict of parts is one input; each input may have a task of
its own, and one call takes them in any order.
"""

import numpy as np

from longspan import Encoder, MediaOptions

encoder = Encoder("jinaai/jina-embeddings-v5-omni-nano")
seconds = np.arange(16_000) / 16_000
hum = (0.3 * np.sin(2 * np.pi * 110 * seconds)).astype(np.float32)  # at 16 kHz; other rates: (samples, rate)
wall = np.full((128, 128, 3), (160, 160, 160), np.uint8)
fade = np.stack([wall // step for step in (1, 2, 4, 8)])  # a video: frames first
names = ["a hum", "a grey wall", "a wall going dark", "a humming wall", "a note on a wall"]
vectors = encoder.encode_document(
    [
        hum,
        wall,
        {"video": fade},
        {"image": wall, "audio": hum},
        ("It reads: ", {"image": wall}, " (that is all)"),  # a tuple: parts in any order
    ]
)
for words in names:
    scores = encoder.similarity(encoder.encode_query(words), vectors)[0]
    print(f"{words}:", ", ".join(f"{name} {score:.3f}" for name, score in zip(names, scores)))

tasks = ["clustering", "classification", "retrieval"]  # one an input, in one pass
print(encoder.encode([hum, wall, "plain words"], task=tasks).shape)

# Servers differ in how they put media to this model; `MediaOptions` says how it is to be done.
chat = MediaOptions(wrapper="chat", prompts="all")
print(f"{encoder.encode_query(wall, media=chat) @ encoder.encode_query(wall):.3f}")

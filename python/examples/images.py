"""Pictures and words in one space: which picture fits a sentence.

jina-clip-v2 has a tower for images and one for texts. A str is always a text; pictures are arrays, Pillow's images, or
{"image": "photo.jpg"}.
"""

import numpy as np

from longspan import Encoder

encoder = Encoder("jinaai/jina-clip-v2")
rows, columns = np.indices((128, 128))
pictures = {
    "a red square": np.full((128, 128, 3), (220, 30, 30), np.uint8),
    "black and white stripes": np.repeat(255 * (columns // 16 % 2)[..., None], 3, axis=2).astype(np.uint8),
    "a blue gradient": np.stack([rows * 0, rows, 128 + rows // 2], axis=2).astype(np.uint8),
}
vectors = encoder.encode(list(pictures.values()), normalize_embeddings=True)
for words in pictures:
    scores = encoder.similarity(encoder.encode_query(words), vectors)[0]
    print(words, dict(zip(pictures, scores.round(3).tolist())))

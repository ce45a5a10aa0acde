"""A server of your own behind OpenAI's client: another address, and nothing else changes.

`longspan serve MODEL` does the same on the command line. Needs `pip install "longspan[serve]" openai`.
"""

import threading
import time

import numpy as np
import uvicorn
from openai import OpenAI

from longspan.serve import ModelSettings, Settings, create_app

app = create_app(ModelSettings("sentence-transformers/all-MiniLM-L6-v2", served_name="minilm"), Settings())
server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
thread = threading.Thread(target=server.run)
thread.start()
while not server.started:
    time.sleep(0.01)
port = server.servers[0].sockets[0].getsockname()[1]

with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any") as client:
    answer = client.embeddings.create(model="minilm", input=["a question", "an answer"])
    vectors = np.array([entry.embedding for entry in answer.data])
    print(vectors.shape, float(vectors[0] @ vectors[1]))

server.should_exit = True
thread.join()

"""A peer: sentence-transformers behind an ASGI app, as people write it in an afternoon. `python -m bench.serve.peer`.

One endpoint, the model's `encode` in a thread of a pool, no batching across requests. FastAPI where it is installed,
else the same on starlette, on which FastAPI stands.
"""

from __future__ import annotations

import sys


def main(model_name: str, port: int) -> None:
    """Serve until a signal."""
    import torch
    import uvicorn
    from sentence_transformers import SentenceTransformer
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    model = SentenceTransformer(model_name, device="cpu")
    model.encode(["warm up " * 50])

    async def embed(request: Request) -> JSONResponse:
        texts = (await request.json())["input"]
        texts = [texts] if isinstance(texts, str) else texts
        with torch.inference_mode():
            vectors = await run_in_threadpool(
                model.encode, texts, normalize_embeddings=True, show_progress_bar=False, batch_size=32
            )
        data = [{"object": "embedding", "index": i, "embedding": row.tolist()} for i, row in enumerate(vectors)]
        return JSONResponse({"object": "list", "data": data})

    async def ready(request: Request) -> JSONResponse:
        return JSONResponse({})

    app = Starlette(routes=[Route("/v1/embeddings", embed, methods=["POST"]), Route("/ready", ready)])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

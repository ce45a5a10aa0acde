"""longspan under LangChain: an Embeddings, a reranker, and late chunking.

from longspan.integrations.langchain import LongspanEmbeddings
store = InMemoryVectorStore(LongspanEmbeddings("jinaai/jina-embeddings-v3"))
"""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence

from longspan.arguments import names_arguments
from longspan.encoder import Encoder
from longspan.integrations import missing, one_model
from longspan.integrations.late_chunks import LateChunking
from longspan.integrations.text_embedding import TextEmbedding
from longspan.integrations.text_reranking import Activation, TextReranking
from longspan.late_chunking.document_chunks import ChunkRule
from longspan.pipeline.options import OnTruncate
from longspan.reranker import Reranker

try:
    from langchain_core.callbacks import Callbacks
    from langchain_core.documents import BaseDocumentCompressor, BaseDocumentTransformer, Document
    from langchain_core.embeddings import Embeddings
    from pydantic import ConfigDict, PrivateAttr
except ImportError as error:
    raise missing("langchain", error) from error


class LongspanEmbeddings(Embeddings):
    """An Encoder as LangChain's embeddings: queries and documents take the model's own prompts and adapters.

    The asynchronous methods are LangChain's: they run these in a thread, and the kernels let other threads work.

    Args:
        model: an Encoder, or what it opens; or by the name that HuggingFaceEmbeddings has for it, `model_name`.
        query_task, document_task: tasks other than the model's own choice.
        truncate_dim, normalize_embeddings, on_truncate: as `Encoder.encode`.
        model_kwargs: further arguments of `Encoder`, for a model that is opened here; `cache_folder` is its cache_dir.
        encode_kwargs: further arguments of `Encoder.encode`, such as prompt, for documents and queries.
        query_encode_kwargs: for queries, in place of `encode_kwargs`.
        show_progress: a bar while documents are embedded.
    Raises: TypeError or ValueError, an argument is wrong for this model, and what `Encoder` raises; at once.
    """

    @names_arguments
    def __init__(
        self,
        model: Encoder | str | os.PathLike[str] | None = None,
        *,
        model_name: str | None = None,
        query_task: str | None = None,
        document_task: str | None = None,
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
        on_truncate: OnTruncate = "warn",
        model_kwargs: Mapping[str, object] | None = None,
        encode_kwargs: Mapping[str, object] | None = None,
        query_encode_kwargs: Mapping[str, object] | None = None,
        cache_folder: str | None = None,
        show_progress: bool = False,
    ) -> None:
        self._show_progress = show_progress
        place = {} if cache_folder is None else {"cache_folder": cache_folder}
        self._embedding = TextEmbedding(
            one_model("LongspanEmbeddings", model, model_name),
            "LongspanEmbeddings",
            model_kwargs={**place, **(model_kwargs or {})},
            encode_kwargs=encode_kwargs,
            query_encode_kwargs=query_encode_kwargs,
            query_task=query_task,
            document_task=document_task,
            truncate_dim=truncate_dim,
            normalize_embeddings=normalize_embeddings,
            on_truncate=on_truncate,
        )

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors of documents."""
        return self._embedding.documents(texts, show_progress_bar=self._show_progress)

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        return self._embedding.query(text)


class LongspanReranker(BaseDocumentCompressor):
    """A Reranker as LangChain's document compressor, which ContextualCompressionRetriever takes: the best documents of
    a query, best first, each with its score as `relevance_score` in its metadata.

    Args:
        model: a Reranker, or what it opens.
        top_n: documents to keep; None for all.
        activation_fn, max_length, on_truncate: as `Reranker.predict`.
    Raises: TypeError or ValueError, an argument is wrong for this model, and what `Reranker` raises; at once.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)
    _reranking: TextReranking = PrivateAttr()

    @names_arguments
    def __init__(
        self,
        model: Reranker | str | os.PathLike[str],
        *,
        top_n: int | None = 3,
        activation_fn: Activation | None = None,
        max_length: int | None = None,
        on_truncate: OnTruncate = "warn",
    ) -> None:
        super().__init__()
        options = {"activation_fn": activation_fn, "max_length": max_length, "on_truncate": on_truncate}
        self._reranking = TextReranking(model, "LongspanReranker", top_k=top_n, **options)  # type: ignore[arg-type]

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks = None
    ) -> list[Document]:
        """The documents that are kept; those given stay as they are."""
        ranking = self._reranking.rank(query, [document.page_content for document in documents])
        kept = ((documents[place], score) for place, score in ranking)
        return [one.model_copy(update={"metadata": {**one.metadata, "relevance_score": score}}) for one, score in kept]


class LateChunkEmbeddings(Embeddings, BaseDocumentTransformer):
    """Late chunking: this splits documents, and hands a store the vectors that the chunks got in their documents.

        chunker = LateChunkEmbeddings(encoder)
        store = InMemoryVectorStore(chunker)
        store.add_documents(chunker.transform_documents(documents))

    LangChain's stores embed texts, one by one, and know nothing of the document around them. So the vectors wait here
    from `transform_documents` until `embed_documents` asks for the same texts, each once; for the same text from two
    places it gives one after the other, in the order of the places.

    Args:
        model, query_task: as `LongspanEmbeddings`.
        chunks, chunk_tokens, chunk_overlap, task, truncate_dim, normalize_embeddings: as `Encoder.encode_chunks`.
    Raises: as `LongspanEmbeddings`.
    """

    @names_arguments
    def __init__(
        self,
        model: Encoder | str | os.PathLike[str],
        *,
        chunks: ChunkRule = "sentence",
        chunk_tokens: int | None = 256,
        chunk_overlap: int = 0,
        task: str | None = None,
        query_task: str | None = None,
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
    ) -> None:
        self._chunking = LateChunking(
            model,
            "LateChunkEmbeddings",
            chunks=chunks,
            chunk_tokens=chunk_tokens,
            chunk_overlap=chunk_overlap,
            task=task,
            truncate_dim=truncate_dim,
            normalize_embeddings=normalize_embeddings,
        )
        self._embedding = TextEmbedding(
            self._chunking.encoder,
            "LateChunkEmbeddings",
            query_task=query_task,
            document_task=task,
            truncate_dim=truncate_dim,
            normalize_embeddings=normalize_embeddings,
        )
        self._waiting: defaultdict[str, deque[list[float]]] = defaultdict(deque)

    def transform_documents(self, documents: Sequence[Document], **kwargs: object) -> list[Document]:
        """The chunks of all documents, with the documents' metadata, and start_index and end_index in characters."""
        chunks: list[Document] = []
        found = self._chunking.split([document.page_content for document in documents])
        for document, pieces in zip(documents, found, strict=True):
            for piece in pieces:
                self._waiting[piece.text].append(piece.embedding)
                place = {"start_index": piece.start, "end_index": piece.end}
                chunks.append(Document(page_content=piece.text, metadata={**document.metadata, **place}))
        return chunks

    def split_documents(self, documents: Iterable[Document]) -> list[Document]:
        """`transform_documents`, as LangChain's text splitters call it."""
        return self.transform_documents(list(documents))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors that wait for these chunks.

        Raises: ValueError, a text is no chunk that `transform_documents` gave, or its vector was taken before.
        """
        wanted: dict[str, int] = {}
        for place, text in enumerate(texts):
            wanted[text] = wanted.get(text, 0) + 1
            if wanted[text] > len(self._waiting.get(text, ())):
                raise ValueError(
                    f"embed_documents: texts[{place}] is no chunk of transform_documents whose vector is still here; "
                    f"split its document with this object first, and add each chunk once"
                )
        vectors = [self._waiting[text].popleft() for text in texts]
        for text in wanted:
            if not self._waiting[text]:
                del self._waiting[text]
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        return self._embedding.query(text)

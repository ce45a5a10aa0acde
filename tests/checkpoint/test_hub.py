"""Names to folders: local ones first, then the hub's cache; every way the hub can fail is one sentence."""

from __future__ import annotations

import shutil
import socket
from fnmatch import fnmatchcase
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from longspan import Encoder
from longspan.checkpoint.hub import UNWANTED, WANTED, resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A hub cache that holds main and the tag v1 of org/name, as the library lays it out."""
    model = tmp_path / "cache" / "models--org--name"
    snapshot = model / "snapshots" / COMMIT
    for folder in (model / "refs", model / "blobs", snapshot):
        folder.mkdir(parents=True)
    for ref in ("main", "v1"):
        (model / "refs" / ref).write_text(COMMIT)
    (model / "blobs" / "abc").write_text("{}")
    (snapshot / "config.json").symlink_to(Path("../../blobs/abc"))
    return tmp_path / "cache"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"asked the network: {args}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def download(*args: object, **kwargs: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)


def hub_error(name: str, text: str = "401 Client Error.\n\nMore lines.") -> Exception:
    """The library's error, made without the HTTP response that its constructor asks for."""
    kind: type[Exception] = getattr(errors, name)
    error = kind.__new__(kind)
    error.args = (text,)
    return error


@pytest.mark.usefixtures("no_network")
def test_existing_folder_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name") == Path("org/name")
    assert resolve(tmp_path / "org") == tmp_path / "org"
    assert resolve(str(tmp_path / "org" / "..")) == tmp_path / "org" / ".."
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/org") == tmp_path / "org"


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    "name",
    ["./x", "../x", "/no/such/x", "~/x", "~nobody/x", "a/b/c", "x/", "C:\\x", "a b", "a\0b", "org/name?", "-x", "é"],
)
def test_missing_path_is_no_hub_name(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .* would be named org/name"):
        resolve(name)


@pytest.mark.usefixtures("no_network")
def test_path_object_is_never_a_hub_name(cache: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder 'org/name'"):
        resolve(Path("org/name"), cache_dir=str(cache), local_files_only=True)


def test_no_name() -> None:
    for name in ("", "  "):
        with pytest.raises(ValueError, match="name_or_path is empty; give a folder, or a model's name"):
            resolve(name)
    for name in (None, 3):
        with pytest.raises(TypeError):
            resolve(name)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="name_or_path must be a str or a path of str, got bytes"):
        resolve(b"model")  # type: ignore[arg-type]


def test_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match=r"model\.safetensors is a file; give the folder that holds"):
        resolve(tmp_path / "model.safetensors")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("revision", [None, "main", "v1", COMMIT])
def test_cached_model(cache: Path, revision: str | None) -> None:
    folder = resolve("org/name", revision=revision, cache_dir=str(cache), local_files_only=True)
    assert folder == cache / "models--org--name" / "snapshots" / COMMIT
    assert (folder / "config.json").read_text() == "{}"


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("name", "revision"), [("org/other", None), ("org/name", "v2"), ("gpt2", None)])
def test_not_cached_and_no_download_wanted(cache: Path, name: str, revision: str | None) -> None:
    complaint = f"{name} is no folder, the cache does not hold all of it, and local_files_only=True allows no download"
    with pytest.raises(FileNotFoundError, match=complaint):
        resolve(name, revision=revision, cache_dir=str(cache), local_files_only=True)


@pytest.mark.usefixtures("no_network")
def test_offline_by_environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # what HF_HUB_OFFLINE=1 sets when the library is imported
    assert resolve("org/name", cache_dir=str(cache)).name == COMMIT
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE allows no download; fetch it once with a connection"):
        resolve("org/other", cache_dir=str(cache))


def test_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    error = hub_error("LocalEntryNotFoundError", "Got: ConnectError")
    error.__cause__ = OSError("Connection refused")
    fail_with(monkeypatch, error)
    with pytest.raises(
        FileNotFoundError, match=r"and the hub could not be asked \(Connection refused\); fetch it once"
    ):
        resolve("org/name")


@pytest.mark.parametrize(
    ("error", "kind", "complaint"),
    [
        ("GatedRepoError", FileNotFoundError, "org/name is gated: accept its terms on its page, then log in with"),
        ("RepositoryNotFoundError", FileNotFoundError, "org/name is neither a folder nor a model on the hub"),
        ("RevisionNotFoundError", FileNotFoundError, "org/name has no revision 'v9' on the hub"),
        ("LocalTokenNotFoundError", ValueError, "token=True needs a saved token; run `hf auth login`"),
        (
            "HFValidationError",
            ValueError,
            "'org/name' is no folder and no name that the hub allows: 401 Client Error.$",
        ),
        ("HfHubHTTPError", OSError, "org/name could not be downloaded: HfHubHTTPError: 401 Client Error.$"),
    ],
)
def test_hub_errors_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: str, kind: type[Exception], complaint: str
) -> None:
    fail_with(monkeypatch, hub_error(error))
    with pytest.raises(kind, match=complaint):
        resolve("org/name", revision="v9")


@pytest.mark.parametrize(
    "error", [TimeoutError("read timed out"), OSError(28, "No space left"), RuntimeError("hm\nmore")]
)
def test_broken_download_says_why(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    fail_with(monkeypatch, error)
    with pytest.raises(OSError, match=f"org/name could not be downloaded: {type(error).__name__}: .*(out|left|hm)$"):
        resolve("org/name")


def test_interrupt_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        resolve("org/name")


@pytest.mark.parametrize("name", ["org/na--me", "org/name.", "org/" + "x" * 200])
@pytest.mark.usefixtures("no_network")
def test_names_that_the_library_refuses(name: str) -> None:
    with pytest.raises(ValueError, match="is no folder and no name that the hub allows"):
        resolve(name)


def test_arguments_reach_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    def download(name: str, **kwargs: object) -> str:
        seen.update(kwargs, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve("org/name", revision="v1", token="t", cache_dir="c", local_files_only=False) == tmp_path
    patterns = {"allow_patterns": list(WANTED), "ignore_patterns": list(UNWANTED)}
    assert seen == patterns | {
        "name": "org/name",
        "revision": "v1",
        "token": "t",
        "cache_dir": "c",
        "local_files_only": False,
    }


def test_bare_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As sentence-transformers takes them: its own models first, then a model without an organisation."""
    there = {"sentence-transformers/all-MiniLM-L6-v2", "bert-base-uncased"}
    asked = []

    def download(name: str, **kwargs: object) -> str:
        asked.append(name)
        if name not in there:
            raise hub_error("RepositoryNotFoundError")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve("all-MiniLM-L6-v2") == resolve("bert-base-uncased") == tmp_path
    assert asked == [
        "sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/bert-base-uncased", "bert-base-uncased"
    ]  # fmt: skip
    with pytest.raises(FileNotFoundError, match="sentence-transformers/no-such is neither a folder nor a model"):
        resolve("no-such")


def is_fetched(file: str) -> bool:
    return any(fnmatchcase(file, want) for want in WANTED) and not any(fnmatchcase(file, skip) for skip in UNWANTED)


def test_all_that_a_checkpoint_needs_is_fetched(golden: Path) -> None:
    for folder in (golden / "bert-minilm", golden / "xlmr-absolute"):
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert {file for file in files if not is_fetched(file)} == {"cases.json", "expected.npz"}
    for file in (
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "2_Dense/model.safetensors",
        "2_Dense/config.json",
        "sentence_roberta_config.json",
        "adapters/retrieval/adapter_config.json",
        "adapters/adapter_model.safetensors",
        "artifact.metadata",
        "spiece.model",
        "0_Transformer/tokenizer.json",
        "0_Transformer/tokenizer_config.json",
        "0_Transformer/sentence_bert_config.json",
        "0_Transformer/vocab.txt",
        "0_Transformer/merges.txt",
        "0_Transformer/special_tokens_map.json",
        "0_Transformer/model.safetensors.index.json",
        "preprocessor_config.json",
        "query_0_SparseStaticEmbedding/tokenizer.json",
        "router_config.json",
    ):
        assert is_fetched(file), file


@pytest.mark.parametrize(
    "file",
    [
        "pytorch_model.bin",
        "2_Dense/pytorch_model.bin",
        "modeling_custom.py",
        "custom_st.py",
        "adapters/run.py",
        "adapters/retrieval/adapter_model.bin",
        "onnx/model.onnx",
        "onnx/config.json",
        "openvino/openvino_model.xml",
        "openvino/model.safetensors",
        "colbert_linear.pt",
        "tf_model.h5",
        "flax_model.msgpack",
        "vocab.py",
        "model.safetensors.py",
    ],
)
def test_no_code_pickle_or_other_runtime_is_fetched(file: str) -> None:
    assert not is_fetched(file)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("asks", [False, True])
def test_a_cache_that_is_read_only(cache: Path, golden: Path, monkeypatch: pytest.MonkeyPatch, asks: bool) -> None:
    """As containers mount it: a model is opened, used and told apart, and nothing is written."""
    snapshot = cache / "models--org--name" / "snapshots" / COMMIT
    (snapshot / "config.json").unlink()
    shutil.copytree(golden / "bert-minilm", snapshot, dirs_exist_ok=True)
    if asks:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    everything = sorted(cache.rglob("*"))
    before = [(path, path.lstat().st_mtime_ns) for path in everything]
    for path in [cache, *everything]:
        path.chmod(0o555 if path.is_dir() else 0o444)  # who may do everything is held by `before` alone
    try:
        encoder = Encoder("org/name", cache_dir=cache, local_files_only=not asks)
        assert encoder.encode("a").shape == (64,) and len(encoder.fingerprint) == 32
        assert [(path, path.lstat().st_mtime_ns) for path in sorted(cache.rglob("*"))] == before
    finally:
        for path in [cache, *everything]:
            path.chmod(0o755 if path.is_dir() else 0o644)

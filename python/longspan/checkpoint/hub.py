"""From the name that a user gives to the folder that holds the checkpoint: a local one, or one fetched from the hub."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

# What longspan reads, in the repository's root or in any folder, as `*` matches "/" too: no code and no pickles.
WANTED: Final = (
    "config.json",
    "*/config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "*tokenizer.json",
    "*tokenizer_config.json",
    "*special_tokens_map.json",
    "*vocab.txt",
    "*vocab.json",
    "*merges.txt",
    "*.model",
    "modules.json",
    "*router_config.json",
    "*preprocessor_config.json",
    "*processor_config.json",
    "*chat_template.json*",
    "config_sentence_transformers.json",
    "*sentence_*_config.json",
    "artifact.metadata",
    "adapters/*.json",
    "README.md",
)
UNWANTED: Final = ("onnx/*", "openvino/*")  # the same model again, for other runtimes

BARE_NAMES: Final = "sentence-transformers"  # whose models are known without it, as in that library
HUB_NAME: Final = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", re.ASCII)


def resolve(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Path:
    """The folder that holds the checkpoint; an existing local folder wins over a model of the same name on the hub.

    Args:
        name_or_path: a folder, or "org/name" on the Hugging Face hub, or the bare name of one of sentence-transformers'
            models there; the hub's cache, mirror and offline settings hold (HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE).
            Anything that is no string is a path and never asks the hub.
        revision: branch, tag or commit on the hub; None is its default branch. It says nothing about a local folder.
        token: of the hub; True requires the saved one, None uses it if there is one, False never does.
        cache_dir: where downloads are kept; None is the library's own place.
        local_files_only: take what the cache holds and ask nobody.

    Raises: TypeError, ValueError: no name, a file's, or a name or token that the hub cannot take. FileNotFoundError: no
        such folder, model or revision, or none that may be had. OSError: the download broke off.
    """
    text = os.fspath(name_or_path) if isinstance(name_or_path, os.PathLike) else name_or_path
    if not isinstance(text, str):
        raise TypeError(f"name_or_path must be a str or a path of str, got {type(text).__name__}")
    if not text.strip():
        raise ValueError('name_or_path is empty; give a folder, or a model\'s name such as "org/name"')
    local = os.path.expanduser(text)
    if os.path.isdir(local):
        return Path(local)
    if os.path.exists(local):
        raise ValueError(f"{text} is a file; give the folder that holds the model's config.json")
    if not isinstance(name_or_path, str) or not HUB_NAME.fullmatch(text):
        raise FileNotFoundError(f"there is no folder {text!r}, and a model on the hub would be named org/name")
    if "/" in text:
        return _download(text, revision, token, cache_dir, local_files_only)
    try:
        return _download(f"{BARE_NAMES}/{text}", revision, token, cache_dir, local_files_only)
    except FileNotFoundError as error:
        try:
            return _download(text, revision, token, cache_dir, local_files_only)
        except FileNotFoundError:
            raise error from None


def _download(
    name: str,
    revision: str | None,
    token: str | bool | None,
    cache_dir: str | os.PathLike[str] | None,
    local_files_only: bool,
) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                token=token,
                cache_dir=None if cache_dir is None else os.fspath(cache_dir),
                local_files_only=local_files_only,
                allow_patterns=list(WANTED),
                ignore_patterns=list(UNWANTED),
            )
        )
    except errors.GatedRepoError as error:  # a kind of RepositoryNotFoundError, so it comes first
        raise FileNotFoundError(
            f"{name} is gated: accept its terms on its page, then log in with `hf auth login` or pass token="
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{name} is neither a folder nor a model on the hub that you may see; a private one needs token="
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(f"{name} has no revision {revision!r} on the hub") from error
    except errors.LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"{name} is no folder, the cache does not hold all of it, and {_why_offline(error, local_files_only)}; "
            "fetch it once with a connection, or give a folder"
        ) from error
    except errors.LocalTokenNotFoundError as error:
        raise ValueError("token=True needs a saved token; run `hf auth login`, or pass the token itself") from error
    except errors.HFValidationError as error:
        raise ValueError(f"{name!r} is no folder and no name that the hub allows: {_first_line(error)}") from error
    except Exception as error:  # whatever the HTTP library of the day, or the disk, had to say
        raise OSError(f"{name} could not be downloaded: {type(error).__name__}: {_first_line(error)}") from error


def _why_offline(error: Exception, local_files_only: bool) -> str:
    from huggingface_hub import constants

    if local_files_only:
        return "local_files_only=True allows no download"
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE allows no download"
    return f"the hub could not be asked ({_first_line(error.__cause__ or error)})"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__

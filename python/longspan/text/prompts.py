"""Which prompt goes before a text, by the rules of sentence-transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NoReturn

DOCUMENT_NAMES: Final = ("document", "passage", "corpus")


class ModelPrompts(dict[str, str]):
    """An open model's prompts by name. They are in its fingerprint, and a pickle of the model does not carry them, so
    they stay as they were read; a call takes another one by `prompt=`."""

    def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise TypeError("a model's prompts stay as its files have them; give a call prompt=, or write the files")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[object, ...]:
        """A copy is the caller's own."""
        return dict, (dict(self),)


def resolve_prompt(
    prompts: Mapping[str, str], *, prompt_name: str | None, prompt: str | None, default_prompt_name: str | None
) -> str:
    """The text to put before every text; "" for none.

    `prompt` wins over `prompt_name`, which wins over `default_prompt_name`; `prompt=""` means no prompt at all.

    Args:
        prompts: the model's own prompts by name.
        prompt_name: one of `prompts`.
        prompt: the prompt itself.
        default_prompt_name: what the checkpoint uses where the caller says nothing; one of `prompts`.
    Raises: TypeError, `prompt` or a name is no str; ValueError, a name is not in `prompts`.
    """
    if prompt is not None:
        if not isinstance(prompt, str):
            raise TypeError(f"prompt must be a str, got {type(prompt).__name__}")
        return prompt
    argument = "prompt_name" if prompt_name is not None else "default_prompt_name"
    name = prompt_name if prompt_name is not None else default_prompt_name
    if name is None:
        return ""
    if not isinstance(name, str):
        raise TypeError(f"{argument} must be a str, got {type(name).__name__}; prompt may be a list, one a text")
    if name not in prompts:
        known = ", ".join(map(repr, prompts)) or "it has none"
        raise ValueError(f"{argument} must be one of the model's prompts ({known}), got {name!r}")
    return prompts[name]


def query_prompt_name(prompts: Mapping[str, str]) -> str | None:
    """The name of the prompt for queries; None: use no prompt, not the default one either."""
    return "query" if "query" in prompts else None


def document_prompt_name(prompts: Mapping[str, str]) -> str | None:
    """The name of the prompt for documents; None: use no prompt, not the default one either."""
    return next((name for name in DOCUMENT_NAMES if name in prompts), None)

"""Which adapter and prompt of the model a client's task is; how tasks are spelled says `text.task_names`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from longspan.serve.errors import RequestError
from longspan.text.task_names import CODE, TaskModel, read_spelling, spellings
from longspan.text.tasks import Role, adapter_numbers, role_prompts, role_task, text_prompts

WITHOUT_TASK: Final = "text-matching"  # of models that must have one, as the hosted API has it
CODE_DEFAULT: Final = f"{CODE}_query"


class TextEncoderLike(TaskModel, Protocol):
    """What is needed of an `Encoder` here."""

    @property
    def default_prompt_name(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Meaning:
    """Adapter and prompt of a text."""

    task: str | None = None  # as `Encoder.encode_ids` takes it
    prompt: str = ""


def meaning(
    encoder: TextEncoderLike,
    spelled: str | None,
    *,
    prompt_name: str | None = None,
    prompt: str | None = None,
    role: Role | None = None,
    field: str = "task",
) -> Meaning:
    """Adapter and prompt for a task as a client spells it.

    Args:
        spelled: the task, or None for what the model does without one.
        prompt_name: one of the model's prompts; it wins over the task's.
        prompt: the prompt itself; it wins over both.
        role: of the texts, where something else than the task says it; the task wins.
        field: where the task stood, for messages.
    Raises: RequestError, the model has no such task or prompt.
    """
    task, said, named = _task_role_prompt(encoder, spelled, field)
    role = said or role
    if spelled is None and role is not None and f"{CODE}_{role}" in encoder.prompts:
        named = f"{CODE}_{role}"
    if prompt_name is not None:
        check_prompt_name(prompt_name, encoder.prompts)
        named = prompt_name
    if role is not None:
        own = role_task(task, role, encoder.spec.tasks)
        task = own if own is None or isinstance(own, str) else None
    if task is None and encoder.spec.tasks.is_required:
        task = WITHOUT_TASK if WITHOUT_TASK in encoder.tasks else encoder.tasks[0]
    try:
        adapter_numbers(task, 1, encoder.tasks, encoder.spec.tasks)
    except ValueError as error:
        raise RequestError("validation", str(error), field=field, value=spelled, status=400) from None
    return Meaning(task, _prompt(encoder, task, role, named, prompt))


def check_prompt_name(name: str, prompts: Mapping[str, str]) -> None:
    """Raises: RequestError, the model has no prompt of this name."""
    if name not in prompts:
        known = ", ".join(map(repr, prompts)) or "it has none"
        message = f"prompt_name must be one of the model's prompts ({known}), got {name!r}"
        raise RequestError("validation", message, field="prompt_name", value=name, status=400)


def _prompt(
    encoder: TextEncoderLike, task: str | None, role: Role | None, named: str | None, prompt: str | None
) -> str:
    if prompt is not None:
        return prompt
    prompts, spec = encoder.prompts, encoder.spec.tasks
    if named is not None:
        return prompts[named]
    if role is not None:
        return role_prompts([task], role, prompts, spec)[0]
    default = encoder.default_prompt_name
    return text_prompts([task], prompts, spec, prompt_name=None, prompt=None, default_prompt_name=default)[0]


def _task_role_prompt(
    encoder: TextEncoderLike, spelled: str | None, field: str
) -> tuple[str | None, Role | None, str | None]:
    """The adapter, the role and the prompt's name that the spelling says."""
    own, prompts = encoder.tasks, encoder.prompts
    if spelled is None:
        return None, None, CODE_DEFAULT if CODE_DEFAULT in prompts else None
    said = read_spelling(spelled, encoder)
    if said is not None:
        return said.adapter, said.role, said.prompt_name
    if not prompts and not own:
        return None, None, None  # a model without tasks takes any
    known = ", ".join(map(repr, spellings(encoder)))
    raise RequestError(
        "validation", f"{field} must be one of {known}, got {spelled!r}", field=field, value=spelled, status=400
    )

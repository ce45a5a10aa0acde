"""What clients call a task, and which adapter and prompt of the model that is.

The hosted API's spellings: an adapter's own name (`retrieval.query`, `text-matching`), an adapter and a role
(`retrieval.query` where the adapter is `retrieval`), a prompt and a role (`nl2code.query`), or a role alone (`query`,
`search_document`), as `input_type` has it in Cohere's and Voyage's APIs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from longspan.models.spec import ModelSpec
from longspan.serve.errors import RequestError
from longspan.text.tasks import BASE_TASK, Role, adapter_numbers, role_prompts, role_task, text_prompts

ROLES: Final[Mapping[str, Role]] = {
    "query": "query",
    "search_query": "query",
    "retrieval.query": "query",
    "document": "document",
    "passage": "document",
    "search_document": "document",
    "retrieval.passage": "document",
    "retrieval.document": "document",
}
# What other models take for a task; where a model has none of it, it changes nothing.
KNOWN: Final = frozenset(
    {"retrieval", "text-matching", "classification", "clustering", "separation", "code", "code.query", "code.passage"}
)
TWINS: Final = {"clustering": "separation", "separation": "clustering"}
WITHOUT_TASK: Final = "text-matching"  # of models that must have one, as the hosted API has it
CODE_DEFAULT: Final = "nl2code_query"


class TextEncoderLike(Protocol):
    """What is needed of an `Encoder` here."""

    @property
    def tasks(self) -> tuple[str, ...]: ...
    @property
    def prompts(self) -> dict[str, str]: ...
    @property
    def default_prompt_name(self) -> str | None: ...
    @property
    def spec(self) -> ModelSpec: ...


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
    if spelled is None and role is not None and f"nl2code_{role}" in encoder.prompts:
        named = f"nl2code_{role}"
    if prompt_name is not None:
        named = prompt_name
        if named not in encoder.prompts:
            known = ", ".join(map(repr, encoder.prompts)) or "it has none"
            message = f"prompt_name must be one of the model's prompts ({known}), got {named!r}"
            raise RequestError("validation", message, field="prompt_name", value=named, status=400)
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


def _task_role_prompt(  # noqa: PLR0911  (one line a spelling)
    encoder: TextEncoderLike, spelled: str | None, field: str
) -> tuple[str | None, Role | None, str | None]:
    """The adapter, the role and the prompt's name that the spelling says."""
    own, prompts, spec = encoder.tasks, encoder.prompts, encoder.spec.tasks
    if spelled is None:
        return None, None, CODE_DEFAULT if CODE_DEFAULT in prompts else None
    if spelled in own:
        roles: list[Role] = [] if spec.query == spec.document else ["query", "document"]
        of_role = [role for role in roles if spelled == (spec.query if role == "query" else spec.document)]
        return spelled, of_role[0] if of_role else None, None
    if spelled == BASE_TASK:
        return BASE_TASK, None, None
    if TWINS.get(spelled) in own:
        return TWINS[spelled], None, None
    base, _, ending = spelled.rpartition(".")
    if base in own and ending in ROLES:
        return base, ROLES[ending], None
    if base and ending in ROLES and f"{base}_{ROLES[ending]}" in prompts:
        return None, None, f"{base}_{ROLES[ending]}"
    if spelled in ROLES:
        role = ROLES[spelled]
        of_code = f"nl2code_{role}"
        return None, role, of_code if of_code in prompts and role not in prompts else None
    if spelled in prompts:
        return None, None, spelled
    if not prompts and not own:
        return None, None, None
    if spelled in KNOWN and not own:
        return None, None, None
    known = ", ".join(map(repr, spellings(encoder)))
    raise RequestError(
        "validation", f"{field} must be one of {known}, got {spelled!r}", field=field, value=spelled, status=400
    )


def spellings(encoder: TextEncoderLike) -> Sequence[str]:
    """The tasks that clients may ask for, as /v1/models lists them."""
    own, prompts, spec = encoder.tasks, encoder.prompts, encoder.spec.tasks
    found = [*own]
    if spec.query is not None and spec.query == spec.document:
        found += [f"{spec.query}.query", f"{spec.query}.passage"]
    for name in prompts:
        base, _, role = name.rpartition("_")
        spelled = f"{base}.{'query' if role == 'query' else 'passage'}" if base and role in ROLES else name
        if spelled not in found:
            found.append(spelled)
    return found

"""What people call a task, and which adapter and prompt of the model that is.

The hosted API's spellings: an adapter's own name (`retrieval.query`, `text-matching`), an adapter and a role
(`retrieval.query` where the adapter is `retrieval`), a prompt and a role (`nl2code.query`), or a role alone (`query`,
`search_document`), as `input_type` has it in Cohere's and Voyage's APIs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from longspan.arguments import nearest
from longspan.models.spec import ModelSpec, TaskSpec
from longspan.text.tasks import BASE_TASK, Role, Task, role_prompts, spread, text_prompts

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
CODE: Final = "nl2code"  # the first of the tasks of models for code, and the hosted API's default of them
CODE_TASKS: Final = frozenset({CODE, "qa", "code2code", "code2nl", "code2completion"})
# What some model takes for a task; where a model has no tasks at all, it changes nothing.
KNOWN: Final = CODE_TASKS | {"retrieval", "text-matching", "classification", "clustering", "separation", "code"}
TWINS: Final = {"clustering": "separation", "separation": "clustering"}


class TaskModel(Protocol):
    """What is needed of a model here."""

    @property
    def tasks(self) -> tuple[str, ...]: ...
    @property
    def prompts(self) -> dict[str, str]: ...
    @property
    def spec(self) -> ModelSpec: ...


class PromptedModel(TaskModel, Protocol):
    """The same, and the prompt of texts for which nobody says one."""

    @property
    def default_prompt_name(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Spelled:
    """What a spelling says: an adapter, a role, the name of a prompt; None for what it leaves open."""

    adapter: str | None = None
    role: Role | None = None
    prompt_name: str | None = None


def read_spelling(spelled: str, model: TaskModel) -> Spelled | None:  # noqa: PLR0911  (one line a spelling)
    """What the spelling says of this model; None where it says nothing that is known."""
    own, prompts, spec = model.tasks, model.prompts, model.spec.tasks
    if spelled in own:
        sides: list[Role] = [] if spec.query == spec.document else ["query", "document"]
        said = [side for side in sides if spelled == (spec.query if side == "query" else spec.document)]
        return Spelled(spelled, said[0] if said else None)
    if spelled == BASE_TASK:
        return Spelled(BASE_TASK)
    if (twin := TWINS.get(spelled)) in own:
        return Spelled(twin)
    base, _, ending = spelled.rpartition(".")
    if base in own and ending in ROLES:
        return Spelled(base, ROLES[ending])
    if base and ending in ROLES and (name := _sided(base, ROLES[ending], prompts)):
        return Spelled(prompt_name=name)
    if spelled in ROLES:
        said_role = ROLES[spelled]
        plain = said_role in prompts
        return Spelled(role=said_role, prompt_name=None if plain else _sided(CODE, said_role, prompts))
    if spelled in prompts:
        return Spelled(prompt_name=spelled)
    folded = [name for name in prompts if name.lower() == spelled.lower()]
    if folded:
        return Spelled(prompt_name=folded[0])
    if not own and spelled in KNOWN:
        return Spelled()
    if not own and base in KNOWN and ending in ROLES:
        return Spelled(role=ROLES[ending])
    return None


def read_tasks(task: Task, num_texts: int, model: TaskModel, role: Role | None = None) -> tuple[Task, list[str | None]]:
    """`task` by the adapters' own names, as `adapter_numbers` takes it; and for each text the prompt that its task
    stands for, None where it stands for none.

    Args:
        role: of the texts; None where the caller leaves it open. It gives a text without a task the model's own.
    Raises: ValueError, a name is none that the model knows, or the list has another length.
    """
    if task is None or isinstance(task, str):
        adapter, prompt = _read(task, model, role)
        return adapter, [prompt] * num_texts
    names = spread(task, num_texts)
    read = {name: _read(name, model, role) for name in set(names)}
    return [read[name][0] for name in names], [read[name][1] for name in names]


def tasks_and_prompts(
    task: Task, num_texts: int, model: PromptedModel, *, prompt_name: str | None, prompt: str | Sequence[str] | None
) -> tuple[Task, list[str]]:
    """Of `encode`: `task` by the adapters' own names, and every text's prompt. One that is said wins over the one that
    a text's task stands for, and that over the model's default.

    Raises: TypeError or ValueError, as `read_tasks` and `text_prompts`.
    """
    task, named = read_tasks(task, num_texts, model)
    prompts = text_prompts(
        spread(task, num_texts),
        model.prompts,
        model.spec.tasks,
        prompt_name=prompt_name,
        prompt=prompt,
        default_prompt_name=model.default_prompt_name,
    )
    return task, prompts if prompt is not None or prompt_name is not None else with_named(prompts, named)


def role_tasks_and_prompts(task: Task, num_texts: int, model: TaskModel, role: Role) -> tuple[Task, list[str]]:
    """The same of `encode_query` and `encode_document`, where no prompt is said.

    Raises: ValueError, as `read_tasks`.
    """
    task, named = read_tasks(task, num_texts, model, role)
    prompts = role_prompts(spread(task, num_texts), role, model.prompts, model.spec.tasks)
    return task, with_named(prompts, named)


def with_named(prompts: Sequence[str], named: Sequence[str | None]) -> list[str]:
    """`prompts`, but for texts whose task stands for one of its own."""
    return [prompt if own is None else own for prompt, own in zip(prompts, named, strict=True)]


def spellings(model: TaskModel) -> Sequence[str]:
    """The tasks that may be asked for, as the server lists them."""
    own, prompts, spec = model.tasks, model.prompts, model.spec.tasks
    found = [*own]
    if spec.query is not None and spec.query == spec.document:
        found += [f"{spec.query}.query", f"{spec.query}.passage"]
    for name in prompts:
        base, _, role = name.rpartition("_")
        spelled = f"{base}.{'query' if role == 'query' else 'passage'}" if base and role in ROLES else name
        if spelled not in found:
            found.append(spelled)
    return found


def _read(name: str | None, model: TaskModel, role: Role | None) -> tuple[str | None, str | None]:
    """The adapter and the prompt."""
    spec = model.spec.tasks
    if name is None:
        return _own(role, spec), None
    if name in model.tasks or name == BASE_TASK:
        return name, None  # whose prompt is the caller's choice, as sentence-transformers has it
    said = (_side_of(name, model, role) or read_spelling(name, model)) if isinstance(name, str) else None
    if said is None:
        raise ValueError(_unknown(name, model))
    adapter = said.adapter if said.adapter is not None else _own(said.role or role, spec)
    if said.prompt_name is not None:
        return adapter, model.prompts[said.prompt_name]
    if said.role is None:
        return adapter, None
    return adapter, role_prompts([adapter], said.role, model.prompts, spec)[0]


def _side_of(name: str, model: TaskModel, role: Role | None) -> Spelled | None:
    """The side that texts of this role take of a task with two, such as `nl2code`. Of prompts it is that of queries
    where nobody says; of adapters it may not be left open."""
    if prompt := _sided(name, role or "query", model.prompts):
        return Spelled(prompt_name=prompt)
    sided = f"{name}.{'query' if role == 'query' else 'passage'}"
    return Spelled(sided) if role is not None and sided in model.tasks else None


def _own(role: Role | None, spec: TaskSpec) -> str | None:
    return None if role is None else spec.query if role == "query" else spec.document


def _sided(base: str, role: Role, prompts: Mapping[str, str]) -> str | None:
    """The name of the prompt of that side, such as nl2code_query."""
    words = ("query",) if role == "query" else ("document", "passage")
    return next((name for word in words if (name := f"{base}_{word}") in prompts), None)


def _unknown(name: object, model: TaskModel) -> str:
    known = [*spellings(model), BASE_TASK]
    or_none = "one of" if model.spec.tasks.is_required else "None or one of"
    near = nearest(name, known) if isinstance(name, str) else None
    hint = f"; did you mean {near!r}?" if near else ""
    return f"encode: task must be {or_none} {', '.join(map(repr, known))}, got {name!r}{hint}"

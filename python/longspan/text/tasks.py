"""Which adapter and which prompt each text takes, from what the caller says and what the model was published with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Final, Literal

from longspan.models.spec import TaskSpec
from longspan.text.prompts import document_prompt_name, query_prompt_name, resolve_prompt

Task = str | Sequence[str | None] | None
Role = Literal["query", "document"]

BASE_TASK: Final = "base"  # no adapter
NO_ADAPTER: Final = -1


def spread(task: Task, num_texts: int) -> list[str | None]:
    """The task of every text."""
    if task is None or isinstance(task, str):
        return [task] * num_texts
    if isinstance(task, bytes | Set | Mapping) or not isinstance(task, Iterable):  # a set has no order
        raise TypeError(f"encode: task must be None, a name or a list of them, got {type(task).__name__}")
    tasks = list(task)
    if len(tasks) != num_texts:
        raise ValueError(f"encode: task must be one name or {num_texts}, one a text; got {len(tasks)}")
    return tasks


def adapter_numbers(task: Task, num_texts: int, names: Sequence[str], spec: TaskSpec) -> list[int]:
    """The adapter of every text: its task's place in `names`, -1 for none.

    Raises: ValueError, a task is not in `names`, or is None and the model was published for use with one; even where
        there is no text.
    """
    is_one = task is None or isinstance(task, str)
    tasks = spread(task, max(num_texts, 1) if is_one else num_texts)
    numbers: dict[str | None, int] = {name: number for number, name in enumerate(names)}
    numbers[BASE_TASK] = NO_ADAPTER
    if not spec.is_required:
        numbers[None] = NO_ADAPTER if spec.default is None else numbers[spec.default]
    for name in tasks:
        if name not in numbers:
            known = ", ".join(map(repr, (*names, BASE_TASK)))
            or_none = "one of" if spec.is_required else "None or one of"
            has_roles = name is None and spec.query is not None and spec.document is not None
            instead = "; encode_query and encode_document (in the shell --query, --document) choose their own"
            raise ValueError(f"encode: task must be {or_none} {known}, got {name!r}{instead if has_roles else ''}")
    return [numbers[name] for name in tasks][:num_texts]


def check_new_task(name: object, tasks: Sequence[str]) -> None:
    """ValueError unless `name`, of an adapter to be loaded, is a str that none of `tasks` has."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"load_adapter: name must be a str that is not empty, got {name!r}")
    if name in (BASE_TASK, *tasks):
        raise ValueError(f"load_adapter: there is a task {name!r} already; choose another name")


def role_task(task: Task, role: Role, spec: TaskSpec) -> Task:
    """`task`, with the model's own task for the role where it says none."""
    own = spec.query if role == "query" else spec.document
    if task is None or isinstance(task, str):
        return own if task is None else task
    return [own if name is None else name for name in task]


def role_prompts(tasks: Sequence[str | None], role: Role, prompts: Mapping[str, str], spec: TaskSpec) -> list[str]:
    """The prompt of every text of `encode_query` and `encode_document`: the task's own, or else the role's; a model's
    default prompt is for `encode`."""
    name, own = query_prompt_name(prompts), spec.query
    if role == "document":
        name, own = document_prompt_name(prompts), spec.document
    if name is None and own is not None and own in prompts:
        name = own
    fallback = "" if name is None else prompts[name]
    chosen = [fallback if task is None else prompts.get(task, fallback) for task in tasks]
    return _fixed(chosen, tasks, prompts, spec)


def text_prompts(
    tasks: Sequence[str | None],
    prompts: Mapping[str, str],
    spec: TaskSpec,
    *,
    prompt_name: str | None,
    prompt: str | Sequence[str] | None,
    default_prompt_name: str | None,
) -> list[str]:
    """The prompt of every text of `encode`, by the rules of `resolve_prompt`; a list holds one a text.

    Raises: TypeError or ValueError, as `resolve_prompt`, or a list has another length.
    """
    if prompt is None or isinstance(prompt, str):
        own = resolve_prompt(prompts, prompt_name=prompt_name, prompt=prompt, default_prompt_name=default_prompt_name)
        chosen = [own] * len(tasks)
        return chosen if prompt is not None else _fixed(chosen, tasks, prompts, spec)
    if not isinstance(prompt, Sequence):
        raise TypeError(f"prompt must be a str or a list of them, got {type(prompt).__name__}")
    if len(prompt) != len(tasks):
        raise ValueError(f"encode: prompt must be one str or {len(tasks)}, one a text; got {len(prompt)}")
    return list(prompt)


def _fixed(chosen: list[str], tasks: Sequence[str | None], prompts: Mapping[str, str], spec: TaskSpec) -> list[str]:
    """`chosen`, but for texts of tasks that always take one and the same prompt."""
    fixed = {task: prompts[name] for task, name in spec.fixed_prompts if name in prompts}
    return [prompt if task is None else fixed.get(task, prompt) for prompt, task in zip(chosen, tasks, strict=True)]

"""What made an output: the facts that its file carries, so that its vectors can be told from another model's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from longspan import __version__
from longspan.cli.embedding.stream import Meaning
from longspan.text.task_names import role_tasks_and_prompts, tasks_and_prompts
from longspan.text.tasks import Role, Task, spread

if TYPE_CHECKING:
    from longspan.encoder import Encoder
    from longspan.vectors.quantize import Precision


class Kept(Meaning, Protocol):
    """The same, with what is written of them."""

    @property
    def precision(self) -> Precision: ...


def provenance(encoder: Encoder, options: Kept, role: Role | None) -> dict[str, object]:
    """The facts, as JSON has them.

    model: what was named. revision: the commit, of a model that came from the hub. fingerprint: `Encoder.fingerprint`.
    dtype: what products were computed in. longspan: our version. task, prompt: what the texts were embedded with.
    truncate_dim, normalize, precision: what became of their vectors.
    """
    task: Task = options.task
    says_none = options.prompt is None and options.prompt_name is None
    if role is not None:
        task, [prompt] = role_tasks_and_prompts(task, 1, encoder, role)
    if role is None or not says_none:
        said = {"prompt_name": options.prompt_name, "prompt": options.prompt}
        task, [prompt] = tasks_and_prompts(task, 1, encoder, **said)
    return {
        "longspan": __version__,
        "model": encoder.name,
        "revision": encoder.revision,
        "fingerprint": encoder.fingerprint,
        "dtype": encoder.dtype,
        "task": spread(task, 1)[0] or encoder.spec.tasks.default,
        "prompt": prompt,
        "truncate_dim": options.truncate_dim,
        "normalize": encoder.normalizes if options.normalize is None else options.normalize,
        "precision": options.precision,
    }

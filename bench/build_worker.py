"""One build's side of `longspan bench compare`: holds a bench's cases and times a contestant when it is told to.

Lines of JSON on standard input, a line of JSON for each on standard output: builds.py is the other side.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path

from longspan import _core

from .case import Contest
from .command import add_options, setting_of
from .contest import PAUSE, WARM, check
from .timing import take_turns


def main(argv: list[str] | None = None) -> int:
    """Serves until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("module")
    add_options(parser)
    options = parser.parse_args(argv)
    found = Path(_core.__file__).parent
    if found != options.folder / "longspan":
        print(f"error: longspan of {options.folder} was asked for, and {found} was found", file=sys.stderr)
        return 2
    setting = setting_of(options)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a bench prints is no answer
    _core.set_num_threads(setting.threads)
    module = import_module(options.module)
    if not hasattr(module, "cases"):
        print(f"error: {options.module} is not made of cases and cannot be run in turn", file=sys.stderr)
        return 2
    cases = {case.name: case for case in module.cases(setting) if setting.wants(case)}
    contest: Contest | None = None
    told: set[str] = set()
    for line in sys.stdin:
        asked = json.loads(line)
        answer: object
        if asked["do"] == "list":
            answer = list(cases)
        elif asked["do"] == "build":
            contest, told = None, set()
            try:
                contest = cases[asked["case"]].build(setting)
                refused = {each.name: check(each, contest)[1] for each in contest.contestants if each.is_ours}
                answer = {
                    "timed": [name for name, why in refused.items() if why is None],
                    "refused": {name: why for name, why in refused.items() if why is not None},
                }
            except Exception as error:  # the other cases are still worth having
                said = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
                answer = {"timed": [], "refused": {"longspan": f"it could not be built: {said}"}}
        else:
            assert contest is not None
            name = asked["contestant"]
            run = next(each.run for each in contest.contestants if each.name == name)
            warm = 0.0 if name in told else WARM
            told.add(name)
            times = take_turns({name: run}, seconds=setting.seconds / setting.rounds, rounds=1, pause=PAUSE, warm=warm)
            answer = (times[name].rounds[0], min(times[name].calls))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

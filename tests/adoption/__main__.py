"""`make adoption`: every application through walks drawn by seed, some minutes.

    python -m tests.adoption --walks 3 --seed 7 [NAME ...]

The same seed takes the same steps.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from driver import Driven, Kind, driven
from table import ALL

STEPS = ("edit", "edit", "deploy", "deploy", "write", "kill", "rollback", "restart", "cut", "stop")
# What goes wrong around it.
STEPS += ("orphan", "behead", "lose", "interrupt", "abandon")


def walk(made: Driven, dice: random.Random, steps: int) -> None:
    """So many steps, drawn among those that are possible. Raises AssertionError with the steps taken."""
    taken = ["up"]
    made.dice = dice
    try:
        made.up()
        for _ in range(steps):
            step = dice.choice([one for one in STEPS if one != "rollback" or len(made.history) > 1])
            if step == "edit":
                name = dice.choice(list(made.edits))
                taken.append(f"edit {name}")
                made.edit(name)
                if made.edits[name].kind is Kind.START:
                    # Which of the processes that start meanwhile have read it is nobody's promise.
                    step = "restart"
            if step != "edit":
                taken.append(step)
                getattr(made, step)()
            made.check()
        made.down()
    except AssertionError as error:
        raise AssertionError(f"{made.app.name} after {', '.join(taken)}: {error}") from error


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(ALL))
    parser.add_argument("--walks", type=int, default=3)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    for number in range(options.walks):
        for name in options.names:
            app, dice = ALL[name], random.Random(f"{options.seed} {number} {name}")
            with tempfile.TemporaryDirectory(prefix="fissile-adoption-") as folder, driven(app, Path(folder)) as made:
                Path(folder).chmod(0o755)
                walk(made, dice, options.steps)
            print(f"{number + 1}/{options.walks} {name}: {options.steps} steps", flush=True)


if __name__ == "__main__":
    main()

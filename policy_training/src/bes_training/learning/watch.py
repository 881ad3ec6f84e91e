"""What a person sees of a long training: one bar for the whole, a line for the stage at work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn


class Watch:
    """Progress in simulated decisions. A stage that converges early jumps to its end."""

    def __init__(self, console: Console, total: int) -> None:
        columns = (
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._console = console
        self._progress = Progress(*columns, console=console)
        self._whole: TaskID = self._progress.add_task("training", total=total, note="")
        self._finished = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """One line that stays."""
        self._console.print(text, highlight=False)

    def skip(self, name: str, decisions: int) -> None:
        """A stage was finished by an earlier run."""
        self._finished += decisions
        self._progress.update(self._whole, completed=self._finished, description=name, note="resumed")

    @contextmanager
    def stage(self, name: str, decisions: int, simulated: int = 1) -> Iterator[Callable[[int, float], None]]:
        """A stage of ``decisions``; what it yields is told the decisions spent and the best validation loss.

        ``simulated``: how many simulated decisions each of them stands for; 1: they are simulated ones.
        """

        def report(spent: int, loss: float) -> None:
            note = f"validation {1.0 - loss:.4f}"
            done = self._finished + simulated * min(spent, decisions)
            self._progress.update(self._whole, completed=done, description=name, note=note)

        self._progress.update(self._whole, description=name, note="")
        if not self._console.is_terminal:  # a log shows no bar
            self.say(f"{name}: {decisions:,} {'simulated ' if simulated == 1 else ''}decisions")
        yield report
        self._finished += simulated * decisions
        self._progress.update(self._whole, completed=self._finished)

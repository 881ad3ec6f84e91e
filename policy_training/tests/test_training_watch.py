"""What a person reads of a training: which decisions are counted, and nothing of plotting libraries."""

import subprocess
import sys
from io import StringIO

from rich.console import Console

from bes_training.learning.watch import Watch


def test_a_log_says_which_decisions_a_stage_counts_and_progress_adds_up_in_simulated_ones() -> None:
    log = StringIO()
    with Watch(Console(file=log), 6_400) as watch:
        with watch.stage("rule Threshold", 3_200) as report:
            report(3_300, 0.5)  # a search ends with the generation that it began
        with watch.stage("seed 1: DQN", 100, 32) as report:
            report(50, 0.25)
            assert watch._progress.tasks[0].completed == 3_200 + 32 * 50
        assert watch._progress.finished
    lines = [line.strip() for line in log.getvalue().splitlines()]
    assert lines[:2] == ["rule Threshold: 3,200 simulated decisions", "seed 1: DQN: 100 decisions"]


def test_where_matplotlib_is_absent_as_in_the_training_image_nothing_warns_of_it() -> None:
    code = "import sys; sys.modules['matplotlib'] = None; import bes_training.evolution.search"
    line = [sys.executable, "-W", "error::UserWarning", "-c", code]
    said = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")

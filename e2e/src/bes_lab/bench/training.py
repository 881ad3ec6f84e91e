"""How long a whole training takes: `Auto` with one seed and every opponent tuned, as the resource asks for it."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bes_api.documents import the_service
from bes_api.scenario_of import scenario_of
from bes_api.service import Learner
from bes_lab.results import Record, Recorder
from bes_training.learning.command import train_into
from bes_training.learning.settings import settings_of

BAR_MINUTES = 12


def measure(name: str, file: Path, made_by: Recorder) -> list[Record]:
    """Train the sample in a folder that is thrown away."""
    service, profiles = the_service(file)
    asked = settings_of(service, threads=len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as folder:
        trained = train_into(
            scenario_of(service, profiles),
            replace(asked, learner=Learner.AUTO, seeds=(1,)),
            Path(folder),
            Console(stderr=True),
        )
    return [
        made_by.record(
            f"training.auto.{name}",
            f"Auto with its opponents tuned, one seed, {asked.decisions:,} DQN decisions ({name})",
            trained.seconds / 60,
            "minutes",
            f"<= {BAR_MINUTES}",
        )
    ]

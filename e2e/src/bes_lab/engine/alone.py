"""One replica of one model on a GPU of its own: what a pod emulates, for pods cannot share an emulated GPU."""

from bes_api.scenario import Scenario, ScenarioGPU
from bes_lab.errors import TargetError


def alone(scenario: Scenario, name: str) -> Scenario:
    """The scenario reduced to one replica of the model ``name``; tasks keep what it says of that model.

    Raises TargetError where the scenario has no such model.
    """
    models = {model.name: model for model in scenario.models}
    if name not in models:
        raise TargetError(f"--model {name}: no model of this scenario; it has {', '.join(models)}")
    model = models[name].model_copy(update={"placement": (0,), "min_replicas": 1})
    tasks = [
        task.model_copy(update={"quality": {each: task.quality[each] for each in task.quality if each == name}})
        for task in scenario.tasks
    ]
    return scenario.model_copy(update={"gpus": (ScenarioGPU(),), "models": (model,), "tasks": tuple(tasks)})

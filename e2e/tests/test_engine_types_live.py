"""A service whose models have engines of different types: the router reads each one's load figures in its own names."""

from pathlib import Path

import pytest
from lab_http import ask, complete, soon
from lab_scenarios import scenario

from bes_api.router_config import DeadlineAwarePolicy, DirectLoad
from bes_api.service import EngineType
from bes_lab.engine.process import EngineAddresses
from bes_lab.local.plan import Plan
from bes_lab.local.service import LocalService

ENGINES = {"small": EngineType.TEXT_GENERATION_INFERENCE, "large": EngineType.VLLM}


@pytest.mark.slow
def test_load_figures_of_both_types_are_known_and_both_answer_through_the_router(tmp_path: Path) -> None:
    rule = DeadlineAwarePolicy()
    plan = Plan("mixed", scenario(), rule, rule, DirectLoad(interval_seconds=0.2), tmp_path, engines=ENGINES)
    with LocalService(plan) as service:
        spoken = {engine.model: engine for engine in EngineAddresses.read(tmp_path / "gpu-0.json").engines}
        assert {model: engine.type for model, engine in spoken.items()} == ENGINES
        assert "tgi_queue_size" in ask(spoken["small"].port, "GET", "/metrics").body.decode()
        assert soon(lambda: known(service) == [1.0, 1.0])
        port = int(service.url.rpartition(":")[2])
        reply = complete(port, "hard", 16, 4)
        assert reply.status == 200
        for engine in spoken.values():  # whichever was not chosen has to answer now
            other = [each for each in spoken.values() if each != engine]
            assert ask(other[0].port, "POST", "/emulated/fault", {"kind": "busy"}).status == 200
            answered = complete(port, "hard", 16, 4)
            assert (answered.status, answered.headers["x-bes-model"]) == (200, engine.model)
            assert ask(other[0].port, "DELETE", "/emulated/fault").status == 200


def known(service: LocalService) -> list[float]:
    lines = [line for line in service.metrics().splitlines() if line.startswith("bes_router_load_figures_known{")]
    return [float(line.rpartition(" ")[2]) for line in lines]

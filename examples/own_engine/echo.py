"""Echo, the example's engine. The program beside this file is the source of each fact: echo_server.py."""

from bes_api.engines import vllm
from bes_api.engines.facts import EngineFacts, Metrics
from bes_api.scenario import Batching
from bes_api.service import EngineType

FACTS = EngineFacts(
    type=EngineType.ECHO,
    batching=Batching.PREFILL_FIRST,  # how the simulator and the emulated GPU batch for it
    prefill_token_budget=4096,
    source="it takes every prompt at once",
    metrics=Metrics("echo_running", "echo_waiting", "echo_finished_total", source="echo_server.py, do_GET"),
    errors=vllm.ERRORS,  # OpenAI-shaped, as most servers have them
    health_path="/ready",
    program=None,  # no image yet: nothing starts it in a container
)

"""The router that is bombarded: in this process, impatient, in front of engines that repeat what they are asked."""

import contextlib
from collections.abc import AsyncIterator

from bes_api.discovery_config import BackendAddress, StaticBackends
from bes_api.router_config import DirectLoad, Limits, RouterConfig, StaticPolicy
from bes_api.scenario import Batching, LatencyProfile, Scenario, ScenarioGPU, ScenarioModel, ScenarioTask
from bes_lab.faults.hostile.echo import Echo
from bes_router.decider import load
from bes_router.delivery import Delivered
from bes_router.policy.catalogue import catalogue_of
from bes_router.running import RunningRouter

ENGINES = 3
LIMITS = Limits(
    max_body_bytes=256 * 1024,
    head_timeout_seconds=0.4,
    body_timeout_seconds=0.4,
    idle_timeout_seconds=1.0,
    response_timeout_seconds=0.6,
    drain_timeout_seconds=1.0,
)


@contextlib.asynccontextmanager
async def router_before(seed: int) -> AsyncIterator[tuple[RunningRouter, list[Echo]]]:
    """A router at work in front of echoing engines; ``seed``: of their hostile answers."""
    engines = [Echo(seed) for _ in range(ENGINES)]
    for engine in engines:
        await engine.start()
    scenario = _scenario()
    config = RouterConfig(
        service="hostile",
        scenario=scenario,
        discovery=StaticBackends(
            backends=tuple(
                BackendAddress(
                    model="large", replica=i, address="127.0.0.1", port=engine.port, served_model="org/large"
                )
                for i, engine in enumerate(engines)
            )
        ),
        load=DirectLoad(interval_seconds=0.2),
        policy=StaticPolicy(model="large"),
        limits=LIMITS,
    )  # fmt: skip
    catalogue = catalogue_of(scenario)
    running = RunningRouter(Delivered(config, catalogue, load(config, catalogue, None)))
    await running.start()
    try:
        yield running, engines
    finally:
        await running.close()
        for engine in engines:
            await engine.stop()


def _scenario() -> Scenario:
    """One model on three GPUs, quick, with deadlines that leave time for every attempt."""
    latency = LatencyProfile(
        prefill_base_ms=1,
        prefill_per_token_ms=0.01,
        decode_base_ms=1,
        decode_per_sequence_ms=0.01,
        decode_per_context_token_ms=0.0001,
    )
    large = ScenarioModel(
        name="large",
        latency=latency,
        batching=Batching.PREFILL_FIRST,
        prefill_token_budget=4096,
        max_batch_size=64,
        kv_cache_tokens=60000,
        context_tokens=2048,
        placement=tuple(range(ENGINES)),
    )
    task = ScenarioTask(
        name="chatter",
        full_until_seconds=5.0,
        zero_from_seconds=5.0,
        quality={"large": 0.8},
        prompt_tokens=128,
        output_tokens=16,
    )
    return Scenario(
        gpus=tuple(ScenarioGPU() for _ in range(ENGINES)),
        models=(large,),
        tasks=(task,),
        default_task="chatter",
        max_in_flight=256,
    )

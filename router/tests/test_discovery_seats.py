"""Pods and the replicas that they are: stable, each taken once, and a node's pods together on one GPU."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from policy_scenarios import opt_scenario
from router_rig import scenario_of_rig

from bes_api.scenario import Scenario, ScenarioGPU
from bes_router.discovery.seats import Seating, Seats, seated
from bes_router.discovery.slices import Pod

SHARED = Scenario.model_validate(
    opt_scenario().model_dump()
    | {
        "gpus": [ScenarioGPU(group="a", interference=1.0).model_dump()] * len(opt_scenario().gpus),
    }
)
MODELS = [model.name for model in SHARED.models]
NOTHING: Seats = {}


def pod(name: str, node: str | None = None, *, ready: bool = True) -> Pod:
    return Pod(f"uid-{name}", name, "10.0.0.1", 8000, node, ready)


def gpu_of(model: str, seating: Seating, each: Pod, scenario: Scenario = SHARED) -> int:
    placement = next(found.placement for found in scenario.models if found.name == model)
    return placement[seating.seats[model, each.key]]


pods_with_nodes = st.dictionaries(
    st.sampled_from(MODELS),
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from([None, "n1", "n2", "n3", "n4", "n5"]), st.booleans()),
        max_size=8,
        unique_by=lambda each: each[0],
    ).map(lambda found: [pod(str(number), node, ready=ready) for number, node, ready in found]),
)


@given(st.lists(pods_with_nodes, min_size=1, max_size=4))
def test_whoever_comes_and_goes_a_replica_is_one_pods_and_none_stays_free_while_one_waits(
    turns: list[dict[str, list[Pod]]],
) -> None:
    before: Seats = {}
    for pods in turns:
        seating = seated(SHARED, pods, before)
        for model in SHARED.models:
            here = pods.get(model.name, [])
            seats = {
                each.key: seating.seats[model.name, each.key]
                for each in here
                if (model.name, each.key) in seating.seats
            }
            assert len(set(seats.values())) == len(seats) == min(len(here), model.max_replicas)
            assert all(0 <= replica < model.max_replicas for replica in seats.values())
            kept = {key: replica for key, replica in seats.items() if (model.name, key) in before}
            assert kept == {key: before[model.name, key] for key in kept}, "a pod keeps its replica"
            out = [each for each in here if each.key not in seats]
            seated_pods = [each for each in here if each.key in seats]
            assert all(each.ready for each in seated_pods) or not any(each.ready for each in out)
        assert len(seating.seats) + seating.waiting == sum(map(len, pods.values()))
        before = seating.seats


@given(st.permutations(range(len(SHARED.gpus))), st.permutations(["n1", "n2", "n3", "n4"]), st.booleans())
def test_a_node_for_each_gpu_is_found_whatever_the_order(order: list[int], nodes: list[str], one_by_one: bool) -> None:
    """Every node holds exactly what the scenario places on some GPU; they come at once or node by node."""
    gpus = len(SHARED.gpus)
    names = (nodes * gpus)[:gpus] if gpus <= len(nodes) else [f"n{gpu}" for gpu in range(gpus)]
    held = {
        node: [(model.name, pod(f"{model.name}-{i}", node)) for model in SHARED.models
               for i, at in enumerate(model.placement) if at == gpu]
        for node, gpu in zip(names, order, strict=True)
    }  # fmt: skip
    steps = [dict([each]) for each in held.items()] if one_by_one else [held]
    seating, present = Seating({}, 0, ()), list[tuple[str, Pod]]()
    for step in steps:
        present += [each for here in step.values() for each in here]
        pods = {name: [each for model, each in present if model == name] for name in MODELS}
        seating = seated(SHARED, pods, seating.seats)
    assert seating.guessed == ()
    for here in held.values():
        assert len({gpu_of(model, seating, each) for model, each in here}) <= 1


@given(st.permutations(range(4)), st.permutations(range(4)))
def test_a_model_that_comes_later_sits_where_its_nodes_do(first: list[int], then: list[int]) -> None:
    one, other = MODELS[:2]
    here, pods = Seating({}, 0, ()), {one: list[Pod](), other: list[Pod]()}
    for model, order in ((one, first), (other, then)):
        for node in order:
            pods[model].append(pod(f"{model}-{node}", f"n{node}"))
            here = seated(SHARED, pods, here.seats)
            assert here.guessed == ()
    at = {each.node: gpu_of(one, here, each) for each in pods[one]}
    assert {each.node: gpu_of(other, here, each) for each in pods[other]} == at


def test_a_node_that_holds_several_gpus_of_a_group_does_not_tell_them_apart_and_its_pods_take_them_in_order() -> None:
    model = SHARED.models[0]
    pods = {model.name: [pod(f"p{i}", "big") for i in range(model.max_replicas)]}
    seating = seated(SHARED, pods, NOTHING)
    assert seating.guessed == ("a",)
    assert [seating.seats[model.name, each.key] for each in pods[model.name]] == list(range(model.max_replicas))


def test_a_pod_that_comes_to_its_predecessors_node_sits_on_its_gpu() -> None:
    first = {name: [pod(f"{name}-{i}", f"n{i}") for i in range(4)] for name in MODELS}
    before = seated(SHARED, first, NOTHING)
    assert before.guessed == ()
    for gone in range(4):
        again = {
            name: [*pods[:gone], *pods[gone + 1 :], pod(f"{name}-new", f"n{gone}")] for name, pods in first.items()
        }
        after = seated(SHARED, again, before.seats)
        assert after.guessed == ()
        for name in MODELS:
            assert gpu_of(name, after, again[name][-1]) == gpu_of(name, before, first[name][gone])


def test_beyond_the_range_those_that_are_ready_come_first_and_who_waits_takes_the_next_free_replica() -> None:
    scenario = scenario_of_rig(replicas=2)
    old = [pod("a"), pod("b")]
    first = seated(scenario, {"large": old}, NOTHING)
    surge = seated(scenario, {"large": [*old, pod("c", ready=False)]}, first.seats)
    assert (surge.seats, surge.waiting) == (first.seats, 1)
    ready = seated(scenario, {"large": [*old, pod("c")]}, surge.seats)
    assert (ready.seats, ready.waiting) == (first.seats, 1), "who serves goes on"
    after = seated(scenario, {"large": [old[1], pod("c")]}, ready.seats)
    assert after.seats == {("large", "uid-b"): 1, ("large", "uid-c"): 0}
    broken = seated(scenario, {"large": [pod("b", ready=False), pod("c"), pod("d")]}, after.seats)
    assert broken.seats == {("large", "uid-c"): 0, ("large", "uid-d"): 1}, (
        "nobody who is ready waits for one who is not"
    )


def test_gpus_that_nobody_shares_are_told_apart_without_nodes() -> None:
    scenario = scenario_of_rig(replicas=3)
    seating = seated(scenario, {"small": [pod(str(i)) for i in range(3)]}, NOTHING)
    assert Counter(seating.seats.values()) == {0: 1, 1: 1, 2: 1}
    assert seating.guessed == ()


def test_a_range_that_shrank_keeps_those_that_still_have_a_replica() -> None:
    before = {("large", "uid-a"): 2, ("large", "uid-b"): 0}
    seating = seated(scenario_of_rig(replicas=2), {"large": [pod("a"), pod("b")]}, before)
    assert seating.seats == {("large", "uid-b"): 0, ("large", "uid-a"): 1}

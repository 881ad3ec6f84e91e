"""Every object that a service owns, in the order in which they are applied: nothing starts before what it mounts."""

from bes_api.engines import engine_types
from bes_api.service import Model
from bes_api.service_status import ConditionType
from bes_operator.desired.access import access_objects
from bes_operator.desired.configuration import configuration_files, router_configuration
from bes_operator.desired.emulated_engine import scenario_objects
from bes_operator.desired.engine import engine_deployment, engine_service
from bes_operator.desired.files import config_map, policy_objects
from bes_operator.desired.load import load_part
from bes_operator.desired.real_engine import chat_template_objects
from bes_operator.desired.references import engine_references, missing_message, router_references
from bes_operator.desired.replicas import deployment_steps
from bes_operator.desired.request import Complaint, Desired, Wanted
from bes_operator.desired.router import router_deployment, router_disruption_budget, router_service
from bes_operator.desired.scenario import cluster_scenario
from bes_operator.errors import Refusal
from bes_operator.labels import Component
from bes_operator.manifest import Apply, Key, key_of
from bes_operator.names import router_name


def desired_objects(request: Desired) -> Wanted:
    """See the module. Never raises: what the service asks for and cannot have is a complaint.

    Without a scenario nothing is applied or pruned. A Deployment that exists and whose pods could not start (they name
    what is not there) is left as it is; one that does not exist is made, and starts when the rest is there.
    """
    try:
        scenario = cluster_scenario(request.service, request.profiles)
    except Refusal as refusal:
        complaint = Complaint(ConditionType.STALLED, refusal.reason, refusal.message)
        return Wanted((), keep_all=True, complaints=(complaint,))
    spec = request.service.spec
    load = load_part(request)
    configuration = router_configuration(request, scenario, load.source)
    plain = (
        *access_objects(request),
        *scenario_objects(request, scenario, set(engine_types(spec).values())),
        *chat_template_objects(request),
        *policy_objects(request),
        config_map(request, router_name(request.service.name), Component.ROUTER, configuration_files(configuration)),
        *(engine_service(request, model) for model in spec.models),
        router_service(request),
        *router_disruption_budget(request),
    )
    started = [
        *((engine_deployment(request, model, scenario), model) for model in spec.models),
        (router_deployment(request, load), None),
    ]
    steps = [Apply(manifest) for manifest in plain]
    keep: set[Key] = set()
    complaints = list(load.complaints)
    for intent, model in started:
        missing = _missing(request, model)
        complaints += missing
        key = key_of(intent)
        if missing and key in request.live:
            keep.add(key)
        elif model is None:
            steps.append(Apply(intent))
        else:
            steps += deployment_steps(intent, model, request.live.get(key))
    return Wanted(tuple(steps), frozenset(keep), complaints=tuple(complaints))


def _missing(request: Desired, model: Model | None) -> list[Complaint]:
    """What the pods of a model's engines, or (None) of the routers, name and what is not there."""
    spec = request.service.spec
    named = router_references(spec) if model is None else engine_references(spec, model)
    return [
        Complaint(ConditionType.STALLED, reference.reason, missing_message(reference))
        for reference in named
        if reference.key(request.namespace) in request.missing
    ]

"""The routers' configuration on a cluster."""

from bes_api.config_map import ROUTER_CONFIG
from bes_api.discovery_config import EndpointSlices, ServedModel
from bes_api.engines import ENGINES
from bes_api.resolved_engine import engine_of
from bes_api.router_config import (
    ConfiguredPolicy,
    DeadlineAwarePolicy,
    Limits,
    Listen,
    LoadSource,
    PricedPolicy,
    RouterConfig,
    RulePolicy,
    StaticPolicy,
    ThresholdPolicy,
    clients_of,
)
from bes_api.scenario import Scenario
from bes_api.service import Model, RuleType, StaticSettings
from bes_operator.desired.pods import HTTP, PROPAGATION_SECONDS
from bes_operator.desired.request import Desired
from bes_operator.names import engine_name

CLIENT_PORT = 8080
ADMIN_PORT = 9090
ANYWHERE = "0.0.0.0"  # noqa: S104 - clients, the kubelet and Prometheus reach a pod by its address
LIMITS = Limits(propagation_seconds=PROPAGATION_SECONDS)


def router_configuration(request: Desired, scenario: Scenario, load: LoadSource) -> RouterConfig:
    """See the module."""
    spec = request.service.spec
    fallback = rule_of(spec.policy.fallback.type, spec.policy.fallback.static)
    return RouterConfig(
        service=request.service.name,
        listen=Listen(host=ANYWHERE, port=CLIENT_PORT),
        admin=Listen(host=ANYWHERE, port=ADMIN_PORT),
        scenario=scenario,
        discovery=EndpointSlices(
            namespace=request.namespace, engines=tuple(_served(request, model) for model in spec.models)
        ),
        load=load,
        prometheus_origins=request.settings.prometheus_origins,
        policy=_policy(request, fallback),
        fallback=fallback,
        limits=LIMITS,
        clients=clients_of(request.service),
    )


def configuration_files(configuration: RouterConfig) -> dict[str, bytes]:
    """The folder that routers follow."""
    return {ROUTER_CONFIG: (configuration.model_dump_json(indent=2) + "\n").encode()}


def rule_of(kind: RuleType, static: StaticSettings | None) -> RulePolicy:
    """A rule that the resource states, with the published defaults."""
    match kind:
        case RuleType.STATIC:
            return StaticPolicy(model=static.model if static else "")  # a rule of the resource asks for it
        case RuleType.PRICED:
            return PricedPolicy()
        case RuleType.THRESHOLD:
            return ThresholdPolicy()
        case RuleType.DEADLINE_AWARE:
            return DeadlineAwarePolicy()


def _policy(request: Desired, fallback: RulePolicy) -> ConfiguredPolicy:
    """A tuned rule may still name a model that has left the service: no router would take such a configuration."""
    policy = request.policy.configured
    models = {model.name for model in request.service.spec.models}
    return fallback if isinstance(policy, StaticPolicy) and policy.model not in models else policy


def _served(request: Desired, model: Model) -> ServedModel:
    facts = ENGINES[engine_of(request.service.spec, model).type]
    return ServedModel(
        model=model.name,
        service=engine_name(request.service.name, model.name),
        port_name=HTTP,
        served_model=model.name,
        health_path=facts.health_path,
        gauges=facts.metrics.in_flight,
        finished=facts.metrics.finished,
    )

import re

from hypothesis import given
from hypothesis import strategies as st

from bes_operator.labels import Component, child_labels, selector, selector_text
from bes_operator.manifest import Key, key_of
from bes_operator.names import MAX_NAME, engine_name, router_name

DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
LETTERS = "abcxyz"
INNER = LETTERS + "0129-"
services = st.builds("{}{}{}".format, st.sampled_from(LETTERS), st.text(INNER, max_size=28), st.sampled_from(LETTERS))
words = st.builds("{}{}{}".format, st.sampled_from("abc129"), st.text(INNER, max_size=29), st.sampled_from("xyz0"))
models = st.lists(words, min_size=1, max_size=4).map(lambda parts: ".".join(parts)[:63].rstrip("-."))


@given(services, models)
def test_every_name_of_an_engine_is_a_dns_1035_label_that_leaves_room_for_pods(service: str, model: str) -> None:
    name = engine_name(service, model)
    assert len(name) <= MAX_NAME
    assert DNS_1035.fullmatch(name)


@given(services, models)
def test_labels_are_values_that_kubernetes_takes(service: str, model: str) -> None:
    for value in child_labels(service, Component.ENGINE, model).values():
        assert len(value) <= 63
        assert LABEL_VALUE.fullmatch(value)


@given(services, models, models)
def test_models_of_one_service_never_share_a_name(service: str, one: str, other: str) -> None:
    assert (engine_name(service, one) == engine_name(service, other)) == (one == other)


def test_models_that_only_differ_where_a_name_is_cut_or_replaced_stay_apart() -> None:
    service = "s" * 30
    names = {engine_name(service, model) for model in ("opt.1", "opt-1", "opt-1-long-name-a", "opt-1-long-name-b")}
    assert len(names) == 4


def test_a_name_reads_as_service_slug_and_hash() -> None:
    assert engine_name("opt", "opt-1.3b") == "opt-opt-1-3b-a79ffc2e"
    assert router_name("opt") == "opt-router"


def test_a_selector_holds_no_label_that_may_change() -> None:
    chosen = selector("opt", Component.ROUTER)
    assert selector_text(chosen) == "besteffort.dev/component=router,besteffort.dev/service=opt"
    assert child_labels("opt", Component.ROUTER) == {**chosen, "app.kubernetes.io/managed-by": "best-effort-serving"}


def test_a_key_says_which_object() -> None:
    key = key_of({"kind": "Service", "metadata": {"name": "opt-router", "namespace": "default"}})
    assert key == Key("Service", "default", "opt-router")
    assert str(key) == "Service default/opt-router"

"""Who is kept out and when it comes back, as a machine that is only told what happened."""

from hypothesis import given
from hypothesis import strategies as st

from bes_router import ejection
from bes_router.ejection import Cause, Ejection, Event, Phase, Sample, Standing

ALWAYS = 1e9


class Service:
    """Backends of one or more models on a clock of their own."""

    def __init__(self, *sizes: int) -> None:
        self.models = [[Standing(f"m{m}/{i}") for i in range(size)] for m, size in enumerate(sizes)]
        self.all = [standing for group in self.models for standing in group]
        self.dead: set[Standing] = set()
        self.ejection = Ejection(self.models, lambda standing: standing not in self.dead)
        self.now = 100.0

    def ready(self) -> int:
        return sum(standing.allowed for standing in self.all)

    def answer(self, standing: Standing, ratio: float, predicted: float = 0.2) -> Event | None:
        """One timed request that takes ``ratio`` times its prediction."""
        sample = standing.timed(predicted, self.now)
        standing.good += 1
        return self.ejection.answered(standing, sample, self.now + ratio * predicted)

    def fail(self, standing: Standing, times: int = 1) -> Event | None:
        event = None
        for _ in range(times):
            self.now += 0.01
            event = self.ejection.failed(standing, None, self.now) or event
        return event

    def tick(self, after: float = 0.0) -> list[Event]:
        self.now += after
        return self.ejection.tick(self.now, lambda _: ALWAYS)

    def settle(self, ratio: float = 1.0) -> None:
        """Let everybody be known."""
        for standing in self.all:
            for _ in range(ejection.ENOUGH):
                assert self.answer(standing, ratio) is None


def test_failures_in_a_row_eject_and_one_less_do_not() -> None:
    service = Service(2)
    first = service.all[0]
    assert service.fail(first, ejection.FAILURES_IN_ROW - 1) is None
    first.good += 40
    assert service.fail(first, ejection.FAILURES_IN_ROW - 1) is None
    event = service.fail(first)
    assert event is not None
    assert (event.phase, event.cause, event.seconds) == (Phase.EJECTED, Cause.FAILING, ejection.FIRST_SECONDS)
    assert not first.allowed


def test_half_of_the_answers_failing_ejects_though_never_many_in_a_row() -> None:
    service = Service(2)
    first = service.all[0]
    events = []
    for _ in range(ejection.FAILURES):
        first.good += 1
        events.append(service.fail(first))
    assert [event is not None for event in events] == [False] * (ejection.FAILURES - 1) + [True]


def test_few_failures_among_many_answers_are_nothing() -> None:
    service = Service(2)
    first = service.all[0]
    for _ in range(50):
        first.good += 3
        assert service.fail(first) is None


def test_the_last_backend_of_the_service_stays_however_it_fails() -> None:
    service = Service(1, 1)
    assert service.fail(service.all[0], 5) is not None
    assert service.fail(service.all[1], 50) is None
    assert service.ready() == 1


def hang(service: Service, *which: Standing) -> list[Event]:
    """Nothing comes back from ``which`` for a minute."""
    for standing in which:
        for _ in range(ejection.HANGING):
            standing.timed(0.4, service.now)
    return service.tick(60.0)


def test_the_only_backend_of_a_model_stays_however_long_it_hangs() -> None:
    service = Service(1, 2)
    service.settle()
    assert hang(service, service.all[0]) == []
    assert service.all[0].phase is Phase.SERVING


def test_when_all_backends_of_a_model_hang_at_once_one_stays() -> None:
    service = Service(3, 1)
    service.settle()
    assert {event.cause for event in hang(service, *service.models[0])} == {Cause.HANGING}
    assert sum(standing.allowed for standing in service.models[0]) == 1


def test_a_backend_whose_siblings_are_dead_stays_though_it_hangs() -> None:
    service = Service(2, 1)
    service.settle()
    first, other, _ = service.all
    service.dead.add(other)
    assert hang(service, first) == []
    service.dead.clear()
    assert [event.standing for event in service.tick()] == [first], "now there is another"


def test_a_backend_whose_siblings_have_died_since_is_not_too_slow_for_them() -> None:
    service = Service(2, 1)
    service.settle()
    first, other, _ = service.all
    service.dead.add(other)
    assert [service.answer(first, 30.0) for _ in range(ejection.WINDOW)] == [None] * ejection.WINDOW


def test_the_only_backend_of_a_model_may_go_for_failing_and_a_trial_that_hangs_begins_anew() -> None:
    service = Service(1, 1)
    service.settle()
    first = service.all[0]
    event = service.fail(first, 5)
    assert event is not None
    assert event.cause is Cause.FAILING
    service.tick(10.0)
    for _ in range(3):
        for _ in range(ejection.TRIAL_REQUESTS):
            first.timed(0.1, service.now)
        assert not first.allowed
        assert [event.phase for event in service.tick(10.0)] == [Phase.TRIAL]
        assert first.allowed
    for _ in range(ejection.TRIAL_REQUESTS):
        service.answer(first, 1.0)
    assert first.phase is Phase.SERVING


def test_a_slow_trial_of_a_models_only_backend_is_no_relapse() -> None:
    service = Service(2, 1)
    service.settle()
    first, other, _ = service.all
    service.fail(first, 5)
    service.tick(10.0)
    service.dead.add(other)
    events = [service.answer(first, 30.0) for _ in range(ejection.TRIAL_REQUESTS)]
    assert [event and event.phase for event in events] == [None, None, Phase.SERVING]


def test_an_aborted_trial_of_a_models_only_backend_makes_room_for_another_request() -> None:
    service = Service(1, 1)
    first = service.all[0]
    service.fail(first, 5)
    service.tick(10.0)
    samples = [first.timed(0.1, service.now) for _ in range(ejection.TRIAL_REQUESTS)]
    assert service.ejection.withdrawn(first, samples[0], service.now + 60.0, missed=True) is None
    assert first.allowed


def test_a_backend_far_slower_than_its_siblings_is_out_and_a_little_slower_is_not() -> None:
    service = Service(3)
    service.settle()
    slow, slower, _ = service.all
    events = [service.answer(slow, 3.5) for _ in range(ejection.WINDOW)]
    assert events == [None] * ejection.WINDOW
    late = [event for _ in range(ejection.WINDOW) if (event := service.answer(slower, 12.0))]
    assert [(event.cause, event.standing) for event in late] == [(Cause.SLOW, slower)]


def test_a_model_that_is_slow_as_a_whole_keeps_its_backends() -> None:
    service = Service(3)
    for _ in range(ejection.WINDOW):
        for standing in service.all:
            assert service.answer(standing, 40.0) is None


def test_at_most_half_of_a_models_backends_are_out_for_slowness() -> None:
    service = Service(5, 1)
    service.settle()
    for standing in service.models[0][:3]:
        for _ in range(ejection.WINDOW):
            service.answer(standing, 30.0)
    assert [standing.allowed for standing in service.models[0]] == [False, False, True, True, True]


def test_a_backend_without_siblings_is_never_too_slow() -> None:
    service = Service(1, 3)
    service.settle()
    for _ in range(ejection.WINDOW):
        assert service.answer(service.all[0], 50.0) is None


def test_a_backend_that_answers_nothing_any_more_is_noticed_though_nothing_ends() -> None:
    service = Service(2)
    service.settle()
    hanging = service.all[0]
    for _ in range(ejection.HANGING):
        hanging.timed(0.4, service.now)
    assert service.tick(1.5) == []  # 4 * 0.4 s have not passed
    (event,) = service.tick(0.2)
    assert (event.standing, event.cause) == (hanging, Cause.HANGING)


def test_one_answer_is_a_sign_of_life() -> None:
    service = Service(2)
    service.settle()
    first = service.all[0]
    for _ in range(ejection.HANGING):
        first.timed(0.4, service.now)
    first.good += 1
    assert service.tick(60.0) == []


def test_clients_that_leave_do_not_make_a_backend_hang() -> None:
    service = Service(2)
    service.settle()
    first = service.all[0]
    for _ in range(20):
        sample = first.timed(0.1, service.now)
        service.now += 0.05
        assert service.ejection.withdrawn(first, sample, service.now) is None
    for _ in range(ejection.HANGING):
        first.timed(0.1, service.now)
    assert service.tick(0.5) == []


def test_where_nothing_is_known_of_the_pace_nobody_hangs() -> None:
    service = Service(2)
    for _ in range(10):
        service.all[0].timed(0.1, service.now)
    assert service.tick(1000.0) == []  # a profile may be wrong by any factor


def test_it_comes_back_after_its_time_and_one_good_probe_with_a_few_requests() -> None:
    service = Service(2)
    service.settle()
    first = service.all[0]
    service.fail(first, 5)
    assert service.tick(ejection.FIRST_SECONDS - 0.1) == []
    service.now += 0.2
    assert service.ejection.tick(service.now, lambda _: service.now - 1.0) == []  # not probed since
    (event,) = service.tick()
    assert (event.phase, first.allowed) == (Phase.TRIAL, True)
    samples = [first.timed(0.1, service.now) for _ in range(ejection.TRIAL_REQUESTS)]
    assert not first.allowed  # until these are answered
    for sample in samples:
        first.good += 1
        last = service.ejection.answered(first, sample, service.now + 0.1)
    assert last is not None
    assert (last.phase, first.allowed) == (Phase.SERVING, True)


def test_each_relapse_doubles_the_time_up_to_a_cap_and_good_behaviour_is_forgiven() -> None:
    service = Service(2)
    service.settle()
    first = service.all[0]
    event = service.fail(first, 5)
    seconds = []
    for _ in range(9):
        assert event is not None
        seconds.append(event.seconds)
        assert [each.phase for each in service.tick(event.seconds)] == [Phase.TRIAL]
        event = service.ejection.failed(first, first.timed(0.1, service.now), service.now)
    assert seconds == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    service.tick(300.0)
    for _ in range(ejection.TRIAL_REQUESTS):
        service.answer(first, 1.0)
    assert first.phase is Phase.SERVING
    service.now += ejection.FORGIVEN_AFTER * 300 + 1
    first.good += 1
    again = service.fail(first, 5)
    assert again is not None
    assert again.seconds == ejection.FIRST_SECONDS


def test_a_slow_trial_is_a_relapse() -> None:
    service = Service(2)
    service.settle()
    first = service.all[0]
    service.fail(first, 5)
    service.tick(10.0)
    events = [service.answer(first, 30.0) for _ in range(ejection.TRIAL_REQUESTS)]
    assert [event and event.cause for event in events] == [None, None, Cause.RELAPSE]


def test_a_trial_that_hangs_is_a_relapse() -> None:
    service = Service(2)
    service.settle()
    first = service.all[0]
    service.fail(first, 5)
    service.tick(10.0)
    first.timed(0.1, service.now)
    assert [event.cause for event in service.tick(1.1)] == [Cause.RELAPSE]


def test_what_was_sent_before_an_ejection_says_nothing_about_the_trial() -> None:
    service = Service(2)
    service.settle()
    first = service.all[0]
    old = first.timed(0.1, service.now)
    service.fail(first, 5)
    service.tick(10.0)
    assert service.ejection.failed(first, None, service.now) is None
    assert service.ejection.answered(first, old, service.now) is None
    assert service.ejection.withdrawn(first, old, service.now, missed=True) is None
    assert (first.phase, first.passed, first.trial_left) == (Phase.TRIAL, 0, ejection.TRIAL_REQUESTS)


def test_a_client_that_leaves_a_trial_makes_room_for_another_request() -> None:
    service = Service(2)
    first = service.all[0]
    service.fail(first, 5)
    service.tick(10.0)
    samples = [first.timed(0.1, service.now) for _ in range(ejection.TRIAL_REQUESTS)]
    assert not first.allowed
    service.ejection.withdrawn(first, samples[0], service.now)
    assert first.allowed


def test_when_nothing_else_could_serve_whoever_is_out_is_tried_at_once() -> None:
    service = Service(2)
    service.fail(service.all[0], 5)
    (event,) = service.ejection.relent()
    assert (event.standing, event.phase, service.ready()) == (service.all[0], Phase.TRIAL, 2)


def test_a_record_goes_on_in_a_new_configuration() -> None:
    service = Service(2)
    first = service.all[0]
    service.fail(first, 5)
    new = Standing("elsewhere")
    new.adopt(first)
    assert (new.phase, new.until, new.allowed, new.label) == (Phase.EJECTED, first.until, False, "elsewhere")


def test_requests_that_end_in_the_configuration_before_do_not_seem_to_hang_in_a_new_one() -> None:
    service = Service(2)
    service.settle()
    first = service.all[0]
    for _ in range(ejection.HANGING):
        first.timed(0.4, service.now)
    after = Service(2)
    for new, old in zip(after.all, service.all, strict=True):
        new.adopt(old)
    first.good += ejection.HANGING  # told to the record that they were noted in
    assert after.tick(60.0) == []
    assert after.all[0].pace() == first.pace() is not None


OUTCOMES = st.sampled_from(["answer", "slow", "fail", "gone", "missed", "open", "tick", "long"])


@given(st.integers(1, 3), st.integers(1, 3), st.lists(st.tuples(st.integers(0, 5), OUTCOMES), max_size=120))
def test_whatever_happens_somebody_may_be_chosen_and_everybody_can_come_back(
    small: int, large: int, history: list[tuple[int, str]]
) -> None:
    service = Service(small, large)
    machine = service.ejection
    samples: dict[Standing, list[Sample]] = {standing: [] for standing in service.all}
    for number, outcome in history:
        standing = service.all[number % len(service.all)]
        service.now += 0.05
        if outcome in {"tick", "long"}:
            service.tick(30.0 if outcome == "long" else 0.5)
        elif standing.allowed:
            sample = standing.timed(0.1, service.now)
            if outcome in {"answer", "slow"}:
                standing.good += 1
                machine.answered(standing, sample, service.now + (0.1 if outcome == "answer" else 5.0))
            elif outcome == "fail":
                machine.failed(standing, sample, service.now)
            elif outcome == "open":
                samples[standing].append(sample)
            else:
                machine.withdrawn(standing, sample, service.now + 1.0, missed=outcome == "missed")
        elif samples[standing]:
            machine.withdrawn(standing, samples[standing].pop(), service.now)
        if not service.ready():  # all that are left wait for their trials' answers: the wiring asks to relent
            assert any(each.phase is Phase.TRIAL for each in service.all)
            machine.relent()
        assert service.ready()
    for _ in range(3):
        service.tick(2 * ejection.LONGEST_SECONDS)
        for standing in service.all:
            while standing.phase is Phase.TRIAL and standing.allowed:
                service.answer(standing, 1.0)
    assert all(standing.phase is not Phase.EJECTED for standing in service.all)

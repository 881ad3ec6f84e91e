"""Hostile bytes from clients and from engines, over real sockets: nothing crashes, leaks, or gets another's answer.

`make faults` sends 5,000 of each; here is a part of them.
"""

import pytest

from bes_lab.faults.hostile.answers import FAMILIES as ANSWERS
from bes_lab.faults.hostile.answers import hostile_answer
from bes_lab.faults.hostile.bombard import Toll, bombard
from bes_lab.faults.hostile.requests import FAMILIES as REQUESTS
from bes_lab.faults.hostile.requests import hostile_request


@pytest.mark.slow
@pytest.mark.parametrize("answers", [False, True], ids=["requests", "answers"])
def test_hostile_bytes_harm_nobody(answers: bool) -> None:
    toll = bombard(750, 11, answers=answers)
    assert toll.amiss == []
    assert (toll.given if answers else toll.hostile) >= 750
    assert toll.good >= 200
    assert sum(count for status, count in toll.statuses.items() if status >= 400) > toll.hostile / 3


def test_the_same_seed_gives_the_same_bytes_and_every_family_has_its_turn() -> None:
    first = [hostile_request(number, 3) for number in range(300)]
    assert first == [hostile_request(number, 3) for number in range(300)]
    assert first != [hostile_request(number, 4) for number in range(300)]
    assert {hostile.family for hostile in first} == set(REQUESTS)
    replies = [hostile_answer(number, 3, 1) for number in range(300)]
    assert replies == [hostile_answer(number, 3, 1) for number in range(300)]
    assert {reply.family for reply in replies} == set(ANSWERS)


def test_whatever_is_amiss_is_said() -> None:
    assert Toll(serves_after=True).amiss == []
    toll = Toll(foreign=["a"], failed=["b"], crashes=["c"], improper=["d"], leaked={"tasks": 2, "descriptors": 0})
    assert [each.split(":")[0] for each in toll.amiss] == [
        "another's bytes",
        "no answer",
        "crash",
        "reached an engine",
        "leaked 2 tasks",
        "it serves no more",
    ]

"""How many workers, as a user writes it."""

import pytest

from distmgcd.errors import UserError
from distmgcd.workers.num_workers import bounds, cpus_for_each, parse_workers


def test_a_number_is_so_many_and_a_range_is_from_few_to_many():
    assert parse_workers("4") == 4 and parse_workers("2:8") == (2, 8) and parse_workers(" 3:3 ") == (3, 3)
    assert bounds(4) == (4, 4) and bounds((2, 8)) == (2, 8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "must be a number such as 4 or a range such as 2:8, but is 'x'"),
        ("", "but is ''"),
        ("2:", "but is '2:'"),
        ("1:2:3", "but is '1:2:3'"),
        ("1.5", "but is '1.5'"),
        ("0", "must be at least 1, but is 0"),
        ("-1", "must be at least 1, but is -1"),
        ("0:2", "must be at least 1, but is 0"),
        ("2:1", "must go from few to many, but is 2:1; try --workers 1:2."),
    ],
)
def test_a_mistake_is_one_sentence(text: str, words: str):
    with pytest.raises(UserError) as caught:
        parse_workers(text)
    assert words in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("num_workers", "node_cpus", "cpus"),
    [
        (2, [4], 2),
        (3, [4], 1),
        (8, [4], 1),
        (2, [0, 4, 4], 4),  # a head without CPUs
        (4, [0, 4, 4], 2),
        (4, [16, 4], 2),  # a worker fits into the smallest node
        (2, [0], 1),
    ],
)
def test_workers_share_the_cpus_of_the_smallest_node(num_workers: int, node_cpus: list[int], cpus: int):
    assert cpus_for_each(num_workers, node_cpus) == cpus

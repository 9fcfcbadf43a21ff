import math

import pytest
import torch
from torch import tensor

from flowmm.codecs.increasing import pack, unpack
from flowmm.packing import packed_increasing
from flowmm.typed_json import MalformedError


def test_the_paper_s_way_on_three_numbers():
    # 2, 5 and 11 below 12: one in four, so two low bits: 2, 1, 3; the rest is 0, 1, 2, marked at 0, 1+1, 2+2 of six.
    packed = pack(tensor([2, 5, 11]), 12)
    low = [2 & 1, 5 & 1, 11 & 1, 2 >> 1 & 1, 5 >> 1 & 1, 11 >> 1 & 1]
    assert packed.tolist() == [sum(bit << i for i, bit in enumerate(low)), 0b010101]


@pytest.mark.parametrize(
    ("count", "bound"), [(0, 5), (1, 1), (1, 10**6), (64, 64), (63, 65), (100, 70000), (5000, 9001)]
)
def test_numbers_come_back_exactly(count, bound):
    given = torch.randperm(bound, generator=torch.Generator().manual_seed(1))[:count].sort().values
    packed = pack(given, bound)
    assert packed_increasing(count, bound) == ("U8", tuple(packed.shape))
    assert torch.equal(unpack(packed, count, bound), given)


def test_the_ends_come_back():
    for given in ([0], [999], [0, 999], [998, 999], [0, 1]):
        assert unpack(pack(tensor(given), 1000), len(given), 1000).tolist() == given


@pytest.mark.parametrize("gap", [1, 2, 5, 20, 100])
def test_a_number_takes_less_than_the_logarithm_of_the_gap_and_three_bits(gap):
    _, (size,) = packed_increasing(10_000, 10_000 * gap)
    assert 8 * size / 10_000 < math.log2(gap) + 2.1
    assert 8 * size / 10_000 < 32  # what a position took before


def test_bits_that_hold_another_count_are_refused():
    packed = pack(tensor([2, 5, 11]), 12)
    packed[1] |= 0b100000
    with pytest.raises(MalformedError, match="4 increasing numbers, expected 3"):
        unpack(packed, 3, 12)

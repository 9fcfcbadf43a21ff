import pytest
import torch
from torch import tensor

from flowmm.codecs.bits import pack, unpack
from flowmm.packing import packed_codes


def codes(values):
    return tensor(values, dtype=torch.uint8)


def test_two_codes_of_four_bits_share_a_byte_with_the_first_in_the_low_half():
    assert pack(codes([1, 15]), 4).tolist() == [0xF1]
    assert pack(codes([1, 2, 15]), 4).tolist() == [0xF1, 0x02]  # planes of two: 1 and 2 are low, 15 and nothing high


def test_eight_codes_of_three_bits_fill_three_bytes_without_gaps():
    packed = pack(codes([1, 2, 3, 4, 5, 6, 7, 0]), 3)
    number = sum(byte << 8 * i for i, byte in enumerate(packed.tolist()))
    assert [number >> 3 * i & 7 for i in range(8)] == [1, 2, 3, 4, 5, 6, 7, 0]
    assert len(packed) == 3


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 63, 64, 65, 1000])
def test_codes_come_back_and_take_no_more_than_their_bits(bits, count):
    given = torch.randint(2**bits, (count,), generator=torch.Generator().manual_seed(count)).to(torch.uint8)
    packed = pack(given, bits)
    assert packed_codes(count, bits) == ("U8", tuple(packed.shape))
    assert torch.equal(unpack(packed, bits, count), given)
    assert 8 * len(packed) < count * bits + 8 * 3  # less than one unit, at most three bytes, is filled up


def test_what_fills_up_the_last_byte_is_zero():
    for bits in (1, 2, 3, 4):
        packed = pack(codes([2**bits - 1]), bits)
        assert sum(byte.bit_count() for byte in packed.tolist()) == bits

"""Each codec's error on the way there and back against what theory says it cannot exceed."""

import math
from itertools import pairwise
from statistics import NormalDist

import pytest
import torch

from flowmm.codecs import codec_of
from flowmm.codecs.rotated import CODEBOOKS, rotation
from flowmm.packing import PACKINGS, PARTS, Uniform

BF16 = 2.0**-8  # largest relative error of rounding to it, as every decoded number is
COARSE = [name for name, packing in PACKINGS.items() if packing.splits]
UNIFORM = ["int8", "int4", "int3"]
LENGTHS = [[1], [63], [64], [65], [0, 130, 1, 0], [0, 0], [3, 64, 129]]


def there_and_back(name, part, slots, lengths):
    packing = PACKINGS[name]
    packed = codec_of(packing).encode(part, slots, lengths)
    shapes = packing.shapes(part, lengths, slots.shape[1])
    assert {suffix: tuple(one.shape) for suffix, one in packed.items()} == {
        suffix: shape for suffix, (_, shape) in shapes.items()
    }
    return codec_of(packing).decode(part, packed, lengths, slots.shape[1])


def normal(lengths, size, seed=0):
    return torch.randn(sum(lengths), size, generator=torch.Generator().manual_seed(seed))


def groups(part, lengths, size):
    """Row and column slices of every group, by a loop."""
    starts = [sum(lengths[:head]) for head in range(len(lengths))]
    for start, length in zip(starts, lengths, strict=True):
        if part == "keys":
            for row in range(0, length, 64):
                for column in range(size):
                    yield slice(start + row, start + min(row + 64, length)), slice(column, column + 1)
        else:
            for row in range(length):
                for column in range(0, size, 64):
                    yield slice(start + row, start + row + 1), slice(column, min(column + 64, size))


def assert_within_half_a_step(name, part, slots, lengths):
    """Half of (largest - least) / levels, where bfloat16 may have widened range and step by 2^-7."""
    found = there_and_back(name, part, slots, lengths).double()
    levels = 2 ** PACKINGS[name].bits - 1
    for rows, columns in groups(part, lengths, slots.shape[1]):
        group, error = slots[rows, columns].double(), (found - slots)[rows, columns].abs()
        width = group.max() - group.min() + 2**-7 * group.min().abs()
        step = width / levels * (1 + 2**-7)
        assert bool((error <= step / 2 + BF16 * (group.abs() + step) + 1e-30).all()), (name, part, rows, columns)


@pytest.mark.parametrize("name", UNIFORM)
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("size", [1, 20, 64, 80])
def test_a_uniform_code_is_off_by_at_most_half_a_step(name, part, lengths, size):
    assert_within_half_a_step(name, part, normal(lengths, size), lengths)


@pytest.mark.parametrize("name", UNIFORM)
@pytest.mark.parametrize("part", PARTS)
def test_an_outlier_widens_the_step_of_its_own_group_only(name, part):
    slots = normal([65, 3], 70)
    slots[2, 5] = 1e6
    slots[66, 69] = -3e30
    assert_within_half_a_step(name, part, slots, [65, 3])


@pytest.mark.parametrize("name", UNIFORM)
def test_a_range_that_is_narrow_and_far_from_zero_is_not_clipped(name):
    slots = 100 + normal([64], 3) * 1e-3  # narrower than the steps of bfloat16 at 100
    assert_within_half_a_step(name, "keys", slots, [64])


def test_the_mean_squared_error_of_uniform_codes_is_a_twelfth_of_the_squared_step():
    slots = torch.rand(64 * 200, 16, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    slots[::64], slots[1::64] = 0.0, 1.0  # every channel of every group is 0 to 1 wide
    for name, levels in (("int4", 15), ("int3", 7)):
        error = there_and_back(name, "keys", slots, [64 * 200]).float() - slots
        assert float(error.square().mean()) == pytest.approx(1 / levels**2 / 12, rel=0.06)


@pytest.mark.parametrize("name", UNIFORM)
def test_channels_that_are_constant_come_back_as_they_are(name):
    slots = torch.tensor([0.0, -0.0, 1.5, -7.25, 96.0, 2**-120]).expand(65, -1).contiguous()
    assert torch.equal(there_and_back(name, "keys", slots, [65]).float(), slots)
    assert torch.equal(there_and_back(name, "values", slots.T.contiguous(), [6]).float(), slots.T)


def test_groups_do_not_reach_from_one_head_into_the_next():
    slots = torch.cat([torch.full((2, 4), -1000.0), torch.full((3, 4), 8.0)])
    assert torch.equal(there_and_back("int3", "keys", slots, [2, 3]).float(), slots)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("spread", [1.0, 1e-20, 1e20])
def test_an_eight_bit_float_is_off_by_a_sixteenth_or_by_2_to_minus_10_of_its_head_s_scale(part, lengths, spread):
    slots = normal(lengths, 20) * spread * torch.logspace(-6, 0, 20)
    found = there_and_back("fp8", part, slots, lengths)
    for rows, before in zip(found.split(lengths), slots.split(lengths), strict=True):
        if len(before):
            scale = before.abs().max() / 448
            allowed = torch.maximum(before.abs() * 2**-4, scale * 2**-10)
            assert bool(((rows - before).abs() <= allowed * (1 + 2**-4) + BF16 * before.abs()).all())


def test_the_largest_number_of_a_head_of_eight_bit_floats_comes_back():
    slots = torch.tensor([[448.0, 0.5], [0.0, 0.0], [-7.0, 3.5]])
    assert torch.equal(there_and_back("fp8", "keys", slots, [1, 1, 1]).float(), slots)


@pytest.mark.parametrize(("bits", "known"), [(2, 0.1175), (3, 0.03454), (4, 0.009497)])  # Max 1960, table I
def test_the_codebooks_are_where_lloyd_s_iteration_stands_still(bits, known):
    normal_, half = NormalDist(), CODEBOOKS[bits]
    book = [-number for number in reversed(half)] + list(half)
    edges = [-math.inf, *((a + b) / 2 for a, b in pairwise(book)), math.inf]
    distortion = 1.0
    for (low, high), number in zip(pairwise(edges), book, strict=True):
        cdf = [0.0 if edge == -math.inf else 1.0 if edge == math.inf else normal_.cdf(edge) for edge in (low, high)]
        pdf = [0.0 if math.isinf(edge) else normal_.pdf(edge) for edge in (low, high)]
        assert (pdf[0] - pdf[1]) / (cdf[1] - cdf[0]) == pytest.approx(number, abs=1e-5)
        distortion -= (cdf[1] - cdf[0]) * number**2
    assert distortion == pytest.approx(known, rel=2e-3)


@pytest.mark.parametrize(("name", "distortion"), [("rot2", 0.1175), ("rot3", 0.03454), ("rot4", 0.009497)])
@pytest.mark.parametrize("kind", ["normal", "one channel", "far from zero"])
def test_a_rotated_slot_loses_the_share_of_its_square_that_lloyd_and_max_say(name, distortion, kind):
    slots = normal([300], 128, seed=3)
    if kind == "one channel":
        slots[:, 1:] = 0.01 * slots[:, 1:]
        slots[:, 0] = 50.0 + slots[:, 0]
    if kind == "far from zero":
        slots += 20.0
    found = there_and_back(name, "keys", slots, [300]).float()
    share = (found - slots).square().sum(1) / slots.square().sum(1)
    # Slots that nearly point the same way lose nearly the same, so one rotation of them does not average much out.
    assert float(share.mean()) == pytest.approx(distortion, rel=0.03 if kind == "normal" else 0.35)
    if kind == "normal":
        bound = math.sqrt(3) * math.pi / 2 * 4.0 ** -PACKINGS[name].bits  # theorem 1 of TurboQuant
        assert float(share.mean()) < bound


def test_the_rotation_is_orthogonal_and_the_same_for_ever():
    for size in (1, 2, 20, 128):
        turn = rotation(size).double()
        assert torch.allclose(turn @ turn.T, torch.eye(size, dtype=torch.float64), atol=1e-6)
    # Python draws 0.84442185, 0.75795440, 0.42057158, 0.25891675, then 0.51127472, 0.40493414, 0.78379859, 0.30331273
    # with seed 0; 1 minus those are radii and angles: normal numbers in rows of two.
    first = [math.sqrt(-2 * math.log(0.15557815)) * math.cos(math.tau * 0.48872528)]
    first += [math.sqrt(-2 * math.log(0.57942842)) * math.cos(math.tau * 0.21620141)]
    length = math.hypot(*first)
    assert rotation(2)[:, 0].tolist() == pytest.approx([number / length for number in first], rel=1e-5)


@pytest.mark.parametrize("name", COARSE)
@pytest.mark.parametrize("part", PARTS)
def test_slots_of_nothing_but_zeros_come_back(name, part):
    assert not there_and_back(name, part, torch.zeros(5, 20), [2, 0, 3]).any()


@pytest.mark.parametrize("name", COARSE)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_slots_are_packed_as_their_32_bit_copies(name, dtype):
    slots = normal([70, 3], 20).to(dtype)
    assert torch.equal(
        there_and_back(name, "keys", slots, [70, 3]), there_and_back(name, "keys", slots.float(), [70, 3])
    )


def test_another_group_than_the_default_is_used():
    slots = normal([10], 8)
    narrow = codec_of(Uniform(4, group=2)).encode("keys", slots, [10])
    assert narrow[".steps"].shape == (2, 5, 8)


def test_a_group_far_wider_than_a_head_takes_no_more_memory_than_the_head():
    codec = codec_of(Uniform(4, group=2**16))
    assert torch.equal(
        codec.decode("values", codec.encode("values", normal([3], 20), [3]), [3], 20),
        there_and_back("int4", "values", normal([3], 20), [3]),
    )
    spread = codec._spread("values", [3], 20, torch.device("cpu"))
    assert spread(torch.ones(3, 1), slice(0, 3)).untyped_storage().nbytes() == 3 * 20 * 4


@pytest.mark.parametrize(("name", "bound"), [("bf16", 2**-8), ("fp16", 2**-11), ("fp32", 0.0)])
def test_a_plain_number_is_off_by_half_of_its_last_place(name, bound):
    slots = normal([65, 3], 20).abs() + 0.1
    found = there_and_back(name, "keys", slots, [65, 3]).double()
    worst = float(((found - slots).abs() / slots).max())
    assert bound / 2 <= worst <= bound

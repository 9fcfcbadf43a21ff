"""Layers in files of every precision: what stays exact, what is refused, what it costs."""

from dataclasses import replace

import pytest
import torch
from xxhash import xxh3_128_hexdigest

from flowmm.codecs import bits
from flowmm.context import Modality
from flowmm.errors import CorruptFileError, UsageError
from flowmm.header import read_header, verify
from flowmm.layer_tensors import rounded, rounded_keys
from flowmm.packing import PACKINGS
from flowmm.store import file_size, load, save
from tests.unit import small_caches
from tests.unit.plain_layers import random_context
from tests.unit.test_header import forge
from tests.unit.test_store import assert_equal, resign

COARSE = [name for name, packing in PACKINGS.items() if packing.splits]
TOKENS = 300


def context(*lengths, head_size=20, dtype=torch.float32, bias=None):
    """Layers of heads with slots anywhere in 300 tokens, one in seven of the template; the first ones are sinks."""
    modality = torch.arange(TOKENS).remainder(7).eq(0).to(torch.uint8) * Modality.TEMPLATE
    layers = []
    for seed, of_heads in enumerate(lengths):
        generator = torch.Generator().manual_seed(seed)
        nowhere = {head: [0] * length for head, length in enumerate(of_heads)}
        plain = small_caches.layer(of_heads, nowhere, head_size=head_size, dtype=dtype, seed=seed)
        position = plain.position.clone()
        for head, length in enumerate(of_heads):
            position[head, :length] = torch.randperm(TOKENS, generator=generator)[:length].sort().values
        layers.append(replace(plain, position=position, modality=modality[position.long()]))
    cache = replace(small_caches.cache(*layers), modality=modality)
    if bias is None:
        return cache
    biased = tuple(replace(layer, bias=bias(layer.position) * ~layer.padding) for layer in cache.layers)
    return replace(cache, layers=biased)


RAGGED = [(65, 0, 1, 130), (0, 0), (300, 300), (64, 63), (1, 1)]


@pytest.mark.parametrize("name", COARSE)
@pytest.mark.parametrize("head_size", [1, 20, 80])
def test_a_file_gives_back_what_rounding_says_it_will(tmp_path, name, head_size):
    cache = context(*RAGGED, head_size=head_size, bias=lambda position: position.float().log1p())
    save(cache, tmp_path / "ctx.kv", kv_dtype=name)
    verify(tmp_path / "ctx.kv")
    loaded, expected = load(tmp_path / "ctx.kv"), rounded(cache, PACKINGS[name])
    assert loaded.layers[0].keys.dtype == torch.bfloat16
    as_float = [replace(one, keys=one.keys.float(), values=one.values.float()) for one in loaded.layers]
    assert_equal(tuple(as_float), expected.layers)
    assert not torch.equal(expected.layers[2].keys, cache.layers[2].keys)


@pytest.mark.parametrize("name", COARSE)
def test_sinks_and_the_template_are_to_the_bit_what_they_are_in_bf16(tmp_path, name):
    cache = context(*RAGGED, dtype=torch.bfloat16)
    header = save(cache, tmp_path / "ctx.kv", kv_dtype=name)
    assert header.num_exact == sum(int(layer.protected.sum()) for layer in cache.layers) > 100
    for found, layer in zip(load(tmp_path / "ctx.kv").layers, cache.layers, strict=True):
        assert torch.equal(found.protected, layer.protected)
        for part in ("keys", "values"):
            assert torch.equal(getattr(found, part)[layer.protected], getattr(layer, part)[layer.protected])


def test_slots_that_a_method_wants_in_16_bits_come_back_so_and_stay_so(tmp_path):
    cache = context(*RAGGED, dtype=torch.bfloat16)
    fifths = (replace(one, important=(one.position % 5 == 1) & ~one.padding) for one in cache.layers)
    cache = replace(cache, layers=tuple(fifths))
    header = save(cache, tmp_path / "a.kv", kv_dtype="rot2")
    assert header.num_exact == sum(int(layer.exact.sum()) for layer in cache.layers)
    loaded = load(tmp_path / "a.kv")
    for found, layer in zip(loaded.layers, cache.layers, strict=True):
        assert torch.equal(found.exact, layer.exact)
        for part in ("keys", "values"):
            assert torch.equal(getattr(found, part)[layer.exact], getattr(layer, part)[layer.exact])
    assert int(loaded.layers[0].exact.sum()) > int(loaded.layers[0].protected.sum())
    assert save(loaded, tmp_path / "b.kv", kv_dtype="rot2").num_exact == header.num_exact
    assert save(loaded, tmp_path / "c.kv", kv_dtype="bf16").num_exact == 0


def test_slots_in_16_bits_do_not_widen_the_groups_of_the_others():
    cache = context((130, 90))
    loud = replace(cache.layers[0], keys=cache.layers[0].keys.masked_fill(cache.layers[0].protected[..., None], 1e6))
    plain, found = (rounded(replace(cache, layers=(one,)), PACKINGS["int4"]) for one in (cache.layers[0], loud))
    free = ~(loud.protected | loud.padding)
    assert torch.equal(found.layers[0].keys[free], plain.layers[0].keys[free])


@pytest.mark.parametrize("name", ["bf16", "int4", "rot3"])
def test_positions_and_biases_come_back_to_the_bit(tmp_path, name):
    def odd(position):  # a third of them not zero, none of them short
        return position.float().add(0.1).sqrt() * (position % 3 == 0)

    cache = context(*RAGGED, bias=odd)
    save(cache, tmp_path / "ctx.kv", kv_dtype=name)
    for found, layer in zip(load(tmp_path / "ctx.kv").layers, cache.layers, strict=True):
        assert torch.equal(found.position, layer.position)
        assert torch.equal(found.bias, layer.bias)
        assert torch.equal(found.modality, layer.modality)


def test_biases_of_zero_take_a_bit_and_all_others_32(tmp_path):
    sparse = save(context((200,), bias=lambda position: 1.5 * (position < 10)), tmp_path / "a.kv")
    biased = sparse.layers[0].biased
    assert 0 < biased <= 10
    assert sparse.tensors["layers.0.bias"].shape == (biased,)
    assert sparse.tensors["layers.0.is_biased"].shape == (25,)
    full = save(context((200,), bias=lambda position: 1.5 + position), tmp_path / "b.kv")
    assert (full.layers[0].biased, full.tensors["layers.0.bias"].shape) == (None, (200,))
    assert "layers.0.is_biased" not in full.tensors
    none = save(context((200,), bias=lambda position: 0.0 * position), tmp_path / "c.kv")
    assert load(tmp_path / "c.kv").layers[0].bias.abs().max() == 0
    assert none.layers[0].biased == 0


def test_positions_of_a_tenth_of_the_tokens_take_six_bits_instead_of_32(tmp_path):
    cache = context((30, 30, 30, 30))
    header = save(cache, tmp_path / "ctx.kv")
    entry = header.tensors["layers.0.position"]
    assert entry.end - entry.start <= 120 * (2 + 3.33) / 8 + 2


def bytes_of(header, *suffixes):
    return sum(entry.end - entry.start for name, entry in header.tensors.items() if name.endswith(suffixes))


@pytest.mark.parametrize(("name", "bits_per_number"), [("int8", 8), ("int4", 4), ("int3", 3), ("rot2", 2), ("fp8", 8)])
def test_codes_take_their_bits_and_scales_little(tmp_path, name, bits_per_number):
    cache = context((300, 256), (200, 199), head_size=64)
    header = save(cache, tmp_path / "ctx.kv", kv_dtype=name)
    coarse = sum(sum(layer.coarse) for layer in header.layers)
    assert bytes_of(header, "keys", "values") == pytest.approx(2 * coarse * 64 * bits_per_number / 8, abs=24)
    scales = {"rot2": 16 / 64, "fp8": 0.01}.get(
        name, 32 / 64 * 1.2
    )  # a norm of a slot, or step and least of 64 numbers
    assert 8 * bytes_of(header, ".steps", ".norms", ".scale") <= 2 * coarse * 64 * scales
    mean = (coarse * (bits_per_number + scales) + header.num_exact * 16) / (coarse + header.num_exact)
    assert header.bits_per_number == pytest.approx(mean, rel=0.03)


def test_int4_is_less_than_a_third_of_bf16(tmp_path):
    cache = replace(context((300, 300), (300, 290), head_size=128))
    plain = replace(cache, modality=torch.zeros_like(cache.modality))
    text = tuple(replace(layer, modality=torch.zeros_like(layer.modality)) for layer in cache.layers)
    plain = replace(plain, layers=text)
    sizes = {name: save(plain, tmp_path / name, kv_dtype=name) for name in ("bf16", "int4")}
    assert file_size(plain, "int4").tensors < 0.31 * file_size(plain, "bf16").tensors
    assert sizes["int4"].file_bytes < 0.32 * sizes["bf16"].file_bytes
    assert sizes["int4"].full_bytes == sizes["bf16"].full_bytes  # of the 16-bit cache


@pytest.mark.parametrize("name", COARSE)
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, 1e38])
def test_numbers_that_few_bits_cannot_hold_are_refused(tmp_path, name, wrong):
    cache = context((20,))
    cache.layers[0].values[0, 10, 3] = wrong
    with pytest.raises(UsageError, match=r"values of up to .* do not fit less than 16 bits"):
        save(cache, tmp_path / "ctx.kv", kv_dtype=name)
    assert list(tmp_path.iterdir()) == []


def test_rounded_keys_are_those_of_the_file_and_values_stay():
    layer = context((130, 90)).layers[0]
    found = rounded_keys(layer, PACKINGS["int3"], TOKENS)
    assert torch.equal(found.keys, rounded(context((130, 90)), PACKINGS["int3"]).layers[0].keys)
    assert torch.equal(found.values, layer.values)


@pytest.mark.parametrize("name", PACKINGS)
def test_a_full_context_with_its_evidence_survives_in_every_precision(tmp_path, name):
    cache = random_context()
    save(cache, tmp_path / "ctx.kv", kv_dtype=name)
    found = load(tmp_path / "ctx.kv", dtype=torch.float32)
    assert_equal(found.evidence, cache.evidence)
    assert_equal(found.layers, rounded(cache, PACKINGS[name]).layers)


LIES = {
    "another group": (
        lambda d: d["kv_options"].update(group=32),
        r"steps: BF16 \[2, 4, 20\] in 320 bytes, expected",
    ),
    "no group": (lambda d: d["kv_options"].clear(), r"\[\] of int4, expected \['group'\]"),
    "groups of nothing": (lambda d: d["kv_options"].update(group=0), "groups of 1 to 65536"),
    "huge groups": (lambda d: d["kv_options"].update(group=2**40), "groups of 1 to 65536"),
    "one more option": (lambda d: d["kv_options"].update(seed=0), r"\['group', 'seed'\] of int4"),
    "text for a group": (lambda d: d["kv_options"].update(group="64"), "expected int, found '64'"),
    "other bits": (lambda d: d.update(kv_dtype="int3"), r"layers\.0\.keys: U8"),
    "eight bits": (lambda d: d.update(kv_dtype="int8"), r"layers\.0\.keys: U8"),
    "another codec": (lambda d: d.update(kv_dtype="rot4", kv_options={}), "keys.steps has no place|norms"),
    "slots said to be exact": (lambda d: d["layers"][0].update(exact=[0] * 4), "keys.steps: BF16 .* expected BF16"),
    "more exact slots": (lambda d: d["layers"][0]["exact"].__setitem__(0, 40), "steps: BF16 .* expected BF16"),
    "exact slots of another head": (
        lambda d: d["layers"][0].update(exact=[d["layers"][0]["exact"][i] for i in (3, 1, 2, 0)]),
        "steps: BF16|other slots are kept in 16 bits",
    ),
    "another head size": (lambda d: d["layers"][0].update(head_size=21), "steps: BF16 .* expected BF16"),
    "heads the other way round": (
        lambda d: d["layers"][0].update(lengths=d["layers"][0]["lengths"][::-1], exact=d["layers"][0]["exact"][::-1]),
        "steps: BF16|other slots are kept|not one of the 300 tokens|do not increase",
    ),
}


@pytest.mark.parametrize("what", LIES)
def test_a_header_that_lies_about_packed_slots_is_refused(tmp_path, what):
    lie, message = LIES[what]
    save(context(*RAGGED), tmp_path / "ctx.kv", kv_dtype="int4")
    forge(tmp_path / "ctx.kv", lambda table, document: lie(document))
    with pytest.raises(CorruptFileError, match=message):
        load(tmp_path / "ctx.kv")


def test_a_head_size_without_slots_to_show_for_it_costs_no_rotation(tmp_path):
    save(context((0, 0)), tmp_path / "ctx.kv", kv_dtype="rot4")
    forge(tmp_path / "ctx.kv", lambda table, document: document["layers"][0].update(head_size=10**9))
    with pytest.raises(CorruptFileError, match="at most 1024 are rotated"):
        read_header(tmp_path / "ctx.kv")


@pytest.mark.parametrize(
    ("kv_dtype", "name", "damage", "message"),
    [
        ("int4", "keys.steps", lambda old: b"\xff\x7f" * (len(old) // 2), "keys are not finite"),
        ("rot4", "values.norms", lambda old: b"\x80\x7f" * (len(old) // 2), "values are not finite"),
        ("fp8", "keys", lambda old: b"\x7f" * len(old), "keys are not finite"),
        ("fp8", "keys.scale", lambda old: b"\xff" * len(old), "keys are not finite"),
        ("int4", "exact", lambda old: b"\xff" * len(old), "keys are not finite"),
        ("int4", "is_exact", lambda old: bytes(len(old)), "other slots are kept in 16 bits"),
        ("int4", "is_biased", lambda old: bytes(len(old)), "0 slots have a bias, expected"),
        ("int4", "position", lambda old: b"\xff" * len(old), "increasing numbers, expected"),
    ],
)
def test_packed_tensors_that_cannot_be_are_refused_though_their_checksum_fits(
    tmp_path, kv_dtype, name, damage, message
):
    path = tmp_path / "ctx.kv"
    header = save(context((65, 0, 130), bias=lambda position: 1.5 * (position < 50)), path, kv_dtype=kv_dtype)
    entry = header.tensors[f"layers.0.{name}"]
    old = path.read_bytes()[entry.start : entry.end]
    resign(path, f"layers.0.{name}", damage(old))
    assert read_header(path).checksums[f"layers.0.{name}"] == xxh3_128_hexdigest(damage(old))
    with pytest.raises(CorruptFileError, match=rf"layers\.0: .*{message}"):
        load(path)


@pytest.mark.parametrize("kv_dtype", COARSE)
def test_a_changed_byte_in_any_packed_tensor_is_found(tmp_path, kv_dtype):
    path = tmp_path / "ctx.kv"
    header = save(context((65, 2), bias=lambda position: 1.5 * (position < 50)), path, kv_dtype=kv_dtype)
    good = path.read_bytes()
    for name, entry in header.tensors.items():
        bad = bytearray(good)
        bad[entry.end - 1] ^= 1
        path.write_bytes(bad)
        with pytest.raises(CorruptFileError, match=f"tensor {name} is damaged"):
            load(path)


def test_the_mask_of_exact_slots_is_one_bit_a_slot(tmp_path):
    cache = context((65, 3))
    header = save(cache, tmp_path / "ctx.kv", kv_dtype="int4")
    entry = header.tensors["layers.0.is_exact"]
    stored = torch.tensor(list((tmp_path / "ctx.kv").read_bytes()[entry.start : entry.end]), dtype=torch.uint8)
    layer = cache.layers[0]
    assert bits.unpack(stored, 1, 68).bool().tolist() == layer.protected[~layer.padding].tolist()

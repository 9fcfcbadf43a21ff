import os
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmm.bench.made_up import full_context
from flowmm.byte_planner import RESERVE, Job, compressed, limit_of, plan_bytes, precision_for
from flowmm.compress import compress
from flowmm.context import Modality
from flowmm.errors import UsageError
from flowmm.filling import plain_bytes
from flowmm.packing import PACKINGS
from flowmm.plan import CompressOptions
from flowmm.profiles import load_method, load_profile
from flowmm.store import save

PROFILE = load_profile("default")
METHOD = load_method("random")


def made_up(tokens):
    made = full_context(tokens)
    modality = (torch.arange(tokens) < 2).to(torch.uint8) * Modality.TEMPLATE
    layers = [replace(layer, modality=modality[layer.position.long()]) for layer in made.layers]
    return replace(made, modality=modality, layers=tuple(layers))


@pytest.fixture(scope="module")
def cache():
    return made_up(4000)


SMALL = made_up(500)
SMALLEST = 9000  # bytes; header, sinks and template alone are more


def compress_at(cache):
    return lambda keep, name: compress(cache, METHOD, profile=PROFILE, keep=keep, packing=PACKINGS[name])


def test_the_full_cache_in_16_bits_is_what_reductions_are_shares_of(cache):
    assert plain_bytes(cache) == 2 * 2 * 2 * 4000 * 8 * 2
    assert limit_of(cache, None, 0.95) == plain_bytes(cache) // 20
    assert limit_of(cache, 1234, None) == 1234


def test_the_precision_is_the_narrowest_of_the_table_that_holds_for_so_few_bytes(cache):
    profile = PROFILE.model_copy(update={"precision": {"int8": 0.5, "int4": 0.1}})
    full = plain_bytes(cache)
    found = [precision_for(cache, round(share * full), profile) for share in (0.05, 0.1, 0.3, 0.9)]
    assert found == ["int4", "int4", "int8", "bf16"]


@pytest.mark.parametrize("name", [None, "bf16", "fp8", "int3", "rot2"])
@pytest.mark.parametrize("share", [0.08, 0.3])
def test_a_file_is_never_larger_than_allowed_and_little_smaller(cache, tmp_path, name, share):
    limit = round(share * plain_bytes(cache))
    planned = plan_bytes(cache, limit, name, PROFILE, compress_at(cache))
    header = save(planned.cache, tmp_path / "ctx.kv", kv_dtype=planned.kv_dtype)
    assert header.file_bytes <= limit
    assert header.file_bytes > 0.98 * limit - RESERVE or planned.cache.keep == 1
    assert planned.kv_dtype in planned.cache.provenance.compression.planned


def test_what_fits_as_it_is_keeps_every_slot(cache):
    planned = plan_bytes(cache, 2 * plain_bytes(cache), "bf16", PROFILE, compress_at(cache))
    assert planned.cache.keep == 1


def test_too_few_bytes_are_refused_with_what_is_needed(cache):
    with pytest.raises(UsageError, match=r"^3000 bytes do not hold this context: at least \d+ bytes are needed"):
        plan_bytes(cache, 3000, "bf16", PROFILE, compress_at(cache))


@settings(deadline=None, max_examples=60)
@given(
    limit=st.integers(SMALLEST, round(1.3 * plain_bytes(SMALL))),
    name=st.sampled_from([None, "bf16", "int8", "int4", "rot2"]),
)
def test_no_odd_limit_is_exceeded_on_the_disk_and_what_could_fit_does(limit, name, tmp_path_factory):
    path = tmp_path_factory.mktemp("odd") / "ctx.kv"
    options = CompressOptions(max_bytes=limit)
    try:
        made = compressed(SMALL, Job(METHOD, PROFILE, options, name, nobody, as_it_is))
    except UsageError as error:
        needed = int(error.what.split("at least ")[1].split()[0])
        assert limit < needed < SMALLEST + 12_000
        made = compressed(SMALL, Job(METHOD, PROFILE, CompressOptions(max_bytes=needed), name, nobody, as_it_is))
        limit = needed
    save(made.cache, path, kv_dtype=made.kv_dtype, most_bytes=made.most_bytes)
    assert os.path.getsize(path) <= limit


def nobody(phase, done, total):
    pass


def as_it_is(small, _name):
    return small


def test_what_is_added_later_and_was_not_reserved_costs_slots_not_the_limit(cache, tmp_path):
    def finish(small, _name):
        seconds = {f"phase {number}": 0.125 for number in range(200)}  # 4 kB, more than what is reserved
        return replace(small, provenance=replace(small.provenance, seconds=seconds))

    limit = round(0.11 * plain_bytes(cache))
    alone = plan_bytes(cache, limit, "int4", PROFILE, compress_at(cache))
    made = compressed(cache, Job(METHOD, PROFILE, CompressOptions(max_bytes=limit), "int4", nobody, finish))
    header = save(made.cache, tmp_path / "ctx.kv", kv_dtype=made.kv_dtype, most_bytes=made.most_bytes)
    assert len(header.provenance.seconds) == 200
    assert 0.98 * limit < header.file_bytes <= limit
    assert made.cache.keep < alone.cache.keep


def test_what_grows_with_every_round_is_refused(cache):
    rounds = []

    def finish(small, _name):
        rounds.append(None)
        seconds = {f"phase {number}": 0.125 for number in range(200 * len(rounds) ** 2)}
        return replace(small, provenance=replace(small.provenance, seconds=seconds))

    options = CompressOptions(max_bytes=round(0.1 * plain_bytes(cache)))
    with pytest.raises(UsageError, match="do not hold this context"):
        compressed(cache, Job(METHOD, PROFILE, options, "int4", nobody, finish))
    assert len(rounds) <= 3


def test_a_file_that_would_be_too_large_does_not_take_its_name(cache, tmp_path):
    (tmp_path / "ctx.kv").write_bytes(b"old")
    with pytest.raises(UsageError, match=r"would have \d+ bytes, at most 1000 are allowed"):
        save(replace(cache, evidence=None), tmp_path / "ctx.kv", force=True, most_bytes=1000)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_what_is_not_written_leaves_room_for_slots(cache):
    def bare(small):
        return replace(small, provenance=replace(small.provenance, compression=None))

    limit = 12_000
    kept = [
        plan_bytes(cache, limit, "int8", PROFILE, compress_at(cache), bare=one).cache.keep
        for one in (lambda small: small, bare)
    ]
    assert kept[0] < kept[1]

from dataclasses import replace

import pytest
import torch

from flowmm.bench.made_up import full_context
from flowmm.byte_planner import RESERVE, limit_of, plain_bytes, plan_bytes, precision_for
from flowmm.compress import compress
from flowmm.context import Modality
from flowmm.errors import UsageError
from flowmm.packing import PACKINGS
from flowmm.profiles import load_method, load_profile
from flowmm.store import save

PROFILE = load_profile("default")
METHOD = load_method("random")


@pytest.fixture(scope="module")
def cache():
    made = full_context(4000)
    modality = (torch.arange(4000) < 2).to(torch.uint8) * Modality.TEMPLATE
    layers = [replace(layer, modality=modality[layer.position.long()]) for layer in made.layers]
    return replace(made, modality=modality, layers=tuple(layers))


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
    assert header.file_bytes <= limit - RESERVE + 200  # what was chosen is written down
    assert header.file_bytes > 0.95 * limit - RESERVE or planned.cache.keep == 1
    assert planned.kv_dtype in planned.cache.provenance.compression.planned


def test_what_fits_as_it_is_keeps_every_slot(cache):
    planned = plan_bytes(cache, 2 * plain_bytes(cache), "bf16", PROFILE, compress_at(cache))
    assert planned.cache.keep == 1


def test_too_few_bytes_are_refused_with_what_is_needed(cache):
    with pytest.raises(UsageError, match=r"^3000 bytes do not hold this context: at least \d+ bytes are needed"):
        plan_bytes(cache, 3000, "bf16", PROFILE, compress_at(cache))

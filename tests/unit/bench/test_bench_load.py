"""The structure and the sums of `bench load`, on two files of three megabytes."""

import json

import pytest
import torch

from flowmm.bench.load import bench_load, random_cache
from flowmm.bench.load_report import LoadCase
from flowmm.errors import UnknownNameError, UsageError
from flowmm.packing import PACKINGS
from flowmm.store import file_size
from tests.e2e.process import flowmm


@pytest.fixture(scope="module")
def report():
    return bench_load(megabytes=3, plain_megabytes=3, repeat=3)


def test_both_files_are_measured(report):
    found = report.as_dict()
    assert (found["repeat"], found["threads"]) == (3, torch.get_num_threads())
    assert (found["packed"]["kv_dtype"], found["plain"]["kv_dtype"]) == ("int4", "bf16")
    for one in (found["packed"], found["plain"]):
        assert 2.6e6 < one["file_bytes"] < 3.4e6
        assert 0 < one["map_seconds"] < one["read_seconds"]
        assert min(one["unpack_seconds"], one["load_seconds"]) > 0
        assert one["copy_seconds"] < one["unpack_seconds"]


def test_four_bits_are_unpacked_to_three_to_five_times_as_many_bytes(report):
    assert 3 < report.packed.unpacked_bytes / report.packed.file_bytes < 5
    assert 0.9 < report.plain.unpacked_bytes / report.plain.file_bytes < 1.3  # padding of the shorter heads


def test_the_ratios_are_of_the_medians():
    case = LoadCase("int4", 1, 4, 6.0, 4.0, 1.0, 3.0, 2.0)
    assert (case.as_dict()["load_over_read"], case.as_dict()["unpack_over_copy"]) == (1.5, 1.5)


@pytest.mark.parametrize("kv_dtype", PACKINGS)
def test_a_random_cache_is_about_as_large_as_was_asked_in_every_precision(kv_dtype):
    cache = random_cache(kv_dtype, 3, 0)
    assert file_size(cache, kv_dtype).tensors == pytest.approx(3e6, rel=0.1)
    assert 0.2 < cache.keep < 0.3
    for layer in cache.layers:
        assert len(set(layer.lengths.tolist())) > 1
        assert layer.protected.sum(1).tolist() == [4] * 4  # sinks
        assert 0.3 < float((layer.bias != 0).sum() / layer.num_slots) < 0.5


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"megabytes": 0}, UsageError, "--megabytes 0"),
        ({"plain_megabytes": 0}, UsageError, "--plain-megabytes 0"),
        ({"repeat": 0}, UsageError, "--repeat 0"),
        ({"kv_dtype": "int5"}, UnknownNameError, "no kv dtype named 'int5'"),
    ],
)
def test_what_cannot_be_is_refused(options, error, what):
    with pytest.raises(error, match=what):
        bench_load(**options)


def test_the_command_prints_json_and_leaves_nothing_behind(tmp_path):
    command = ("bench", "load", "--megabytes", "1", "--plain-megabytes", "1", "--kv-dtype", "rot3", "--repeat", "1")
    done = flowmm(tmp_path, *command, "--json", TMPDIR=str(tmp_path))
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["packed"]["kv_dtype"] == "rot3"
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []

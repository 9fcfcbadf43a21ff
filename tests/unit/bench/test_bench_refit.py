"""The structure and the sums of `bench refit`, on tiny layers."""

import pytest

from flowmm.bench.refit import bench_refit, random_layer
from flowmm.bench.refit_report import Sizes
from flowmm.errors import UsageError
from flowmm.observing import Observe

SMALL = {"layers": 3, "heads": 2, "slots": 320, "size": 16, "group": 2, "keep": 0.2}


@pytest.fixture(scope="module")
def report():
    return bench_refit(**SMALL)


def test_the_seconds_of_layers_add_up(report):
    found = report.as_dict()
    assert len(found["per_layer"]) == found["layers"] == 3
    for stage in ("refit_seconds", "select_seconds"):
        assert found[stage] == pytest.approx(sum(layer[stage] for layer in found["per_layer"]))
        assert found[stage] > 0


def test_the_report_says_what_was_measured(report):
    found = report.as_dict()
    assert {name: found[name] for name in SMALL} == SMALL
    assert (found["method"], found["dtype"]) == ("attention-matching", "bfloat16")
    assert found["references"] == 320  # the method asks for 512; there is one a slot at most


def test_the_refit_has_something_to_do_and_does_not_make_it_worse(report):
    for layer in report.layers:
        assert layer.error_after < layer.error_before
        assert 0 < layer.heads_refitted <= 2


def test_neighbours_of_a_random_layer_are_alike_and_queries_look_for_their_own():
    layer, evidence = random_layer(Sizes(1, 2, 320, 64, 2), Observe(tail=16, sample=8), 0)
    keys = layer.keys.float()
    near = (keys[:, 0:320:16] * keys[:, 1:320:16]).sum(-1).mean()
    far = (keys[:, 0:160:16] * keys[:, 160:320:16]).sum(-1).mean()
    assert near > 5 * abs(far)
    assert evidence.queries.shape == (4, 16, 64)
    assert evidence.sample.shape == (4, 8, 64)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"layers": 0}, "--layers 0"),
        ({"keep": 2.0}, "--keep 2.0"),
        ({"method": "h2o"}, "method h2o refits nothing"),
    ],
)
def test_what_cannot_be_is_refused(options, what):
    with pytest.raises(UsageError, match=what):
        bench_refit(**options)

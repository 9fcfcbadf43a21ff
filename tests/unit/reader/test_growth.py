from random import Random

import pytest
import torch

from flowmm.hf.reader_model import Architecture
from flowmm.reader.batches import draw_batch
from flowmm.reader.curriculum import TRACKS
from flowmm.reader.growth import grown
from flowmm.reader.network import Trainee

SIZES = {"hidden": 64, "heads": 2, "shared_heads": 1, "vision_width": 32, "rope_sections": (2, 2, 12)}
SMALL = Architecture(**SIZES, layers=1, inner=64, vision_depth=1)


def test_a_larger_model_computes_what_the_smaller_one_did():
    small = Trainee(SMALL, 1)
    large = Trainee(Architecture(**SIZES, layers=2, inner=96, vision_depth=3, vision_ratio=6), 2)
    large.load_state_dict(grown(small.state_dict(), large.state_dict()))
    rng = Random(0)
    batch = draw_batch(rng, TRACKS["mixed"][0](rng), 1)
    with torch.no_grad():
        before, after = small.see(batch), large.see(batch)
        torch.testing.assert_close(after, before)
        logits, _ = small.answer(batch, before, train=False)
        torch.testing.assert_close(large.answer(batch, after, train=False)[0], logits)


def test_what_is_new_learns():
    small, large = Trainee(SMALL, 1), Trainee(Architecture(**SIZES, layers=4, inner=96, vision_depth=2), 2)
    large.load_state_dict(grown(small.state_dict(), large.state_dict()))
    rng = Random(0)
    large.outcome(draw_batch(rng, TRACKS["mixed"][0](rng), 1)).loss.backward()
    for way_out in ("visual.blocks.1.attn.proj.weight", "language_model.layers.3.mlp.down_proj.weight"):
        assert float(large.get_parameter(f"model.model.{way_out}").grad.abs().max()) > 0


def test_a_part_without_a_place_is_an_error():
    with pytest.raises(ValueError, match="no place for b"):
        grown({"a": torch.zeros(2), "b": torch.zeros(3)}, {"a": torch.zeros(2), "b": torch.zeros(2)})

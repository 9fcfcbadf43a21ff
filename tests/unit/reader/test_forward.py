import copy
import math
from random import Random

import pytest
import torch
from PIL import Image

from flowmm.hf.reader_model import Architecture, export
from flowmm.reader import fonts, forward, tokens
from flowmm.reader.batches import collate
from flowmm.reader.contexts import draw_context
from flowmm.reader.forward import Looks
from flowmm.reader.layouts import Layout, Segment
from flowmm.reader.network import Trainee
from flowmm.reader.pages import PageStyle

LAYOUT = Layout(
    (Segment(3, 2), Segment(3, 0, page=True), Segment(2, 1)),
    questions=2,
    absent=1,
    links=2,
    rows=5,
    columns=9,
    style=PageStyle(fonts.standard()),
)


@pytest.fixture(scope="module")
def net() -> Trainee:
    return Trainee(Architecture(layers=4, vision_depth=2), seed=0)


def test_the_fused_forward_computes_what_transformers_computes(net):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    batch = collate([draw_context(Random(0), LAYOUT)], LAYOUT)
    size = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 1000}
    processor = Qwen2VLImageProcessorPil(image_mean=[0.5] * 3, image_std=[0.5] * 3, size=size)
    images = processor([Image.fromarray(p) for p in batch.pixels], return_tensors="pt")
    ids = torch.from_numpy(batch.ids)
    kinds = (ids == tokens.IMAGE_PAD).int()
    with torch.no_grad():
        positions, _ = net.model.model.get_rope_index(ids, kinds, images["image_grid_thw"])
        expected = net.model(input_ids=ids, mm_token_type_ids=kinds, **images).logits[0, batch.predicts]
        found, _ = net.answer(batch, net.see(batch), train=False)
    assert (positions.numpy() == batch.positions).all()
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0.02)  # one of them in bfloat16


def test_a_context_does_not_see_the_padding_of_its_batch(net):
    contexts = [draw_context(Random(seed), LAYOUT) for seed in (1, 2)]
    with torch.no_grad():
        alone = net.outcome(collate(contexts[:1], LAYOUT), train=False)
        together = net.outcome(collate(contexts, LAYOUT), train=False)
    assert together.exact[: len(alone.exact)] == alone.exact


def test_blocks_of_queries_give_what_one_block_gives():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, forward._BLOCK + 40, 2, 8)
    found = forward._attend(query, key, value, causal=True)
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (query, key, value)), is_causal=True
    )
    torch.testing.assert_close(found, expected.transpose(1, 2).flatten(2))


def test_every_trained_weight_learns_from_a_mixed_batch(net):
    batch = collate([draw_context(Random(3), LAYOUT)], LAYOUT)
    net.zero_grad()
    net.outcome(batch).loss.backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_an_export_holds_the_weights_and_no_training_heads(net, tmp_path):
    from safetensors.torch import load_file

    export(net.model, tmp_path / "weights")
    saved = load_file(tmp_path / "weights" / "model.safetensors")
    assert all(tensor.dtype == torch.bfloat16 for tensor in saved.values())
    assert sum(t.numel() for t in saved.values()) == sum(p.numel() for p in net.model.parameters())
    names = {path.name for path in (tmp_path / "weights").iterdir()}
    assert {"config.json", "tokenizer.json", "chat_template.jinja", "preprocessor_config.json"} <= names


def test_even_attention_costs_nothing_and_the_head_that_is_told_is_meant(net):
    layer = copy.deepcopy(net.model.model.language_model.layers[0])
    attention = layer.self_attn
    x = torch.randn(1, 6, 256)
    rotation = (torch.ones(1, 6, 1, 32), torch.zeros(1, 6, 1, 32))
    with torch.no_grad():
        for projection in (attention.q_proj, attention.k_proj):
            projection.bias.zero_()
        attention.q_proj.weight[2 * 64 : 3 * 64] = 0  # query head 2 looks at everything alike

    def loss(head: int, seen: list[int], *, even: bool = True) -> float:
        target = torch.zeros(1, 1, 6, dtype=torch.bool)
        target[0, 0, seen] = True
        looks = Looks(0, head, even, torch.tensor([[5]]), target, torch.tensor([4]))
        return forward._look_loss(x, layer, rotation, looks).item()

    assert loss(2, [0, 1, 2, 3], even=False) == pytest.approx(0, abs=1e-5)  # all that stands before the questions
    assert loss(2, [0, 1, 2, 3, 4, 5]) == pytest.approx(0, abs=1e-5)  # and the question up to the place itself
    assert loss(2, [0, 3]) == pytest.approx(math.log(3), abs=1e-5)
    assert loss(1, [0, 1, 2, 3]) > 1e-3

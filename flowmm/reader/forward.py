"""A training forward of the reader in bfloat16 with fused projections.

It computes what transformers computes (``tests/unit/reader`` compares them) from the same parameters, about three
times as fast on a CPU: autocast would cast every activation anew for each linear layer, and separate projections are
too small to keep the cores busy. The model is passed as the transformers module; nothing here imports transformers.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-6  # of every norm of this architecture
_BLOCK = 256
Rotation = tuple[Tensor, Tensor]


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate ``[..., D]`` by cosine and sine tables ``[..., D / 2]``."""
    cos, sin = rotation
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def _attend(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
    """Attention of ``[B, L, H, D]`` heads by plain products, giving ``[B, L, H * D]``.

    On a CPU in bfloat16 this is 1.4 to 4 times as fast as the fused kernel, whose backward is slow. Causal attention
    goes in blocks of queries, each with the keys up to its end only.
    """
    batch, length, heads, size = query.shape
    q, k, v = (x.transpose(1, 2).reshape(batch * heads, length, size) for x in (query, key, value))
    block, mixed = _BLOCK if causal else length, []
    for start in range(0, length, block):
        end = min(start + block, length)
        future = q.new_zeros(end - start, end)
        if causal:
            future = future.fill_(-torch.inf).triu(start + 1)
        scores = torch.baddbmm(future, q[:, start:end], k[:, :end].transpose(1, 2), alpha=size**-0.5)
        mixed.append(scores.softmax(-1) @ v[:, :end])
    joined = torch.cat(mixed, 1) if len(mixed) > 1 else mixed[0]
    return joined.view(batch, heads, length, size).transpose(1, 2).reshape(batch, length, -1)


@dataclass(frozen=True)
class Looks:
    """What one head should look at: ``source`` ``[B, Q]`` places, ``target`` ``[B, Q, L]``, ``lengths`` ``[B]``.

    ``even`` wants the same attention for each of the tokens, so that what comes out tells how many they are.
    """

    layer: int
    head: int
    even: bool
    source: Tensor
    target: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class TextOutput:
    """Final hidden states, what some layers are given, both ``[B, L, D]``; losses of supervised heads by name."""

    last: Tensor
    given: dict[int, Tensor]
    look_losses: dict[str, Tensor]


def _look_loss(x: Tensor, layer: Any, rotation: Rotation, looks: Looks) -> Tensor:
    """Cross entropy of a head's attention against the right tokens of the context."""
    attention = layer.self_attn
    size, group = attention.head_dim, attention.num_key_value_groups
    h = F.rms_norm(x, (x.shape[-1],), layer.input_layernorm.weight.to(x.dtype), EPS)

    def project(linear: Any, head: int, inputs: Tensor) -> Tensor:
        rows = slice(head * size, (head + 1) * size)
        return F.linear(inputs, linear.weight[rows].to(x.dtype), linear.bias[rows].to(x.dtype))

    rows = torch.arange(len(x), device=x.device)[:, None]
    known = looks.source >= 0
    source = looks.source.clamp(min=0)
    cos, sin = rotation[0][:, :, 0], rotation[1][:, :, 0]
    query = rotate(project(attention.q_proj, looks.head, h[rows, source]), (cos[rows, source], sin[rows, source]))
    key = rotate(project(attention.k_proj, looks.head // group, h), (cos, sin))
    scores = (query @ key.transpose(1, 2)).float() * size**-0.5
    place = torch.arange(x.shape[1], device=x.device)
    unseen = place > source[..., None]
    if not looks.even:  # what is paid to questions blurs no share that tells a number
        unseen = unseen | (place >= looks.lengths[:, None, None])
    scores = scores.masked_fill(unseen, -1e4)
    paid = scores.log_softmax(-1)
    if looks.even:
        number = looks.target.sum(-1)
        right = paid.masked_fill(~looks.target, 0).sum(-1) / number.clamp(min=1) + number.clamp(min=1).log()
    else:
        right = paid.masked_fill(~looks.target, -1e4).logsumexp(-1)
    missed: Tensor = -right[known].mean()
    return missed


def _text_layer(x: Tensor, layer: Any, rotation: Rotation) -> Tensor:
    attention, mlp, dtype = layer.self_attn, layer.mlp, x.dtype
    batch, length, width = x.shape
    size = attention.head_dim
    queries = attention.q_proj.out_features // size
    shared = attention.k_proj.out_features // size
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    weight = torch.cat([p.weight for p in projections]).to(dtype)
    bias = torch.cat([p.bias for p in projections]).to(dtype)
    h = F.rms_norm(x, (width,), layer.input_layernorm.weight.to(dtype), EPS)
    h = F.linear(h, weight, bias).view(batch, length, queries + 2 * shared, size)
    turned = rotate(h[:, :, : queries + shared], rotation)

    def spread(heads: Tensor) -> Tensor:
        groups = heads[:, :, :, None].expand(batch, length, shared, queries // shared, size)
        return groups.reshape(batch, length, queries, size)

    keys, values = spread(turned[:, :, queries:]), spread(h[:, :, queries + shared :])
    mixed = _attend(turned[:, :, :queries], keys, values, causal=True)
    x = x + F.linear(mixed, attention.o_proj.weight.to(dtype))
    h = F.rms_norm(x, (width,), layer.post_attention_layernorm.weight.to(dtype), EPS)
    gate_up = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]).to(dtype)
    gate, up = F.linear(h, gate_up).chunk(2, -1)
    return x + F.linear(F.silu(gate) * up, mlp.down_proj.weight.to(dtype))


def read_text(
    model: Any, embedded: Tensor, positions: Tensor, looks: Mapping[str, Looks], *, given: Collection[int]
) -> TextOutput:
    """Run the language model.

    Args:
        model: the transformers language model.
        embedded: ``[B, L, D]`` token embeddings with image embeddings in their places.
        positions: ``[3, B, L]``.
        looks: supervision of heads, by name.
        given: the layers whose input is wanted.
    """
    x = embedded.to(torch.bfloat16)
    cos, sin = model.rotary_emb(embedded, positions)
    half = cos.shape[-1] // 2
    rotation = (cos[:, :, None, :half].to(x.dtype), sin[:, :, None, :half].to(x.dtype))
    inputs: dict[int, Tensor] = {}
    missed: dict[str, Tensor] = {}
    for index, layer in enumerate(model.layers):
        if index in given:
            inputs[index] = x
        here = {name: one for name, one in looks.items() if one.layer == index}
        missed.update({name: _look_loss(x, layer, rotation, one) for name, one in here.items()})
        x = _text_layer(x, layer, rotation)
    last = F.rms_norm(x, (x.shape[-1],), model.norm.weight.to(x.dtype), EPS)
    return TextOutput(last, inputs, missed)


def patches(pixels: Tensor) -> Tensor:
    """``[P, height, width, 3]`` bytes to ``[P, patches, 588]`` in the image processor's order, in -1..1."""
    number, height, width, _ = pixels.shape
    grid = pixels.view(number, height // 28, 2, 14, width // 28, 2, 14, 3)
    flat = grid.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(number, height * width // 196, 588)
    return flat.to(torch.bfloat16) / 127.5 - 1


def _vision_layer(x: Tensor, block: Any, rotation: Rotation) -> Tensor:
    number, length, width = x.shape
    heads = block.attn.num_heads
    size = width // heads

    def norm(layer: Any, inputs: Tensor) -> Tensor:
        return F.layer_norm(inputs, (width,), layer.weight.to(x.dtype), layer.bias.to(x.dtype), EPS)

    def linear(layer: Any, inputs: Tensor) -> Tensor:
        return F.linear(inputs, layer.weight.to(x.dtype), layer.bias.to(x.dtype))

    h = linear(block.attn.qkv, norm(block.norm1, x)).view(number, length, 3 * heads, size)
    turned = rotate(h[:, :, : 2 * heads], rotation)
    mixed = _attend(turned[:, :, :heads], turned[:, :, heads:], h[:, :, 2 * heads :], causal=False)
    x = x + linear(block.attn.proj, mixed)
    h = linear(block.mlp.fc1, norm(block.norm2, x))
    return x + linear(block.mlp.fc2, F.silu(h * 1.702) * (1 / 1.702))  # quick GELU, fewer passes


def see(model: Any, pixels: Tensor, rotation: Rotation) -> Tensor:
    """Run the vision tower: ``[P, height, width, 3]`` bytes to ``[P, cells, D]`` embeddings."""
    kernel = model.patch_embed.proj.weight
    # An image is two equal frames, so the two halves of the kernel act as their sum.
    weight = (kernel[:, :, 0] + kernel[:, :, 1]).flatten(1).to(torch.bfloat16)
    x = F.linear(patches(pixels), weight)
    number, length, width = x.shape
    half = (rotation[0].to(x.dtype), rotation[1].to(x.dtype))
    for block in model.blocks:
        x = _vision_layer(x, block, half)
    merger = model.merger
    first, second = merger.mlp[0], merger.mlp[2]
    h = F.layer_norm(x, (width,), merger.ln_q.weight.to(x.dtype), merger.ln_q.bias.to(x.dtype), EPS)
    h = h.reshape(number, length // 4, 4 * width)
    h = F.gelu(F.linear(h, first.weight.to(x.dtype), first.bias.to(x.dtype)))
    return F.linear(h, second.weight.to(x.dtype), second.bias.to(x.dtype))

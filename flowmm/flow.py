"""How much attention mass crosses between images and text (FlowMM, arXiv 2511.05534), without an attention map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from flowmm.blocks import blocks
from flowmm.context import NUM_SINKS
from flowmm.records import LayerFlow


def mass_on(queries: Tensor, keys: Tensor, indicators: Tensor, scale: float, allowed: Tensor) -> Tensor:
    """The attention mass each query puts on sets of keys: an attention output with V replaced by indicators.

    Args:
        queries: ``[H_q, n, D]``.
        keys: ``[H_kv, m, D]``.
        indicators: ``[m, C]`` bool, the keys of each of C sets; C is at most D.
        scale: what ``q . k`` is multiplied with.
        allowed: ``[n, m]`` bool, which key a query may see.

    Returns:
        ``[H_q, n, C]`` float32, each in 0..1.
    """
    num_kv_heads, num_keys, head_size = keys.shape
    num_queries, num_sets = queries.shape[1], indicators.shape[1]
    # Padded to the head size: the CPU's flash kernel takes values only as wide as the keys.
    values = F.pad(indicators.to(keys.dtype), (0, head_size - num_sets)).expand(num_kv_heads, num_keys, head_size)
    grouped = queries.view(num_kv_heads, -1, num_queries, head_size)
    mass = queries.new_empty(*grouped.shape[:3], num_sets, dtype=torch.float32)
    for rows in blocks(num_queries, 4 * num_keys):  # the kernel turns a bool mask into numbers
        for group in range(grouped.shape[1]):
            output = F.scaled_dot_product_attention(
                grouped[None, :, group, rows], keys[None], values[None], attn_mask=allowed[rows], scale=scale
            )
            mass[:, group, rows] = output[0, :, :, :num_sets].float()
    return mass.view(-1, num_queries, num_sets)


def crossing(queries: Tensor, keys: Tensor, scale: float, allowed: Tensor, visual: Tensor, first: int) -> Tensor:
    """Sums over the queries of a chunk; those of all chunks add up to what :func:`layer_flow` takes.

    Args:
        queries: ``[H_q, n, D]``, of the tokens ``first .. first + n - 1``.
        keys: ``[H_kv, m, D]``, of the tokens ``0 .. m - 1``.
        scale: what ``q . k`` is multiplied with.
        allowed: ``[n, m]`` bool, which key a query may see.
        visual: ``[>= max(m, first + n)]`` bool, which token is visual; all others are text.
        first: index of the first query's token.

    Returns:
        ``[H_q, 6]`` float32: visual queries' mass on text keys, text queries' mass on visual keys, all mass; and the
        same three without the mass on the first ``NUM_SINKS`` keys.
    """
    mass = mass_on(queries, keys, key_sets(visual)[: keys.shape[1]], scale, allowed)
    return crossing_mass(mass, visual[first : first + queries.shape[1]])


def key_sets(visual: Tensor) -> Tensor:
    """``[T, 4]`` bool, the sets of keys that :func:`crossing_mass` asks about, of ``[T]`` bool, which are visual."""
    plain = torch.arange(visual.shape[0], device=visual.device) >= NUM_SINKS
    return torch.stack([visual, ~visual, visual & plain, ~visual & plain], dim=1)


def crossing_mass(mass: Tensor, visual: Tensor) -> Tensor:
    """The sums of :func:`crossing` from what attention itself found.

    Args:
        mass: ``[H_q, n, 4]`` float32, what each query pays to each of :func:`key_sets`.
        visual: ``[n]`` bool, which query is of a visual token.
    """
    on_visual, on_text, on_visual_plain, on_text_plain = mass.unbind(-1)
    rows = visual.float()
    return torch.stack(
        [
            on_text @ rows,
            on_visual @ (1 - rows),
            (on_visual + on_text).sum(1),
            on_text_plain @ rows,
            on_visual_plain @ (1 - rows),
            (on_visual_plain + on_text_plain).sum(1),
        ],
        dim=1,
    )


def layer_flow(sums: Tensor) -> LayerFlow:
    """The shares, averaged over heads, from ``[H_q, 6]`` sums of :func:`crossing`."""
    with_sinks, without = sums[:, :3], sums[:, 3:]
    shares = torch.cat(
        [part[:, :2] / part[:, 2:].clamp_min(torch.finfo(part.dtype).tiny) for part in (with_sinks, without)], dim=1
    )
    return LayerFlow(*shares.mean(0).tolist())


def compared(flow: LayerFlow, without_sinks: bool) -> float:
    """The share of the mass that crosses between modalities, as it is compared with theta."""
    return flow.rho_without_sinks if without_sinks else flow.rho


def layer_strategy(flow: LayerFlow, theta: float, without_sinks: bool) -> str:
    """``cross`` where more than ``theta`` of the mass crosses between modalities, else ``intra``."""
    return "cross" if compared(flow, without_sinks) > theta else "intra"

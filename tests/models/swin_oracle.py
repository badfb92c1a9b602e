# SPDX-License-Identifier: Apache-2.0
"""A Swin transformer in plain formulas: dense attention over the whole map with a mask. Imports nothing of pcperc.

Parameters are asked for by a key (part, stage, block, name), so that the same forward pass serves the names of every
library; ``merge`` is that library's order of the four tokens that patch merging joins.
"""

import torch
import torch.nn.functional as F


def parameter_shapes(channels, depths, heads, window, patch, out_stages):
    """Yield (key, shape) of every parameter."""
    yield ("embed", 0, 0, "conv.weight"), (channels, 3, patch, patch)
    yield ("embed", 0, 0, "conv.bias"), (channels,)
    for affine in ("weight", "bias"):
        yield ("embed", 0, 0, f"norm.{affine}"), (channels,)
    for s, depth in enumerate(depths):
        c = channels * 2**s
        for b in range(depth):
            yield ("block", s, b, "table"), ((2 * window - 1) ** 2, heads[s])
            for name, out, inner in (("qkv", 3 * c, c), ("proj", c, c), ("fc1", 4 * c, c), ("fc2", c, 4 * c)):
                yield ("block", s, b, f"{name}.weight"), (out, inner)
                yield ("block", s, b, f"{name}.bias"), (out,)
            for norm in ("norm1", "norm2"):
                yield ("block", s, b, f"{norm}.weight"), (c,)
                yield ("block", s, b, f"{norm}.bias"), (c,)
        if s + 1 < len(depths):
            yield ("merge", s, 0, "norm.weight"), (4 * c,)
            yield ("merge", s, 0, "norm.bias"), (4 * c,)
            yield ("merge", s, 0, "reduction.weight"), (2 * c, 4 * c)
    for s in out_stages:
        yield ("out", s, 0, "weight"), (channels * 2**s,)
        yield ("out", s, 0, "bias"), (channels * 2**s,)


def concatenate_four(x):
    """(H, W, C) of even size to (H/2, W/2, 4C): the four corners of a square, one library's slices after another."""
    return torch.cat([x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]], dim=-1)


def unfold_four(x):
    """The same by torch's unfold, whose channels are numbered (channel, row, column)."""
    height, width, _ = x.shape
    columns = F.unfold(x.permute(2, 0, 1)[None], kernel_size=2, stride=2)[0]
    return columns.T.reshape(height // 2, width // 2, -1)


def _norm(x, weight, bias):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias


def _attend(x, p, num_heads, window, shift):
    """Attention over all tokens of the padded map (H, W, C); who may see whom is decided by coordinates."""
    height, width, channels = x.shape
    rows, columns = -(-height // window) * window, -(-width // window) * window
    padded = torch.zeros(rows, columns, channels, dtype=x.dtype)
    padded[:height, :width] = x
    y, x_ = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    y, x_ = y.flatten(), x_.flatten()
    shifted_y, shifted_x = (y - shift) % rows, (x_ - shift) % columns
    group = torch.stack([shifted_y // window, shifted_x // window, y < shift, x_ < shift])
    allowed = (group[:, :, None] == group[:, None, :]).all(0)
    in_y, in_x = shifted_y % window, shifted_x % window
    entry = (in_y[:, None] - in_y[None] + window - 1) * (2 * window - 1) + in_x[:, None] - in_x[None] + window - 1

    tokens = padded.reshape(rows * columns, channels) @ p("qkv.weight").T + p("qkv.bias")
    size = channels // num_heads
    heads = []
    for h in range(num_heads):
        q, k, v = (tokens[:, i * channels + h * size : i * channels + (h + 1) * size] for i in range(3))
        scores = q @ k.T / size**0.5 + p("table")[:, h][entry]
        exponentials = (scores - scores.max()).exp() * allowed
        heads.append(exponentials / exponentials.sum(1, keepdim=True) @ v)
    out = torch.cat(heads, 1) @ p("proj.weight").T + p("proj.bias")
    return out.reshape(rows, columns, channels)[:height, :width]


def swin_forward(get, merge, image, *, depths, heads, window, patch, out_stages):
    """Maps (C, H, W) of the out stages for one image (3, H, W). Stochastic depth is off."""
    height, width = image.shape[1:]
    image = F.pad(image, (0, -width % patch, 0, -height % patch))
    x = F.conv2d(image[None], get(("embed", 0, 0, "conv.weight")), get(("embed", 0, 0, "conv.bias")), stride=patch)[0]
    x = _norm(x.permute(1, 2, 0), get(("embed", 0, 0, "norm.weight")), get(("embed", 0, 0, "norm.bias")))
    outputs = []
    for s, depth in enumerate(depths):
        for b in range(depth):

            def p(name, s=s, b=b):
                return get(("block", s, b, name))

            normed = _norm(x, p("norm1.weight"), p("norm1.bias"))
            x = x + _attend(normed, p, heads[s], window, window // 2 if b % 2 else 0)
            hidden = _norm(x, p("norm2.weight"), p("norm2.bias")) @ p("fc1.weight").T + p("fc1.bias")
            hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
            x = x + hidden @ p("fc2.weight").T + p("fc2.bias")
        if s in out_stages:
            outputs.append(_norm(x, get(("out", s, 0, "weight")), get(("out", s, 0, "bias"))).permute(2, 0, 1))
        if s + 1 < len(depths):
            x = F.pad(x, (0, 0, 0, x.shape[1] % 2, 0, x.shape[0] % 2))
            x = _norm(merge(x), get(("merge", s, 0, "norm.weight")), get(("merge", s, 0, "norm.bias")))
            x = x @ get(("merge", s, 0, "reduction.weight")).T
    return outputs

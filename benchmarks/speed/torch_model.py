"""PyTorch twin of avq's networks, as a well-written PyTorch project has them.

Modules bear the names of ours, so that `torch_training.copy_variables` finds the place of each of
our parameters. Channels last, in-place activations, `index_add_` for the codebook's sums: nothing
is written to be slow. `benchmarks.peers` compares its outputs with ours before it times anything.
"""
# PyTorch may be absent where types are checked; then its classes are Any.
# mypy: allow-subclassing-any

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

LEAK, EPSILON, FRESH_USE = 0.1, 1e-5, 0.1


def in_float32(x: Tensor) -> torch.autocast:
    """Context for operations that stay in float32 on the device of `x`, as they do in ours."""
    return torch.autocast(x.device.type, enabled=False)


def same_padding(x: Tensor, size: int, stride: int) -> Tensor:
    """Padding SAME of a strided 3x3 convolution on an even side: a row below, a column right."""
    return functional.pad(x, (0, 1, 0, 1)) if size == 3 and stride == 2 else x


class Conv(nn.Conv2d):
    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> None:
        super().__init__(inputs, outputs, size, stride, padding=size // 2 if stride == 1 else 0)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(same_padding(x, self.kernel_size[0], self.stride[0]))


class UpConv(nn.ConvTranspose2d):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., :-1, :-1]


class PreActivation(nn.Module):
    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs, eps=1e-3, momentum=0.01)
        up = stride == -2
        self.conv = UpConv(inputs, outputs) if up else Conv(inputs, outputs, size, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.leaky_relu(self.norm(x), LEAK, inplace=True))


class Id(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = PreActivation(width, width)
        self.second = PreActivation(width, width)
        self.last = PreActivation(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.last(self.second(self.first(x)))


class Res(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride_at: str) -> None:
        super().__init__()
        first, last = (2, 1) if stride_at == "first" else (1, 2)
        self.first = PreActivation(inputs, outputs, 3, first)
        self.second = PreActivation(outputs, outputs)
        self.last = PreActivation(outputs, outputs, 1, last)
        self.shortcut = PreActivation(inputs, outputs, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x))) + self.shortcut(x)


class Up(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = PreActivation(inputs, outputs, 3, -2)
        self.second = PreActivation(outputs, outputs)
        self.last = PreActivation(outputs, outputs, 1)
        self.shortcut = PreActivation(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = functional.interpolate(self.shortcut(x), scale_factor=2, mode="nearest")
        return self.last(self.second(self.first(x))) + shortcut


class Trunk(nn.Module):
    def __init__(self, inputs: int, filters: Any, blocks: int, stride_at: str) -> None:
        super().__init__()
        self.order: list[str] = []
        for stage, features in enumerate(filters):
            for block in range(blocks):
                self._add(f"Id_{stage * blocks + block}", Id(inputs))
            self._add(f"Res_{stage}", Res(inputs, features, stride_at))
            inputs = features

    def _add(self, name: str, block: nn.Module) -> None:
        self.add_module(name, block)
        self.order.append(name)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.order:
            x = getattr(self, name)(x)
        return x


class BaseEncoder(nn.Module):
    def __init__(self, m: Any) -> None:
        super().__init__()
        self.stem = Conv(3, m.base_filters[0])
        filters = m.base_filters
        self.trunk = Trunk(filters[0], filters[1:], m.encoder_blocks, m.stride_at)
        self.project = Conv(filters[-1], m.code_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.trunk(self.stem(x)))


class PixelAttention(nn.Module):
    """Algorithm 1 with the norm 'bias_clip'."""

    def __init__(self, inputs: int, dim: int) -> None:
        super().__init__()
        self.g1, self.g2 = Conv(inputs, dim, 1), Conv(inputs, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        base = self.g1(x)
        queries, keys = base.flatten(2).transpose(1, 2), self.g2(x).flatten(2).transpose(1, 2)
        count, width = queries.shape[1:]
        with in_float32(x):
            logits = queries.float() @ keys.float().transpose(1, 2)
        weights = torch.sigmoid(logits / width**0.5 - float(np.log(count)))
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1.0)
        update = weights @ keys
        return base + update.transpose(1, 2).reshape(base.shape)


class AREN(nn.Module):
    def __init__(self, m: Any, level: int) -> None:
        super().__init__()
        filters = (m.aren_filters,) * level
        self.trunk = Trunk(m.code_dim, filters, m.encoder_blocks, m.stride_at)
        attends = m.attention_norm != "off"
        self.attention = PixelAttention(m.aren_filters, m.attention_dim) if attends else None
        self.project = Conv(m.attention_dim if attends else m.aren_filters, m.code_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return self.project(h if self.attention is None else self.attention(h))


class Quantizer(nn.Module):
    """Moving-average codebook with Laplace smoothing and revival of dead codes."""

    def __init__(self, m: Any) -> None:
        super().__init__()
        self.m = m
        self.register_buffer("embedding", torch.zeros(m.codebook_size, m.code_dim))
        self.register_buffer("counts", torch.zeros(m.codebook_size))
        self.register_buffer("sums", torch.zeros(m.codebook_size, m.code_dim))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = z.float()
        flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        table = self.embedding.clone() if self.training else self.embedding
        with torch.no_grad(), in_float32(z):
            norms = table.pow(2).sum(1)
            codes = torch.addmm(norms, flat, table.T, beta=1, alpha=-2).argmin(1)
            if self.training:
                self._update(flat, codes)
        vectors = table[codes].view(z.shape[0], *z.shape[2:], -1).permute(0, 3, 1, 2)
        loss = self.m.commitment * functional.mse_loss(z, vectors)
        return z + (vectors - z).detach(), codes.view(z.shape[0], *z.shape[2:]), loss

    def _update(self, flat: Tensor, codes: Tensor) -> None:
        k, decay = len(self.counts), self.m.codebook_decay
        counts = torch.bincount(codes, minlength=k).float()
        sums = torch.zeros_like(self.sums).index_add_(0, codes, flat)
        self.counts.lerp_(counts, 1 - decay)
        self.sums.lerp_(sums, 1 - decay)
        rows = flat[torch.randperm(len(flat), device=flat.device)[:k]]
        rows = rows if len(rows) == k else flat[torch.randint(len(flat), (k,), device=flat.device)]
        mean_use = len(flat) / k
        dead = self.counts < self.m.revive_below * mean_use
        fresh = torch.full_like(self.counts, FRESH_USE * mean_use)
        self.counts.copy_(torch.where(dead, fresh, self.counts))
        self.sums.copy_(torch.where(dead[:, None], rows * fresh[:, None], self.sums))
        total = self.counts.sum()
        smoothed = (self.counts + EPSILON) / (total + k * EPSILON) * total
        self.embedding.copy_(self.sums / smoothed[:, None])


class Encoder(nn.Module):
    def __init__(self, m: Any) -> None:
        super().__init__()
        self.levels = m.levels
        self.base = BaseEncoder(m)
        for level in range(1, m.levels + 1):
            self.add_module(f"arens_{level - 1}", AREN(m, level))
            self.add_module(f"quantizers_{level - 1}", Quantizer(m))
            if level < m.levels:
                self.add_module(f"resize{level + 1}", UpConv(m.code_dim, m.code_dim))
                self.add_module(f"combine{level}", Conv(2 * m.code_dim, m.code_dim, 1))
        if m.levels == 1:
            self.combine1 = Conv(m.code_dim, m.code_dim, 1)

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        base = self.base(x)
        results: list[Any] = []
        for level in range(self.levels, 0, -1):
            z = getattr(self, f"arens_{level - 1}")(base)
            if results:
                upper = getattr(self, f"resize{level + 1}")(results[0][0])
                z = torch.cat([upper, z], 1)
            if results or self.levels == 1:
                z = getattr(self, f"combine{level}")(z)
            results.insert(0, getattr(self, f"quantizers_{level - 1}")(z))
        return results


class Decoder(nn.Module):
    def __init__(self, m: Any) -> None:
        super().__init__()
        filters = m.decoder_filters
        self.stem = Conv(m.code_dim, filters[0])
        self.order: list[str] = []
        for stage, (inputs, outputs) in enumerate(itertools.pairwise(filters)):
            for block in range(m.decoder_blocks):
                self.order.append(f"Id_{stage * m.decoder_blocks + block}")
                self.add_module(self.order[-1], Id(inputs))
            self.order.append(f"Up_{stage}")
            self.add_module(self.order[-1], Up(inputs, outputs))
        self.to_rgb = Conv(filters[-1], 3, 1)

    def forward(self, vectors: Tensor) -> Tensor:
        h = self.stem(vectors)
        for name in self.order:
            h = getattr(self, name)(h)
        return self.to_rgb(h).float()


class VQVAE(nn.Module):
    """The autoencoder of a config's `model` section, decoder on the finest level."""

    def __init__(self, m: Any) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(m), Decoder(m)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images and the quantisation loss."""
        levels = self.encoder(images)
        images = self.decoder(levels[0][0])
        return images, torch.stack([loss for _, _, loss in levels]).sum()

    def encode(self, images: Tensor) -> list[Tensor]:
        return [codes for _, codes, _ in self.encoder(images)]

    def decode(self, codes: Tensor) -> Tensor:
        """Images from the codes of the finest level."""
        return self.decoder(self.encoder.quantizers_0.embedding[codes].permute(0, 3, 1, 2))


class Discriminator(nn.Module):
    def __init__(self, d: Any) -> None:
        super().__init__()
        self.count = len(d.filters)
        inputs = 3
        for i, (features, stride) in enumerate(zip(d.filters, d.strides, strict=True), start=1):
            self.add_module(f"conv{i}", Conv(inputs, features, 3, stride))
            if i < self.count:
                self.add_module(f"norm{i}", nn.BatchNorm2d(features, eps=1e-3, momentum=0.01))
            inputs = features

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, self.count):
            x = getattr(self, f"norm{i}")(getattr(self, f"conv{i}")(x))
            x = functional.leaky_relu(x, LEAK, inplace=True)
        return getattr(self, f"conv{self.count}")(x).float()

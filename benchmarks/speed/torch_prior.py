"""PyTorch twin of avq's transformer prior and its cache, as a good PyTorch project has them.

Modules bear the names of ours, so that `torch_training.copy_variables` finds the place of each of
our parameters. Places are read by one embedding, attention is PyTorch's own function, the cache is
allocated once, and a step attends to the places before it alone.
"""
# PyTorch may be absent where types are checked; then its classes are Any.
# mypy: allow-subclassing-any

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from avq.models.prior.blocks import EXPANSION
from avq.models.prior.places import coordinates, nearby, neighbours, relations, spans

EPSILON = 1e-6  # of Flax's norm


class Hidden(nn.Module):
    def __init__(self, m: Any) -> None:
        super().__init__()
        units = int(EXPANSION * m.width)
        self.up = nn.Linear(len(m.near) * m.width, 2 * units)
        self.down = nn.Linear(units, m.width)

    def forward(self, near: Tensor) -> Tensor:
        a, b = self.up(near).chunk(2, -1)
        return self.down(functional.silu(a) * b)


class Block(nn.Module):
    def __init__(self, m: Any) -> None:
        super().__init__()
        self.heads = m.heads
        self.attention_norm = nn.RMSNorm(m.width, EPSILON)
        self.norm = nn.RMSNorm(m.width, EPSILON)
        self.projections = nn.Linear(m.width, 3 * m.width, bias=False)
        self.output = nn.Linear(m.width, m.width)
        for level in range(len(m.grids)):
            self.add_module(f"hidden_{level}", Hidden(m))

    def forward(
        self,
        x: Tensor,
        cache: tuple[Tensor, Tensor],
        bias: Tensor,
        near: Tensor,
        level: int,
        start: int,
    ) -> Tensor:
        """Places of a level from `start` on.

        Args:
            x: of the places.
            cache: keys and values, `[2, b, h, n, d]`, and what hidden layers read, `[b, n + 1, c]`,
                in its last row zeros.
            bias: of attention.
            near: rows of what the hidden layer reads.
            level, start: of the places.
        """
        b, m, _ = x.shape
        (kept, features), stop = cache, start + m
        joined = self.projections(self.attention_norm(x)).view(b, m, 3, self.heads, -1)
        queries, keys, values = joined.permute(2, 0, 3, 1, 4)
        kept[0, :, :, start:stop], kept[1, :, :, start:stop] = keys, values
        keys, values = kept[:, :, :, :stop]
        attended = functional.scaled_dot_product_attention(queries, keys, values, bias)
        x = x + self.output(attended.transpose(1, 2).reshape(b, m, -1))
        features[:, start:stop] = self.norm(x)
        hidden = getattr(self, f"hidden_{level}")
        return x + hidden(features[:, near].flatten(2))


class Network(nn.Module):
    def __init__(self, m: Any) -> None:
        super().__init__()
        self.depth, self.parts = m.depth, spans(m.grids)
        sizes = m.codebook_sizes
        starts = [sum(sizes[:level]) for level in range(len(sizes))]
        first = torch.cat([torch.full((p.end - p.start,), starts[p.level]) for p in self.parts])
        self.register_buffer("first", first, persistent=False)
        self.outside = sum(sizes) + 1
        around = torch.tensor(neighbours(m.grids, m.own))
        numbers, distances = relations(m.grids)
        where = [torch.tensor(places) for places in coordinates(m.grids)]
        for name, value in {
            "around": around,
            "near": torch.tensor(nearby(m.grids, m.near)),
            "numbers": torch.tensor(numbers),
            "row": where[0],
            "column": where[1],
        }.items():
            self.register_buffer(name, value, persistent=False)
        self.codes = nn.Embedding(sum(sizes) + 2, m.code_dim)
        height, across = (sum(sides) for sides in zip(*m.grids, strict=True))
        self.rows, self.columns = nn.Embedding(height, m.width), nn.Embedding(across, m.width)
        self.labels = nn.Embedding(m.classes + 1, m.width)
        self.joined = nn.Linear(around.shape[1] * m.code_dim, m.width)
        self.bias = nn.Parameter(torch.zeros(m.heads, len(distances)))
        for number in range(m.depth):
            self.add_module(f"blocks_{number}", Block(m))
        self.norm = nn.RMSNorm(m.width, EPSILON)
        for level, size in enumerate(sizes):
            self.add_module(f"heads_by_level_{level}", nn.Linear(m.width, size))

    def forward(
        self, ids: Tensor, labels: Tensor, cache: Any, level: int, start: int, stop: int
    ) -> Tensor:
        """Logits of some places of a level.

        Args:
            ids: codes `[b, n + 1]`, counted through all levels; the last one is `outside`.
            labels: of the images.
            cache: of each block.
            level, start, stop: of the places.
        """
        embedded = self.codes(ids[:, self.around[start:stop]]).flatten(2)
        where = self.rows(self.row[start:stop]) + self.columns(self.column[start:stop])
        x = self.joined(embedded) + where + self.labels(labels)[:, None]
        bias = self.bias[:, self.numbers[start:stop, :stop]]
        if stop - start > 1:
            seen = torch.ones(stop - start, stop, dtype=torch.bool).tril(start)
            bias = bias.masked_fill(~seen, -torch.inf)
        near = self.near[start:stop]
        for number in range(self.depth):
            x = getattr(self, f"blocks_{number}")(x, cache[number], bias, near, level, start)
        return getattr(self, f"heads_by_level_{level}")(self.norm(x))


class Prior(nn.Module):
    """The twin of `avq.models.prior.TransformerPrior`."""

    def __init__(self, m: Any) -> None:
        super().__init__()
        self.network = Network(m)
        self.shape = m.heads, len(self.network.first), m.width // m.heads
        self.none = m.classes

    def empty_cache(self, count: int) -> list[tuple[Tensor, Tensor]]:
        """Caches of the blocks, for so many images."""
        heads, n, channels = self.shape
        return [
            (torch.zeros(2, count, heads, n, channels), torch.zeros(count, n + 1, heads * channels))
            for _ in range(self.network.depth)
        ]

    def logits(self, sequence: Tensor) -> list[Tensor]:
        """Logits of all places by level, coarsest first, from codes `[b, n]`."""
        network, count = self.network, len(sequence)
        ids = functional.pad(sequence + network.first, (0, 1), value=network.outside)
        cache, labels = self.empty_cache(count), torch.full((count,), self.none)
        with torch.inference_mode():
            return [network(ids, labels, cache, *part) for part in network.parts]

    def draw(self, count: int) -> Tensor:
        """Codes `[b, n]` of so many images, one place after another."""
        network = self.network
        ids = torch.full((count, len(network.first) + 1), network.outside)
        cache, labels = self.empty_cache(count), torch.full((count,), self.none)
        with torch.inference_mode():
            for level, start, end in network.parts:
                for place in range(start, end):
                    logits = network(ids, labels, cache, level, place, place + 1)[:, 0]
                    drawn = torch.multinomial(logits.softmax(-1), 1)[:, 0]
                    ids[:, place] = drawn + network.first[place]
        return ids[:, :-1] - network.first

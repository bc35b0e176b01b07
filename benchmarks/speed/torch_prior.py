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

from avq.models.prior.places import coordinates, neighbours, relations, spans

EPSILON = 1e-6  # of Flax's norm


class Block(nn.Module):
    def __init__(self, m: Any) -> None:
        super().__init__()
        self.heads = m.heads
        self.attention_norm = nn.RMSNorm(m.width, EPSILON)
        self.norm = nn.RMSNorm(m.width, EPSILON)
        self.projections = nn.Linear(m.width, 3 * m.width, bias=False)
        self.output = nn.Linear(m.width, m.width)
        self.up, self.down = nn.Linear(m.width, 4 * m.width), nn.Linear(4 * m.width, m.width)

    def forward(self, x: Tensor, cache: Tensor, bias: Tensor, start: int) -> Tensor:
        """Places from `start` on; `cache` holds keys and values, `[2, b, h, n, d]`."""
        b, m, _ = x.shape
        joined = self.projections(self.attention_norm(x)).view(b, m, 3, self.heads, -1)
        queries, keys, values = joined.permute(2, 0, 3, 1, 4)
        cache[0, :, :, start : start + m], cache[1, :, :, start : start + m] = keys, values
        keys, values = cache[:, :, :, : start + m]
        attended = functional.scaled_dot_product_attention(queries, keys, values, bias)
        x = x + self.output(attended.transpose(1, 2).reshape(b, m, -1))
        hidden = functional.gelu(self.up(self.norm(x)), approximate="tanh")
        return x + self.down(hidden)


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
        self, ids: Tensor, labels: Tensor, cache: Tensor, level: int, start: int, stop: int
    ) -> Tensor:
        """Logits of some places of a level.

        Args:
            ids: codes `[b, n + 1]`, counted through all levels; the last one is `outside`.
            labels: of the images.
            cache: of the blocks, `[blocks, 2, b, h, n, d]`.
            level, start, stop: of the places.
        """
        embedded = self.codes(ids[:, self.around[start:stop]]).flatten(2)
        where = self.rows(self.row[start:stop]) + self.columns(self.column[start:stop])
        x = self.joined(embedded) + where + self.labels(labels)[:, None]
        bias = self.bias[:, self.numbers[start:stop, :stop]]
        if stop - start > 1:
            seen = torch.ones(stop - start, stop, dtype=torch.bool).tril(start)
            bias = bias.masked_fill(~seen, -torch.inf)
        for number in range(self.depth):
            x = getattr(self, f"blocks_{number}")(x, cache[number], bias, start)
        return getattr(self, f"heads_by_level_{level}")(self.norm(x))


class Prior(nn.Module):
    """The twin of `avq.models.prior.TransformerPrior`."""

    def __init__(self, m: Any) -> None:
        super().__init__()
        self.network = Network(m)
        self.shape = m.heads, len(self.network.first), m.width // m.heads
        self.none = m.classes

    def empty_cache(self, count: int) -> Tensor:
        """A cache for so many images."""
        heads, n, channels = self.shape
        return torch.zeros(self.network.depth, 2, count, heads, n, channels)

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

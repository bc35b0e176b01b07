"""Networks of a config without training: shapes, parameters, operations and bits (tables 1 and 2 of
the paper).
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from avq.config import input_errors
from avq.models.build import make_autoencoder, make_discriminator, require_multiple
from avq.models.vqvae import VQVAE

Tree = Mapping[str, Any]
Path = tuple[str, ...]

# Modules of the autoencoder that tables name, by their path; {l} is the level, from 1, {i} its
# index, from 0.
LEVEL_MODULES = {
    "AREN {l}": ("encoder", "arens_{i}"),
    "resize {l}": ("encoder", "resize{l}"),
    "combine {l}": ("encoder", "combine{l}"),
}


def describe(config: ConfigDict) -> dict[str, Any]:
    """Counts and shapes of a config, by the names of `avq describe --json`.

    A total is parameters, batch statistics and each table of codes once, however it is learned.

    Raises:
        InputError: when values of the config contradict each other.
    """
    size = config.data.image_size
    channels = config.data.channels
    image = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    model = config.model.to_dict()
    vqvae = make_autoencoder(model, channels=channels)
    require_multiple(size, vqvae.stride())
    with input_errors("config"):
        variables, outputs = _trace(vqvae, image)
    statistics = count(variables.get("batch_stats", {}))
    total = _total(variables)
    report: dict[str, Any] = {
        "image_size": size,
        "channels": channels,
        "vqvae": {
            "total": total,
            "params": total - statistics,
            "batch_stats": statistics,
            "flops": _flops(vqvae, variables, image),
        },
        "tokens": [side**2 for side in vqvae.grids(size)],
        "decoded_levels": vqvae.decoded_levels(),
        "bits_per_image": vqvae.bits_per_pixel(size) * size**2,
        "bits_per_pixel": vqvae.bits_per_pixel(size),
        "modules": _modules(vqvae, variables, outputs),
        "discriminator": None,
    }
    if config.loss.adversarial_weight > 0:
        discriminator = make_discriminator(config.discriminator.to_dict(), model)
        with input_errors("config"):
            variables, outputs = _trace(discriminator, image)
        total, shape = count(variables), _shape(outputs)
        flops = _flops(discriminator, variables, image)
        report["discriminator"] = {"total": total, "output": shape, "flops": flops}
        report["modules"].append({"name": "discriminator", "output": shape, "total": total})
    return report


def count(tree: Any) -> int:
    """Number of values in a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def as_table(report: dict[str, Any]) -> str:
    """The report of `describe` as text."""
    lines = [f"{'module':<16}{'output':>16}{'total':>14}"]
    for row in report["modules"]:
        shape = " x ".join(str(side) for side in row["output"])
        lines.append(f"{row['name']:<16}{shape:>16}{row['total']:>14,}")
    vqvae, discriminator = report["vqvae"], report["discriminator"]
    tokens, read = report["tokens"], report["decoded_levels"]
    sent = " + ".join(str(n) for n in tokens[:read])
    inner = f", and {' + '.join(map(str, tokens[read:]))} that act through them alone"
    rows = [
        ("autoencoder", f"{vqvae['total']:,}"),
        ("  parameters", f"{vqvae['params']:,} (with codebooks)"),
        ("  statistics", f"{vqvae['batch_stats']:,} (of batch norms)"),
        ("discriminator", f"{discriminator['total']:,}" if discriminator else "none"),
        (
            "forward pass",
            f"{vqvae['flops'] / 1e9:,.1f} GFLOP per {report['image_size']}-pixel image",
        ),
        ("tokens", f"{sent} per image{inner if tokens[read:] else ''}"),
        ("bits", f"{report['bits_per_image']:,.0f} per image"),
        ("", f"{report['bits_per_pixel']:.4f} per pixel"),
    ]
    return "\n".join([*lines, "", *(f"{name:<16}{value}" for name, value in rows)])


def _trace(module: nn.Module, image: jax.ShapeDtypeStruct) -> tuple[Tree, Tree]:
    """Shapes of a module's variables and of what its submodules return."""
    variables: Tree = jax.eval_shape(
        lambda x: module.init(jax.random.key(0), x, train=False), image
    )

    def outputs(v: Tree, x: Any) -> Any:
        return module.apply(v, x, train=False, capture_intermediates=True)[1]["intermediates"]

    return variables, jax.eval_shape(outputs, variables, image)


def _modules(vqvae: VQVAE, variables: Tree, outputs: Tree) -> list[dict[str, Any]]:
    rows = [_row("base encoder", ("encoder", "base"), variables, outputs)]
    for level in range(1, vqvae.levels + 1):
        for name, parts in LEVEL_MODULES.items():
            path = tuple(part.format(l=level, i=level - 1) for part in parts)
            if _at(outputs, path):
                rows.append(_row(name.format(l=level), path, variables, outputs))
    for index, codebook_size in enumerate(vqvae.codebook_sizes()):
        path = ("encoder", f"quantizers_{index}")
        code_dim = _at(outputs, path)["__call__"][0].vectors.shape[-1]
        output = [codebook_size, code_dim]
        total = _total(variables, path)
        rows.append({"name": f"codebook {index + 1}", "output": output, "total": total})
    return [*rows, _row("decoder", ("decoder",), variables, outputs)]


def _row(name: str, path: Path, variables: Tree, outputs: Tree) -> dict[str, Any]:
    return {"name": name, "output": _shape(_at(outputs, path)), "total": _total(variables, path)}


def _total(variables: Tree, path: Path = ()) -> int:
    """Values of the autoencoder's module at a path: parameters, batch statistics, tables of codes.

    The collection 'codebook' also holds what updates its tables, as optimisers hold moments; that
    is no part of a model.
    """
    state = jax.tree_util.tree_leaves_with_path(_at(variables.get("codebook", {}), path))
    tables = [leaf for place, leaf in state if place[-1].key == "embedding"]
    return count(
        [tables, *(_at(variables.get(kind, {}), path) for kind in ("params", "batch_stats"))]
    )


def _at(tree: Any, path: Path) -> Any:
    """Subtree at a path; empty where there is none."""
    for part in path:
        tree = tree.get(part, {})
    return tree


def _shape(outputs: Tree) -> list[int]:
    return list(jax.tree.leaves(outputs["__call__"])[0].shape[1:])  # of the finest of several


def _flops(module: nn.Module, variables: Tree, image: jax.ShapeDtypeStruct) -> float:
    lowered = jax.jit(lambda v, x: module.apply(v, x, train=False)).lower(variables, image)
    costs: Any = lowered.cost_analysis()
    return float(costs["flops"])

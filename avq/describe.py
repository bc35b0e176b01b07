"""What a config's networks are, without training: shapes, parameters, operations, bits (the paper's
tables 1 and 2).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avq.config import module_fields, refused_values
from avq.models.discriminator import Discriminator
from avq.models.vqvae import VQVAE

Tree = dict[str, Any]

# Modules of the autoencoder that tables name, by their path; {l} is the level, {i} its place, from
# 0.
LEVEL_MODULES = {
    "AREN {l}": ("encoder", "arens_{i}"),
    "resize {l}": ("encoder", "resize{l}"),
    "combine {l}": ("encoder", "combine{l}"),
}


def describe(config: Any) -> dict[str, Any]:
    """Counts and shapes of a config, by the names of `avq describe --json`.

    A total is parameters, batch statistics and each codebook once, however it is learned.
    """
    size = config.data.image_size
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    vqvae = VQVAE(**module_fields(config.model.to_dict()))
    with refused_values("config"):
        variables, outputs = _trace(vqvae, image)
    tables = vqvae.levels * vqvae.codes * vqvae.latent_dim
    learned_by_gradient = tables if vqvae.codebook_update == "gradient" else 0
    statistics = count(variables["batch_stats"])
    parameters = count(variables["params"]) - learned_by_gradient + tables
    report: dict[str, Any] = {
        "image_size": size,
        "vqvae": {
            "total": parameters + statistics,
            "params": parameters,
            "batch_stats": statistics,
            "flops": _flops(vqvae, variables, image),
        },
        "tokens": [side**2 for side in vqvae.grids(size)],
        "bits_per_image": vqvae.bits_per_pixel(size) * size**2,
        "bits_per_pixel": vqvae.bits_per_pixel(size),
        "modules": _modules(vqvae, variables, outputs),
        "discriminator": None,
    }
    if config.loss.adversarial_weight > 0:
        fields = module_fields(config.discriminator.to_dict())
        discriminator = Discriminator(**fields, dtype=config.model.dtype)
        variables, outputs = _trace(discriminator, image)
        total, shape = count(variables), _shape(outputs)
        flops = _flops(discriminator, variables, image)
        report["discriminator"] = {"total": total, "output": shape, "flops": flops}
        report["modules"].append({"name": "discriminator", "output": shape, "total": total})
    return report


def count(tree: Any) -> int:
    """Number of values in a tree of arrays or shapes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def as_table(report: dict[str, Any]) -> str:
    """The report for people to read."""
    lines = [f"{'module':<16}{'output':>16}{'total':>14}"]
    for row in report["modules"]:
        shape = " x ".join(str(side) for side in row["output"])
        lines.append(f"{row['name']:<16}{shape:>16}{row['total']:>14,}")
    vqvae, discriminator = report["vqvae"], report["discriminator"]
    tokens = " + ".join(str(n) for n in report["tokens"])
    rows = [
        ("autoencoder", f"{vqvae['total']:,}"),
        ("  parameters", f"{vqvae['params']:,} (with codebooks)"),
        ("  statistics", f"{vqvae['batch_stats']:,} (of batch norms)"),
        ("discriminator", f"{discriminator['total']:,}" if discriminator else "none"),
        (
            "forward pass",
            f"{vqvae['flops'] / 1e9:,.1f} GFLOP per {report['image_size']}-pixel image",
        ),
        ("tokens", f"{tokens} per image"),
        ("bits", f"{report['bits_per_image']:,.0f} per image"),
        ("", f"{report['bits_per_pixel']:.4f} per pixel"),
    ]
    return "\n".join([*lines, "", *(f"{name:<16}{value}" for name, value in rows)])


def _trace(module: Any, image: Any) -> tuple[Tree, Tree]:
    """Shapes of a module's variables and of what its submodules return."""
    variables = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False), image)

    def outputs(v: Tree, x: Any) -> Tree:
        return module.apply(v, x, train=False, capture_intermediates=True)[1]["intermediates"]

    return variables, jax.eval_shape(outputs, variables, image)


def _modules(vqvae: VQVAE, variables: Tree, outputs: Tree) -> list[dict[str, Any]]:
    rows = [_row("base encoder", ("encoder", "base"), variables, outputs)]
    for level in range(1, vqvae.levels + 1):
        for name, path in LEVEL_MODULES.items():
            place = tuple(part.format(l=level, i=level - 1) for part in path)
            if _at(outputs, place):
                rows.append(_row(name.format(l=level), place, variables, outputs))
    side = vqvae.codes, vqvae.latent_dim
    rows += [
        {"name": f"codebook {level + 1}", "output": list(side), "total": side[0] * side[1]}
        for level in range(vqvae.levels)
    ]
    return [*rows, _row("decoder", ("decoder",), variables, outputs)]


def _row(name: str, path: tuple[str, ...], variables: Tree, outputs: Tree) -> dict[str, Any]:
    parts = (_at(variables[kind], path) for kind in ("params", "batch_stats"))
    return {"name": name, "output": _shape(_at(outputs, path)), "total": sum(map(count, parts))}


def _at(tree: Tree, path: tuple[str, ...]) -> Tree:
    """The part of a tree at a path; empty where there is none."""
    for part in path:
        tree = tree.get(part, {})
    return tree


def _shape(outputs: Tree) -> list[int]:
    return list(outputs["__call__"][0].shape[1:])


def _flops(module: Any, variables: Tree, image: Any) -> float:
    lowered = jax.jit(lambda v, x: module.apply(v, x, train=False)).lower(variables, image)
    costs: Any = lowered.cost_analysis()
    return float(costs["flops"])

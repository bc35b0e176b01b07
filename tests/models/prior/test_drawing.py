"""Temperature, top-k, top-p and guidance, against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq.models.prior import Drawing

LOGITS = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32) * 2


def kept(**how):
    return np.isfinite(np.asarray(Drawing(**how).filtered(jnp.asarray(LOGITS))))


@pytest.mark.parametrize("k", [1, 4, 9, 100])
def test_top_k_keeps_the_k_likeliest(k):
    np.testing.assert_array_equal(kept(top_k=k).sum(1), min(k, 9))
    for row, mask in zip(LOGITS, kept(top_k=k), strict=True):
        assert set(np.flatnonzero(mask)) == set(np.argsort(-row)[:k])


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9, 0.999])
def test_top_p_keeps_the_fewest_of_so_much_probability(p):
    for row, mask in zip(LOGITS.astype(np.float64), kept(top_p=p), strict=True):
        shares = np.exp(row) / np.exp(row).sum()
        order = np.argsort(-row)
        count = max(1, int(np.searchsorted(np.cumsum(shares[order]), p)) + 1)
        assert set(np.flatnonzero(mask)) == set(order[:count])


def test_codes_that_are_equally_likely_are_kept_by_number():
    logits = jnp.zeros((1, 5))
    for how in (Drawing(top_k=2), Drawing(top_p=0.4)):
        assert np.isfinite(how.filtered(logits)).tolist() == [[True, True, False, False, False]]


def test_codes_are_drawn_with_their_probability():
    logits = jnp.log(jnp.asarray([0.5, 0.3, 0.2]))[None].repeat(20_000, 0)
    keys = jax.random.split(jax.random.key(0), 20_000)
    for temperature, expected in ((1.0, [0.5, 0.3, 0.2]), (0.5, [25 / 38, 9 / 38, 4 / 38])):
        drawn = Drawing(temperature).chosen(keys, logits)
        np.testing.assert_allclose(np.bincount(drawn) / 20_000, expected, atol=0.012)
    assert set(Drawing(0.0).chosen(keys, logits).tolist()) == {0}


def test_what_is_drawn_for_an_image_depends_on_its_own_key_and_logits():
    keys = jax.random.split(jax.random.key(1), 6)
    whole = Drawing().chosen(keys, jnp.asarray(LOGITS))
    part = Drawing().chosen(keys[2:4], jnp.asarray(LOGITS[2:4]))
    np.testing.assert_array_equal(whole[2:4], part)


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0, 3.0])
def test_guidance_weighs_logits_with_and_without_the_label(guidance):
    how, labels = Drawing(guidance=guidance), jnp.asarray([0, 1])
    by_label = {label: np.random.default_rng(label).normal(size=4) for label in (0, 1, 7)}
    rows = how.labels(labels, none=7).tolist()
    merged = how.merged(jnp.asarray(np.stack([by_label[label] for label in rows])))
    assert len(how.rows(labels)) == len(rows)
    for label, logits in zip((0, 1), merged, strict=True):
        expected = (1 - guidance) * by_label[7] + guidance * by_label[label]
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)

"""The statistics of studies, tested as statistics: on simulated results with known effects."""

import numpy as np
import pytest

from hrnet_jax.studies import statistics

DRAWS = 4000
# (noise of a seed, spread of the faces, of one network on one face), in percent of NME: small and
# large noise of seeds for differences, whose faces mostly cancel, and for plain means.
SPREADS = [(0.1, 0.3, 0.6), (0.05, 0.3, 0.6), (0.3, 0.3, 0.6), (0.2, 1.0, 0.6)]


def simulate(rng, count, seeds, faces, spreads, effect=0.0):
    """(count, S, F): faces are skewed, as those of real errors are."""
    of_seed, of_face, rest = spreads
    return (
        effect
        + of_seed * rng.standard_normal((count, seeds, 1))
        + of_face * (rng.exponential(size=(count, 1, faces)) - 1)
        + rest * rng.standard_normal((count, seeds, faces))
    )


@pytest.mark.parametrize("spreads", SPREADS)
@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_cover_the_truth(spreads, seeds):
    rng = np.random.default_rng(seeds)
    errors = simulate(rng, 1000, seeds, 200, spreads, effect=-0.7)
    low, high = statistics.interval(statistics.hierarchical_draws(errors, DRAWS))
    covered = np.mean((low <= -0.7) & (-0.7 <= high))
    assert 0.93 <= covered <= 0.97, covered


def test_resampled_seeds_would_not_cover():
    """The reason for Student's t: what a plain hierarchical bootstrap covers with three seeds."""
    rng = np.random.default_rng(0)
    errors = simulate(rng, 1000, 3, 200, (0.3, 0.3, 0.6))
    picked = rng.integers(0, 3, (DRAWS, 3))
    weights = rng.multinomial(200, np.full(200, 1 / 200), DRAWS) / 200
    by_face = errors.mean(axis=1)
    faces = (by_face - by_face.mean(axis=1, keepdims=True)) @ weights.T
    low, high = statistics.interval(errors.mean(axis=2)[:, picked].mean(axis=2) + faces)
    assert np.mean((low <= 0) & (0 <= high)) < 0.85


@pytest.mark.parametrize("seeds", [3, 5])
def test_holm_keeps_the_family_under_the_null(seeds):
    """Six levels that do nothing, against one baseline: in 5 % of the studies one is called so."""
    rng = np.random.default_rng(10 + seeds)
    studies, levels = 1000, 6
    runs = [simulate(rng, studies, seeds, 60, (0.3, 0.3, 0.6)) for _ in range(levels + 1)]
    draws = [statistics.hierarchical_draws(run - runs[0], DRAWS, taken_off=0.0) for run in runs[1:]]
    p = np.stack([statistics.p_value(d) for d in draws], axis=1)
    family = np.mean([statistics.holm(row).min() < 0.05 for row in p])
    one_by_one = np.mean(p.min(axis=1) < 0.05)
    assert family <= 0.05 < one_by_one, (family, one_by_one)


def test_an_effect_is_found():
    rng = np.random.default_rng(1)
    runs = simulate(rng, 300, 5, 200, (0.1, 0.3, 0.6), effect=0.5)
    p = statistics.p_value(statistics.hierarchical_draws(runs, DRAWS, taken_off=0.0))
    assert np.mean(p < 0.05) > 0.95


def test_p_is_never_kinder_than_the_interval():
    rng = np.random.default_rng(2)
    errors = simulate(rng, 60, 3, 100, (0.1, 0.3, 0.6), effect=0.3)
    found = [statistics.difference(e, np.zeros_like(e), 2000) for e in errors]
    excluded = np.array([f.estimate.low > 0 or f.estimate.high < 0 for f in found])
    p = np.array([f.p for f in found])
    assert excluded[p < 0.045].all() and (p < 0.05).any() and (p[~excluded] > 0.045).all()


def test_a_difference_is_paired_by_face_and_seed():
    rng = np.random.default_rng(3)
    baseline = simulate(rng, 1, 3, 100, (1.0, 5.0, 1.0))[0]
    found = statistics.difference(baseline + 0.25, baseline)
    assert found.estimate.mean == pytest.approx(0.25)
    assert found.estimate.high - found.estimate.low < 1e-9  # nothing differs but the effect
    assert found.p == pytest.approx(2 / (statistics.DRAWS + 1))
    assert found.p_permutation == 0.25  # the smallest that three seeds can give
    same = statistics.difference(baseline, baseline)
    assert (same.p, same.p_permutation) == (1.0, 1.0)
    with pytest.raises(ValueError, match="not paired"):
        statistics.difference(baseline, baseline[:2])


def test_one_seed_has_no_noise_to_compare_with():
    errors = np.random.default_rng(4).exponential(size=(1, 50))
    found = statistics.difference(errors, errors + 1)
    assert (found.p, found.p_permutation, found.estimate.sd) == (None, None, None)
    alone = statistics.estimate(errors)
    assert alone.low < alone.mean < alone.high and (alone.seeds, alone.faces) == (1, 50)


def test_permutations_by_hand():
    assert statistics.permutation_p([1.0, 2.0, 3.0]) == 2 / 8
    assert statistics.permutation_p([3.0, -1.0]) == 1.0
    assert statistics.permutation_p([1.0] * 20) == pytest.approx(1 / (2**16 + 1))
    assert statistics.permutation_p([0.0, 0.0]) == 1.0


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert statistics.holm([]).size == 0

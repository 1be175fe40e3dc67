"""Intervals and verdicts tell real differences from noise."""

import numpy as np
import pytest
from scipy import stats

from focal_retinanet.evaluation.average_precision import MatchedDetections
from focal_retinanet.evaluation.bootstrap import (
    difference,
    holm,
    resample_images,
    resampled_ap,
)


@pytest.fixture
def matches(random_data, to_coco):
    dataset, detections = random_data()
    return MatchedDetections(to_coco(dataset), detections)


def test_resamples_have_as_many_images_and_repeat_by_seed():
    resamples = resample_images(20, 50, seed=3)
    assert resamples.shape == (50, 20)
    assert (resamples.sum(1) == 20).all()
    assert (resamples == resample_images(20, 50, seed=3)).all()
    assert (resamples != resample_images(20, 50, seed=4)).any()


def test_resampled_ap_is_that_of_each_resample(matches):
    resamples = resample_images(12, 5, seed=0)
    expected = [matches.summarize(weights)['AP'] for weights in resamples]
    np.testing.assert_allclose(resampled_ap(matches, resamples), expected, atol=1e-12)


def test_resample_without_objects_is_left_out(matches):
    empty = np.zeros((1, 12), int)
    assert np.isnan(resampled_ap(matches, empty)).all()


def test_interval_is_that_of_the_paired_differences():
    rng = np.random.default_rng(0)
    images = rng.normal(0.4, 0.05, 1000)  # the common part cancels
    gap = difference(
        [0.42], [images + 0.02], [0.4], [images + rng.normal(0, 1e-3, 1000)]
    )
    assert gap.ap == pytest.approx(0.02)
    assert 0.017 < gap.low < 0.019 < 0.021 < gap.high < 0.023
    assert not gap.is_noise
    assert gap.p_seeds is None


@pytest.mark.parametrize(
    'aps, others, is_noise',
    [
        ([0.40, 0.41, 0.42], [0.30, 0.31, 0.32], False),
        ([0.40, 0.46, 0.52], [0.39, 0.45, 0.51], True),  # seeds differ by more
        ([0.40, 0.40], [0.40, 0.40], True),
        ([0.40, 0.40], [0.30, 0.30], False),
        ([0.40, 0.40], [0.0, 0.0], False),
    ],
)
def test_seeds_have_their_say(aps, others, is_noise):
    certain = np.zeros(100)
    gap = difference(
        aps, [certain + ap for ap in aps], others, [certain + ap for ap in others]
    )
    assert gap.is_noise == is_noise


def test_interval_with_zero_is_noise():
    rng = np.random.default_rng(0)
    gap = difference([0.4], [rng.normal(0.4, 0.1, 1000)], [0.39], [np.full(1000, 0.39)])
    assert gap.low < 0 < gap.high
    assert gap.is_noise


def test_p_value_of_the_images_agrees_with_the_interval():
    rng = np.random.default_rng(0)
    for mean in np.linspace(0.0, 0.04, 9):
        spread = rng.normal(mean, 0.01, 10_000)
        gap = difference([0.4 + mean], [0.4 + spread], [0.4], [np.full(10_000, 0.4)])
        expected = 2 * stats.norm.sf(mean / 0.01)
        assert gap.p_images == pytest.approx(expected, abs=0.02)
        assert (gap.p_images < 0.05) == (gap.low > 0)
        wide = difference(
            [0.4 + mean], [0.4 + spread], [0.4], [np.full(10_000, 0.4)], 0.99
        )
        assert wide.low < gap.low < gap.high < wide.high
        assert (gap.p_images < 0.01) == (wide.low > 0) == (not wide.is_noise)


def test_no_resample_on_the_other_side_is_not_certainty():
    gap = difference([0.5], [np.full(99, 0.5)], [0.4], [np.full(99, 0.4)])
    assert gap.p_images == 0.02 and not gap.is_noise


def test_bias_of_the_resamples_is_known(matches):
    """AP rises in resamples, which cancels between equals, and not beside a zero."""
    resamples = resample_images(12, 200, seed=0)
    ap, aps = matches.summarize()['AP'], resampled_ap(matches, resamples)
    assert aps.mean() > ap
    alone = difference([ap], [aps], [0.0], [np.zeros(200)])
    assert alone.bias == pytest.approx(aps.mean() - ap)
    assert alone.standard_error == pytest.approx(aps.std())
    assert alone.is_lopsided
    assert not difference([ap], [aps], [ap], [aps]).is_lopsided
    # A bias that no table shows, however small the spread.
    assert not difference([0.4], [np.full(9, 0.4004)], [0], [np.zeros(9)]).is_lopsided


@pytest.mark.parametrize(
    'p_values, corrected, levels',
    [
        # R: p.adjust(c(.01, .04, .03, .005), 'holm')
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02], [3, 1, 2, 4]),
        ([0.9, 0.8], [1.0, 1.0], [1, 2]),
        ([0.02], [0.02], [1]),
        ([], [], []),
    ],
)
def test_holm(p_values, corrected, levels):
    found, confidences = holm(p_values)
    assert found == pytest.approx(corrected)
    assert confidences == pytest.approx([1 - 0.05 / left for left in levels])

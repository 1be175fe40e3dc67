"""Figures of the loss, as in the paper."""

import cv2
import numpy as np
import pytest

from focal_retinanet.evaluation.loss_distribution import LossDistribution
from focal_retinanet.visualization.losses.cdf import plot_loss_cdf
from focal_retinanet.visualization.losses.curves import (
    plot_derivatives,
    plot_loss_over_p_t,
    plot_variants,
)


@pytest.mark.parametrize('plot', [plot_loss_over_p_t, plot_variants, plot_derivatives])
def test_figures_of_the_loss(plot, tmp_path):
    picture = cv2.imread(str(plot(tmp_path / 'figure.png')))
    assert picture.shape[1] >= 900  # print quality
    # It has lines of several colours.
    saturation = cv2.cvtColor(picture, cv2.COLOR_BGR2HSV)
    coloured = saturation[saturation[..., 1] > 120][:, 0]
    assert len(np.unique(coloured // 10)) >= 4
    svg = plot(tmp_path / 'figure.svg').read_text()
    assert svg.lstrip().startswith('<?xml')


def test_distribution_is_drawn(tmp_path):
    flat = LossDistribution(0.0, np.full(10, 0.1), np.full(2000, 1 / 2000))
    file = plot_loss_cdf([flat], tmp_path / 'cdf.svg', title='mine')
    text = file.read_text()
    for words in (
        'mine',
        'fraction of positives (10)',
        'fraction of negatives (2,000)',
    ):
        assert words in text


@pytest.mark.parametrize('gamma', ['-1', 'nan', 'inf', 'two'])
def test_a_gamma_is_a_number_of_at_least_0(gamma, fail):
    words = ('cdf', 'config.py', 'model.pth', '--gammas', '0', gamma)
    output = fail('tools/plot_loss.py', *words)
    assert f'--gammas: must be a number of at least 0, got {gamma}' in output

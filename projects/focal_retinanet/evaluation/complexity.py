"""Parameters and multiply-adds of a config's model."""

import copy
from functools import partial

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.analysis import get_model_complexity_info
from mmengine.config import Config
from mmengine.registry import DefaultScope

from focal_retinanet.cli.console import quiet_mmengine
from focal_retinanet.config.dataset_configs import inner_datasets


def complexity(cfg: Config) -> tuple[int, int, tuple[int, int]]:
    """Count parameters and multiply-adds for an image of the test pipeline's size.

    Returns:
        Parameters; multiply-adds of the forward pass, which mmdet calls FLOPs; and
        the size of the image, (height, width).

    Raises:
        ValueError: the test pipeline has no size.
    """
    height, width = _test_size(cfg)
    with (
        quiet_mmengine(),
        DefaultScope.overwrite_default_scope(cfg.get('default_scope')),
    ):
        # Detectors write into their config.
        config = cfg.model.get('detector') or cfg.model  # of an exported file
        model = MODELS.build(copy.deepcopy(config)).eval()
        shapes = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
        meta = dict.fromkeys(shapes, (height, width)) | dict(scale_factor=(1.0, 1.0))
        sample = DetDataSample(metainfo=meta)
        model.forward = partial(model.forward, data_samples=[sample])
        with torch.no_grad():
            info = get_model_complexity_info(
                model, (3, height, width), show_table=False, show_arch=False
            )
    return info['params'], info['flops'], (height, width)


def _test_size(cfg: Config) -> tuple[int, int]:
    """(height, width) of the first Resize in the test pipeline."""
    dataset = next(inner_datasets(cfg.test_dataloader.dataset))
    for step in dataset.pipeline:
        scale = step.get('scale')
        if step.type.endswith('Resize') and scale is not None:
            width, height = (scale, scale) if isinstance(scale, int) else scale
            return int(height), int(width)
    raise ValueError('the test pipeline has no Resize with a scale')

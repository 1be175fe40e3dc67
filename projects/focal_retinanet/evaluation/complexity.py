"""Parameters and multiply-adds of a config's model."""

import copy
import math
from functools import partial

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.analysis import get_model_complexity_info
from mmengine.config import Config
from mmengine.registry import DefaultScope

from focal_retinanet.cli.console import quiet_mmengine
from focal_retinanet.config.data_preprocessor import give_model_its_preprocessor
from focal_retinanet.config.dataset_configs import inner_datasets


def complexity(cfg: Config) -> tuple[int, int, tuple[int, int]]:
    """Count parameters and multiply-adds for an image of the test pipeline's size.

    The image is padded as the data preprocessor pads it, as in mmdet's
    ``get_flops.py``.

    Returns:
        Parameters; multiply-adds of the forward pass, which mmdet calls FLOPs; and
        the padded size of the image, (height, width).

    Raises:
        ValueError: The test pipeline has no size.
    """
    cfg = copy.deepcopy(cfg)  # detectors write into their config
    give_model_its_preprocessor(cfg)
    model_cfg = cfg.model.get('detector') or cfg.model  # of an exported file
    divisor = (model_cfg.get('data_preprocessor') or {}).get('pad_size_divisor', 1)
    image_size = _test_size(cfg)
    padded_size = tuple(math.ceil(side / divisor) * divisor for side in image_size)
    with (
        quiet_mmengine(),
        DefaultScope.overwrite_default_scope(cfg.get('default_scope')),
    ):
        model = MODELS.build(model_cfg).eval()
        meta = dict.fromkeys(('img_shape', 'ori_shape'), image_size)
        meta |= dict.fromkeys(('pad_shape', 'batch_input_shape'), padded_size)
        meta |= dict(scale_factor=(1.0, 1.0))
        sample = DetDataSample(metainfo=meta)
        model.forward = partial(model.forward, data_samples=[sample])
        with torch.no_grad():
            info = get_model_complexity_info(
                model, (3, *padded_size), show_table=False, show_arch=False
            )
    return info['params'], info['flops'], padded_size


def _test_size(cfg: Config) -> tuple[int, int]:
    """(height, width) of the first Resize in the test pipeline."""
    dataset = next(inner_datasets(cfg.test_dataloader.dataset))
    for step in dataset.pipeline:
        scale = step.get('scale')
        if step.type.endswith('Resize') and scale is not None:
            width, height = (scale, scale) if isinstance(scale, int) else scale
            return int(height), int(width)
    raise ValueError('the test pipeline has no Resize with a scale')

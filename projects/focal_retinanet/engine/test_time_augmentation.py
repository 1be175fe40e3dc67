"""Test-time augmentation: detections averaged over views of an image."""

import sys
from copy import deepcopy

from mmengine.config import Config, ConfigDict

from focal_retinanet.config.data_preprocessor import give_model_its_preprocessor
from focal_retinanet.config.dataset_configs import inner_datasets
from focal_retinanet.config.metric_configs import type_name
from focal_retinanet.engine.tiles import last_test_cfg, nms_of


def use_test_time_augmentation(cfg: Config) -> None:
    """Average over the image and its mirror image, unless the config says how.

    Views are merged by the suppression of the model's ``test_cfg``.

    Args:
        cfg: Config of a run, whose model and test pipelines are changed. Its
            ``tta_model`` and ``tta_pipeline`` are used where it has them.
    """
    give_model_its_preprocessor(cfg)
    most = last_test_cfg(cfg.model).get('max_per_img', 100)
    cfg.setdefault(
        'tta_model',
        dict(
            type='DetTTAModel',
            tta_cfg=dict(
                nms=nms_of(cfg.model), max_per_img=sys.maxsize if most < 0 else most
            ),
        ),
    )
    if 'tta_pipeline' not in cfg:
        dataset = next(inner_datasets(cfg.test_dataloader.dataset))
        meta_keys = (
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'flip',
            'flip_direction',
        )
        flips = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
        pack = dict(type='PackDetInputs', meta_keys=meta_keys)
        pipeline = deepcopy(dataset.pipeline[:-1])
        # The detections of all views are those of the image as it is in its file, and
        # so are objects that neither Resize nor RandomFlip has seen.
        objects = [step for step in pipeline if type_name(step) == 'LoadAnnotations']
        # Boxes are mirrored back about the middle of the image, without its padding.
        pads = [step for step in pipeline if type_name(step) == 'Pad']
        behind = [*pads, *objects, pack]
        views = [flips, *([step] for step in behind)]
        cfg.tta_pipeline = [step for step in pipeline if step not in behind]
        cfg.tta_pipeline.append(dict(type='TestTimeAug', transforms=views))
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    for dataset in inner_datasets(cfg.test_dataloader.dataset):
        dataset.pipeline = cfg.tta_pipeline

"""Test-time augmentation: detections averaged over views of an image."""

from copy import deepcopy

from mmengine.config import Config, ConfigDict

from focal_retinanet.config.dataset_configs import inner_datasets
from focal_retinanet.config.metric_configs import type_name


def use_test_time_augmentation(cfg: Config) -> None:
    """Average over the image and its mirror image, unless the config says how.

    Args:
        cfg: Config of a run, whose model and test pipelines are changed. Its
            ``tta_model`` and ``tta_pipeline`` are used where it has them.
    """
    cfg.setdefault(
        'tta_model',
        dict(
            type='DetTTAModel',
            tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
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
        views = [flips, objects, [pack]] if objects else [flips, [pack]]
        cfg.tta_pipeline = [step for step in pipeline if step not in objects]
        cfg.tta_pipeline.append(dict(type='TestTimeAug', transforms=views))
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    for dataset in inner_datasets(cfg.test_dataloader.dataset):
        dataset.pipeline = cfg.tta_pipeline

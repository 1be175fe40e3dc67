"""An exported file in the place of the model of a config."""

from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config, ConfigDict

from focal_retinanet.acceleration.accelerate import SETTINGS
from focal_retinanet.config.data_preprocessor import give_model_its_preprocessor
from focal_retinanet.config.metric_configs import type_name


def use_exported_model(cfg: Config, file: str | Path) -> None:
    """Put an exported file in the place of a config's model.

    A config that has an exported file already gets this one instead.

    Args:
        cfg: Config of a test, which is changed.
        file: File of ``tools/export.py``.
    """
    give_model_its_preprocessor(cfg)
    detector = cfg.model.get('detector') or cfg.model
    cfg.model = ConfigDict(
        type='focal_retinanet.ExportedModel', file=str(file), detector=detector
    )
    # The file has the averaged weights already, and no copy of it can be made.
    cfg.custom_hooks = [
        hook
        for hook in cfg.get('custom_hooks') or []
        if not (isinstance(hook, Mapping) and type_name(hook) == 'EMAHook')
    ]
    cfg.load_from = None  # the weights are in the file
    for key in SETTINGS:
        cfg[key] = False

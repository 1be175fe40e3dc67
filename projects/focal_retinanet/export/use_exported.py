"""An exported file in the place of the model of a config."""

from pathlib import Path

from mmengine.config import Config, ConfigDict

from focal_retinanet.acceleration.accelerate import SETTINGS


def use_exported_model(cfg: Config, file: str | Path) -> None:
    """Put an exported file in the place of a config's model.

    Args:
        cfg: Config of a test, which is changed.
        file: File of ``tools/export.py``.
    """
    cfg.model = ConfigDict(
        type='focal_retinanet.ExportedModel', file=str(file), detector=cfg.model
    )
    cfg.load_from = None  # the weights are in the file
    for key in SETTINGS:
        cfg[key] = False

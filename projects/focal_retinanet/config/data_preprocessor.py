"""The data preprocessor, which a config may have beside its model."""

from mmengine.config import Config


def give_model_its_preprocessor(cfg: Config) -> None:
    """Move a top-level ``data_preprocessor`` into the model, unless it has its own.

    mmengine's runner gives it to the model that it builds, which may be a wrapper: that
    of test-time augmentation would normalize for its detector, too.

    Args:
        cfg: Config of a run, which is changed.
    """
    if cfg.get('data_preprocessor') is not None:
        model = cfg.model.get('detector') or cfg.model  # of an exported file
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
        cfg.data_preprocessor = None

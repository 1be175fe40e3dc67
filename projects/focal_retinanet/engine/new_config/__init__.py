"""A config for a folder of images and annotations."""

from focal_retinanet.engine.new_config.choices import Choices, choose_settings
from focal_retinanet.engine.new_config.describe import (
    describe_choices,
    describe_found,
)
from focal_retinanet.engine.new_config.recipes import choose_recipe
from focal_retinanet.engine.new_config.write import annotation_dir, write_config

__all__ = [
    'Choices',
    'annotation_dir',
    'choose_recipe',
    'choose_settings',
    'describe_choices',
    'describe_found',
    'write_config',
]

"""An image that cannot be used is named, in training as everywhere."""

import pytest
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from PIL import Image

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.image_errors import name_image_errors


@pytest.fixture
def build(tiny_config, shapes_root, tmp_path):
    """Builds the training data with their images in a folder that a test changes."""
    register_all_modules(init_default_scope=True)
    images = tmp_path / 'images'
    images.mkdir()
    for file in (shapes_root / 'images' / 'train').iterdir():
        (images / file.name).write_bytes(file.read_bytes())
    dataset = tiny_config.train_dataloader.dataset
    dataset.data_prefix.img = str(images)

    def run(wrap=lambda config: config):
        built = DATASETS.build(wrap(dataset))
        name_image_errors(built)
        return built

    run.first = sorted(images.iterdir())[0]
    return run


WRAPPERS = {
    'plain': lambda d: d,
    'repeated': lambda d: dict(type='RepeatDataset', times=2, dataset=d),
    'joined': lambda d: dict(type='ConcatDataset', datasets=[d, d]),
    'mixed': lambda d: dict(type='MultiImageMixDataset', dataset=d, pipeline=[]),
}


@pytest.mark.parametrize('wrap', WRAPPERS.values(), ids=WRAPPERS)
def test_what_cannot_be_read_is_named(build, wrap):
    dataset = build(wrap)
    assert dataset[0]['inputs'].shape == (3, 64, 64)
    for content in (b'', b'no image'):
        build.first.write_bytes(content)
        with pytest.raises(UserError, match=f'image {build.first} cannot be read'):
            dataset[0]
    build.first.unlink()
    with pytest.raises(UserError, match=f'image {build.first} cannot be read'):
        dataset[0]


def test_an_image_of_another_size_is_named(build):
    dataset = build()
    Image.new('RGB', (32, 48)).save(build.first)
    match = f'image {build.first} is 32x48 where its annotation file says 64x64'
    with pytest.raises(UserError, match=match):
        dataset[0]


def test_a_transform_that_leaves_images_out_still_does(build):
    def ignoring(config):
        config.pipeline[0].ignore_empty = True
        config.test_mode = True
        return config

    dataset = build(ignoring)
    build.first.unlink()
    with pytest.raises(Exception, match='None'):  # mmengine's own, in test mode
        dataset[0]

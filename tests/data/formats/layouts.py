"""Writes the same tiny data set in each layout, and compares what was read with it."""

import json

import pytest
from PIL import Image

from focal_retinanet.data.formats import check_found

CLASSES = ('cat', 'dog')
SIZE = 40, 20
#: Boxes of each image: class, xywh in pixels.
TRUTH = {
    'train': {
        'a': [(0, 4, 2, 10, 8), (1, 20, 4, 16, 12)],
        'b': [],
        'c': [(1, 2, 2, 8, 6)],
    },
    'val': {'d': [(0, 10, 5, 20, 10)]},
}
ALL = {**TRUTH['train'], **TRUTH['val']}


def write_image(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', SIZE).save(file)


def write_coco(file, images, classes=CLASSES, prefix=''):
    boxes = [(i, *box) for i, name in enumerate(images) for box in images[name]]
    content = dict(
        images=[
            dict(id=i, file_name=f'{prefix}{name}.png', width=SIZE[0], height=SIZE[1])
            for i, name in enumerate(images)
        ],
        annotations=[
            dict(
                id=n, image_id=i, category_id=label + 1, bbox=box, area=box[2] * box[3]
            )
            for n, (i, label, *box) in enumerate(boxes)
        ],
        categories=[dict(id=i, name=name) for i, name in enumerate(classes, 1)],
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return content


def coco_own(root):
    for split, images in TRUTH.items():
        write_coco(root / f'annotations/{split}.json', images)
        for name in images:
            write_image(root / f'images/{name}.png')


def coco_2017(root):
    for split, images in TRUTH.items():
        write_coco(root / f'annotations/instances_{split}2017.json', images)
        (root / f'annotations/captions_{split}2017.json').write_text('{}')
        for name in images:
            write_image(root / f'{split}2017/{name}.png')


def coco_subfolders(root):
    for split, images in TRUTH.items():
        write_coco(root / f'{split}.json', images, prefix=f'images/{split}/')
        for name in images:
            write_image(root / f'images/{split}/{name}.png')


def roboflow(root):
    for split, images in TRUTH.items():
        folder = root / dict(train='train', val='valid')[split]
        content = write_coco(folder / '_annotations.coco.json', images)
        for category in content['categories']:
            category['supercategory'] = 'dog'
        content['categories'].insert(0, dict(id=0, name='dog', supercategory='none'))
        (folder / '_annotations.coco.json').write_text(json.dumps(content))
        for name in images:
            write_image(folder / f'{name}.png')


def yolo(root, lists=False, folder='images/{}', names=CLASSES, **more):
    content = dict(names=names, **more)
    for split, images in TRUTH.items():
        place = root / folder.format(split)
        labels = root / folder.format(split).replace('images', 'labels')
        labels.mkdir(parents=True)
        for name, boxes in images.items():
            write_image(place / f'{name}.png')
            lines = [
                f'{label} {(x + w / 2) / SIZE[0]} {(y + h / 2) / SIZE[1]} '
                f'{w / SIZE[0]} {h / SIZE[1]}\n'
                for label, x, y, w, h in boxes
            ]
            if boxes:
                (labels / f'{name}.txt').write_text(''.join(lines))
        content[split] = folder.format(split)
        if lists:
            paths = [f'./{folder.format(split)}/{name}.png\n' for name in images]
            (root / f'{split}.txt').write_text(''.join(paths))
            content[split] = f'{split}.txt'
    (root / 'data.yaml').write_text(json.dumps(content))  # YAML, too


def voc(
    root, xml='Annotations', images='JPEGImages', lists='ImageSets/Main', size=SIZE
):
    for split, names in TRUTH.items():
        for name, boxes in names.items():
            # Pixels are counted from 1.
            objects = ''.join(
                f'<object><name>{CLASSES[label]}</name><bndbox><xmin>{x + 1}</xmin>'
                f'<ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox>'
                '</object>'
                for label, x, y, w, h in boxes
            )
            file = root / xml.format(split) / f'{name}.xml'
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(
                f'<annotation><filename>{name}.png</filename><size><width>{size[0]}'
                f'</width><height>{size[1]}</height></size>{objects}</annotation>'
            )
            write_image(root / images.format(split) / f'{name}.png')
        if lists:
            (root / lists).mkdir(parents=True, exist_ok=True)
            (root / lists / f'{split}.txt').write_text('\n'.join(names) + '\n')


def turn(file):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', SIZE).save(file, exif=exif)


def replace(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def boxes_of(split):
    """Boxes by the stem of the image; every image is there."""
    coco, boxes = split.coco, {}
    for image in coco['images']:
        assert (image['width'], image['height']) == SIZE
        file = split.img_dir / image['file_name']
        assert file.is_file()
        boxes[file.stem] = [
            (a['category_id'] - coco['categories'][0]['id'], *a['bbox'])
            for a in coco['annotations']
            if a['image_id'] == image['id']
        ]
    return boxes


def assert_is_truth(data):
    assert data.classes == CLASSES
    assert check_found(data) == [f'{_where(data)}: has no dog']
    for split, truth in TRUTH.items():
        found = boxes_of(data.splits[split])
        assert found.keys() == truth.keys()
        for name, boxes in truth.items():
            for box, expected in zip(found[name], boxes, strict=True):
                assert box == pytest.approx(expected, abs=0.02)


def _where(data):
    val = data.splits['val']
    return val.ann_file or f'{val.source}, val'

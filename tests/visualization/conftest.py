"""Three small images, runs on them with known boxes, and made-up fonts."""

import json

import pytest
from matplotlib import font_manager
from PIL import Image

from focal_retinanet.visualization.labels import fonts

CONFIG = """
default_scope = 'mmdet'
randomness = dict(seed={seed})
train_cfg = dict(max_epochs=1)
model = dict(gamma={gamma}, layers=[dict(width=8), dict(width={width})])
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_root={root!r},
        data_prefix=dict(img='images/'),
        metainfo=dict(classes={classes})))
val_evaluator = dict(type='CocoMetric', ann_file={ann_file!r})
work_dir = {folder!r}
"""
SCALARS = [
    {'loss': 2.0, 'lr': 0.1, 'time': 0.5, 'step': 1},
    {'loss': 1.0, 'lr': 0.1, 'time': 0.1, 'step': 2},
    {'coco/bbox_mAP': 0.5, 'time': 0.25, 'step': 1},
]
CAT, DOG = 1, 2


@pytest.fixture
def installed_fonts(tmp_path, monkeypatch):
    """Function that makes a font whose characters are filled squares.

    The only other font is matplotlib's own DejaVu Sans, without fontconfig.
    """
    # matplotlib requires fontTools.
    builder = pytest.importorskip('fontTools.fontBuilder').FontBuilder
    pens = pytest.importorskip('fontTools.pens.ttGlyphPen')
    manager = font_manager.fontManager
    known_fonts = [entry for entry in manager.ttflist if entry.name == 'DejaVu Sans']
    monkeypatch.setattr(manager, 'ttflist', known_fonts)
    manager._findfont_cached.cache_clear()
    monkeypatch.setattr(fonts.shutil, 'which', lambda program: None)
    for name, empty in (('_added', {}), ('_nowhere', set()), ('_warned', set())):
        monkeypatch.setattr(fonts, name, empty)

    def make(family, characters, known=True):
        names = ['.notdef', *(f'glyph{n}' for n in range(len(characters)))]
        pen = pens.TTGlyphPen(None)
        pen.moveTo((0, -100))
        for corner in ((0, 900), (900, 900), (900, -100)):
            pen.lineTo(corner)
        pen.closePath()
        square = pen.glyph()
        font = builder(1000, isTTF=True)
        font.setupGlyphOrder(names)
        font.setupCharacterMap(dict(zip(map(ord, characters), names[1:], strict=True)))
        font.setupGlyf(dict.fromkeys(names, square))
        font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
        font.setupHorizontalHeader(ascent=900, descent=-100)
        font.setupNameTable(dict(familyName=family, styleName='Regular'))
        font.setupOS2(sTypoAscender=900, usWinAscent=900, usWinDescent=100)
        font.setupPost()
        file = tmp_path / f'{family}.ttf'
        font.save(file)
        if known:
            manager.addfont(file)
        return str(file)

    yield make
    manager._findfont_cached.cache_clear()


@pytest.fixture
def ground_truth(tmp_path):
    """Annotation file: a cat and a dog in a.jpg, a cat in b.jpg, nothing in c.jpg."""
    root = tmp_path / 'data'
    (root / 'images').mkdir(parents=True)
    images = [
        dict(id=number, file_name=f'{name}.jpg', width=100, height=80)
        for number, name in enumerate('abc')
    ]
    for image in images:
        Image.new('RGB', (100, 80), (90, 120, 90)).save(
            root / 'images' / image['file_name']
        )
    places = [(0, CAT, [10, 10]), (0, DOG, [50, 10]), (1, CAT, [10, 10])]
    annotations = [
        dict(
            id=number,
            image_id=image,
            category_id=category,
            bbox=[*corner, 20, 20],
            area=400,
            iscrowd=0,
        )
        for number, (image, category, corner) in enumerate(places, 1)
    ]
    file = root / 'val.json'
    categories = [dict(id=CAT, name='cat'), dict(id=DOG, name='dog')]
    file.write_text(
        json.dumps(dict(images=images, annotations=annotations, categories=categories))
    )
    return file


@pytest.fixture
def detections():
    """All objects, with 0.2 for the cat of b.jpg, and false alarms at 0.5 and 0.6."""
    return [
        detection(0, CAT, [10, 10], 0.9),
        detection(0, DOG, [50, 10], 0.4),
        detection(1, CAT, [10, 10], 0.2),
        detection(1, CAT, [60, 50], 0.5),
        detection(2, CAT, [0, 0], 0.6),
    ]


@pytest.fixture
def worse_detections():
    """Only the cat of a.jpg, as a dog."""
    return [detection(0, DOG, [10, 10], 0.8)]


@pytest.fixture
def make_run(ground_truth, tmp_path):
    """Function that writes a work directory."""

    def make(name, found, classes=('cat', 'dog'), gamma=2.0, has_log=True, seed=0):
        folder = tmp_path / name
        log = folder / '20260101_000000'
        (log / 'vis_data').mkdir(parents=True)
        text = CONFIG.format(
            seed=seed,
            gamma=gamma,
            width=16,
            root=str(ground_truth.parent),
            classes=classes,
            ann_file=str(ground_truth),
            folder=str(folder),
        )
        (log / 'vis_data' / 'config.py').write_text(text)
        if has_log:
            lines = '\n'.join(json.dumps(line) for line in SCALARS)
            (log / 'vis_data' / 'scalars.json').write_text(lines + '\n')
        (log / 'val_detections.bbox.json').write_text(json.dumps(found))
        return folder

    return make


def detection(image, category, corner, score):
    return dict(
        image_id=image, category_id=category, bbox=[*corner, 20, 20], score=score
    )

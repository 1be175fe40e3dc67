"""Pictures of detections show the kinds of boxes in different ways."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from focal_retinanet.evaluation.detection_errors import classify_image
from focal_retinanet.visualization import DetVisualizer, detections, style
from focal_retinanet.visualization.detections import draw_detections, draw_grid
from focal_retinanet.visualization.labels.drawing import draw_labels

IMAGE = np.full((120, 160, 3), 200, np.uint8)
BOX, OTHER = [10, 10, 60, 60], [90, 60, 140, 110]
CLASSES = {0: 'cat', 1: 'dog'}
BLUE, GREEN = (0, 0, 255), (0, 255, 0)
META = dict(classes=('cat', 'dog'), palette=[BLUE, GREEN])
SCORES = [0.9, 0.8]


def classify(found, objects, crowd=()):
    """Classify detections (box, class, score) given objects (box, class)."""
    return classify_image(
        np.array([box for box, _, _ in found], float).reshape(-1, 4),
        np.array([score for _, _, score in found], float),
        np.array([label for _, label, _ in found], int),
        np.array([box for box, _ in objects], float).reshape(-1, 4),
        np.array([label for _, label in objects], int),
        np.isin(np.arange(len(objects)), crowd),
    )


def has_colour(picture, colour):
    rgb = np.round(np.array(to_rgb(colour)) * 255)
    return bool((np.abs(picture.astype(int) - rgb).max(-1) <= 8).any())


def left_and_right(picture):
    """The two images, without the legend."""
    height, width = picture.shape[:2]
    above = picture[: int(0.85 * height)]
    return above[:, : width // 2], above[:, width // 2 :]


@pytest.mark.parametrize(
    'found, objects, left_has, right_has',
    [
        ([(BOX, 0, 0.9)], [(BOX, 0)], {'TP'}, {'TP'}),
        ([(BOX, 1, 0.9)], [(BOX, 0)], {'MISSED'}, {'FP', 'MISSED'}),
        ([(OTHER, 0, 0.9)], [(BOX, 0)], {'MISSED'}, {'FP', 'MISSED'}),
        ([(BOX, 0, 0.2)], [(BOX, 0)], {'MISSED'}, {'MISSED'}),  # below the threshold
        ([], [], set(), set()),
    ],
)
def test_kinds_are_told_apart(found, objects, left_has, right_has):
    picture = draw_detections(IMAGE, classify(found, objects), CLASSES, 0.3, 'title')
    assert picture.dtype == np.uint8 and picture.shape[1] == 2000
    colours = dict(TP=style.TRUE_POSITIVE, FP=style.FALSE_POSITIVE, MISSED=style.MISSED)
    for side, expected in zip(
        left_and_right(picture), (left_has, right_has), strict=True
    ):
        assert {name for name in colours if has_colour(side, colours[name])} == expected


def test_sheet_of_images():
    found = [classify([(BOX, 0, 0.9)], [(BOX, 0)]), classify([(BOX, 0, 0.9)], [])]
    sheet = draw_grid([IMAGE, IMAGE[:60]], found, ['a', 'b'], columns=4)
    left, right = left_and_right(sheet)
    assert has_colour(left, style.TRUE_POSITIVE)
    assert has_colour(right, style.FALSE_POSITIVE)
    assert not has_colour(left, style.FALSE_POSITIVE)


def sample(with_gt=True, with_crowd=False):
    result = DetDataSample(metainfo=dict(img_path='folder/image.jpg'))
    result.pred_instances = InstanceData(
        bboxes=torch.tensor([BOX, OTHER], dtype=torch.float32),
        labels=torch.tensor([0, 1]),
        scores=torch.tensor(SCORES),
    )
    if with_gt:
        result.gt_instances = InstanceData(
            bboxes=torch.tensor([BOX], dtype=torch.float32), labels=torch.tensor([0])
        )
    if with_crowd:
        result.ignored_instances = InstanceData(
            bboxes=torch.tensor([OTHER], dtype=torch.float32), labels=torch.tensor([1])
        )
    return result


def test_visualizer_tells_right_from_wrong_where_it_can(tmp_path):
    ours = DetVisualizer()
    ours.dataset_meta = META
    ours.add_datasample('x', IMAGE, sample(), out_file=str(tmp_path / 'x.png'))
    _, right = left_and_right(ours.get_image())
    assert has_colour(right, style.TRUE_POSITIVE)
    assert has_colour(right, style.FALSE_POSITIVE)
    assert (tmp_path / 'x.png').stat().st_size > 5_000
    ours.add_datasample('x', IMAGE, sample(with_crowd=True))
    _, right = left_and_right(ours.get_image())
    assert not has_colour(right, style.FALSE_POSITIVE)


def drawn(visualizer, data_sample, image=IMAGE, **kwargs):
    visualizer.add_datasample('x', image, data_sample, **kwargs)
    return visualizer.get_image()


def test_visualizer_without_ground_truth():
    ours = DetVisualizer(alpha=1)
    ours.dataset_meta = META
    picture = drawn(ours, sample(), draw_gt=False)
    assert picture.shape == IMAGE.shape and picture.dtype == np.uint8
    # Boxes have the colours of their classes, and labels above them.
    for (x1, y1, x2, y2), colour in ((BOX, BLUE), (OTHER, GREEN)):
        assert (picture[y1, x1:x2] == colour).all(-1).mean() > 0.5
        assert (picture[y2, x1:x2] == colour).all()
        assert (picture[y1:y2, x2] == colour).all()
    assert (picture[30:40, 30:40] == 200).all()
    above = picture[46:59, 90:140]
    assert (above == GREEN).all(-1).sum() > 200 and (above[..., 1] < 128).sum() > 20
    assert (IMAGE == 200).all()
    # Detections without objects, detections below the threshold, and nothing.
    both = drawn(ours, sample(False))
    np.testing.assert_array_equal(both, np.concatenate([IMAGE, picture], axis=1))
    np.testing.assert_array_equal(
        drawn(ours, sample(), draw_gt=False, pred_score_thr=0.95), IMAGE
    )
    np.testing.assert_array_equal(drawn(ours, None), IMAGE)
    # A score equal to the threshold counts, as in the tools.
    assert has_pixel(drawn(ours, sample(), draw_gt=False, pred_score_thr=0.8), GREEN)


def test_the_best_detection_is_on_top():
    ours = DetVisualizer(alpha=1)
    ours.dataset_meta = META
    for scores, colour in ((SCORES, BLUE), (SCORES[::-1], GREEN)):
        found = DetDataSample()
        found.pred_instances = InstanceData(
            bboxes=torch.tensor([BOX, BOX]).float(),
            labels=torch.tensor([0, 1]),
            scores=torch.tensor(scores),
        )
        picture = drawn(ours, found, draw_gt=False)
        assert (picture[40, BOX[0]] == colour).all()


def test_a_large_image_is_drawn_in_bands(monkeypatch):
    """They give the pixels of the image as a whole, also where a line crosses them."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(-20, 180, (40, 2, 2)), axis=1).reshape(-1, 4)
    found = DetDataSample()
    found.pred_instances = InstanceData(
        bboxes=torch.tensor(corners).float(),
        labels=torch.tensor(rng.integers(0, 2, 40)),
        scores=torch.tensor(rng.uniform(0.3, 1, 40)),
    )
    ours = DetVisualizer(line_width=20)
    ours.dataset_meta = META
    expected = drawn(ours, found, draw_gt=False)
    monkeypatch.setattr('focal_retinanet.visualization.det_visualizer._BAND', 7)
    in_place = IMAGE.copy()
    ours.draw_in_place(in_place, found, 0.3)
    np.testing.assert_array_equal(in_place, expected)


def test_boxes_that_are_not_finite_are_left_out():
    found = sample(False)
    found.pred_instances.bboxes[1] = torch.tensor([np.nan, 0, np.inf, 9])
    found.pred_instances.bboxes[0, 2] = 1e20
    ours = DetVisualizer()
    ours.dataset_meta = META
    picture = drawn(ours, found, draw_gt=False)
    assert (picture[10, 20:] != 200).any(-1).all() and not has_pixel(picture, GREEN)


def test_a_box_that_ends_at_the_border_has_four_sides():
    found = sample(False)
    height, width = IMAGE.shape[:2]
    found.pred_instances.bboxes[1] = torch.tensor([20, 70, width, height])
    ours = DetVisualizer(alpha=1)
    ours.dataset_meta = META
    picture = drawn(ours, found, draw_gt=False)
    assert (picture[-1, 20:] == GREEN).all() and (picture[70:, -1] == GREEN).all()


@pytest.mark.parametrize(
    'meta', [{}, dict(classes=('cat',)), dict(palette='coco'), None]
)
def test_labels_without_name_or_colour_are_drawn(meta):
    ours = DetVisualizer()
    ours.dataset_meta = meta
    assert (drawn(ours, sample(), draw_gt=False) != IMAGE).any()
    assert drawn(ours, sample()).shape[1] > 2 * IMAGE.shape[1]


def test_a_palette_of_one_colour_does_for_all_classes():
    meta = dict(classes=('cat', 'dog'), palette=[(1, 2, 3)])
    ours = DetVisualizer(alpha=1)
    ours.dataset_meta = meta
    assert ours.dataset_meta['palette'] == [(1, 2, 3), (0, 114, 178)]
    assert len(meta['palette']) == 1
    picture = drawn(ours, sample(), draw_gt=False)
    assert has_pixel(picture, (1, 2, 3)) and has_pixel(picture, (0, 114, 178))
    # Colours may come from the config.
    ours = DetVisualizer('other', alpha=1, bbox_color=(9, 9, 99), text_color=(7, 77, 7))
    ours.dataset_meta = meta
    picture = drawn(ours, sample(), draw_gt=False)
    assert has_pixel(picture, (9, 9, 99)) and has_pixel(picture, (7, 77, 7))
    assert not has_pixel(picture, (1, 2, 3))


def test_masks_are_drawn_by_mmdet_with_colours_enough(monkeypatch):
    meta = dict(classes=('cat', 'dog'), palette=[(1, 2, 3)])
    found = sample(False)
    found.pred_instances.masks = torch.zeros(2, *IMAGE.shape[:2], dtype=torch.bool)
    found.pred_instances.masks[:, 20:40, 20:40] = True
    written = []
    draw_texts = DetLocalVisualizer.draw_texts

    def note(self, texts, *args, **kwargs):
        written.extend(texts)
        return draw_texts(self, texts, *args, **kwargs)

    monkeypatch.setattr(DetLocalVisualizer, 'draw_texts', note)
    ours = DetVisualizer()
    ours.dataset_meta = meta
    picture = drawn(ours, found, draw_gt=False)
    assert written == ['dog 0.80', 'cat 0.90']  # the best last
    assert picture.shape == IMAGE.shape and (picture[25:35, 25:35] != 200).any()


def test_names_in_another_script_are_drawn(installed_fonts):
    cat = '\u732b'
    installed_fonts('Cats', cat)
    ours = DetVisualizer(alpha=1)
    ours.dataset_meta = dict(classes=(cat, cat), palette=[(255, 255, 255)] * 2)
    ink = (drawn(ours, sample(), draw_gt=False)[46:59, 90:103] == 0).all(-1)
    assert ink.sum() > 60  # the font's filled square
    # mmengine draws texts for mmdet.
    ours.set_image(IMAGE)
    ours.draw_texts(cat, np.array([20, 20]), font_sizes=30, colors='k')
    assert (ours.get_image() < 30).all(-1).sum() > 800
    picture = draw_detections(
        IMAGE, classify([(BOX, 0, 0.9)], [(BOX, 0)]), {0: cat}, title=cat
    )
    title = picture[: picture.shape[0] // 12]
    assert (title < 30).all(-1).sum() > 250


def test_no_label_lies_over_another_on_either_side(monkeypatch):
    written = []

    def note(image, boxes, texts, *args):
        places = draw_labels(image, boxes, texts, *args)
        written.append((texts, places))
        return places

    monkeypatch.setattr(detections, 'draw_labels', note)
    objects = [([10 + n / 9, 10, 60, 60], 0) for n in range(30)]
    found = [(box, 0, 0.95 - 0.01 * n) for n, (box, _) in enumerate(objects)]
    found.append((OTHER, 1, 0.99))
    draw_detections(IMAGE, classify(found[::-1], objects), CLASSES)
    (left, _), (right, _) = written
    assert left == ['cat'] * 30
    assert right[:2] == ['dog 0.99\nbackground', 'cat 0.95'] and len(right) == 31
    for _, places in written:
        there = places[~np.isnan(places).any(1)]
        assert 3 < len(there) < len(places) and not np.isnan(places[0]).any()
        for index, (x1, y1, x2, y2) in enumerate(there):
            for one in there[:index]:
                assert x2 <= one[0] or one[2] <= x1 or y2 <= one[1] or one[3] <= y1


def has_pixel(picture, colour):
    return bool((picture == np.array(colour)).all(-1).any())

"""What the gallery of a report shows, and what its filters and slider need."""

import pytest

from focal_retinanet.evaluation.detection_errors import KINDS, classify_detections
from focal_retinanet.evaluation.score_thresholds import score_detections
from focal_retinanet.visualization.report.gallery import (
    MOST_DETECTIONS,
    PAGE,
    worst_images,
    write_gallery,
    write_scores,
)

CAT, DOG = 1, 2


def test_worst_images_come_first(coco, detections, worse_detections):
    good = classify_detections(coco, detections)
    # a.jpg is perfect, b.jpg has an error above the cat, c.jpg has no AP.
    assert worst_images([good]) == [1, 0, 2]
    bad = classify_detections(coco, worse_detections)
    assert worst_images([bad]) == [0, 1, 2]  # both 0
    assert worst_images([good, bad]) == [1, 0, 2]


def test_gallery_has_boxes_kinds_and_what_filters_need(
    read_data, coco, detections, tmp_path
):
    detections.append({**detections[0], 'score': 0.01})  # below the slider
    images = classify_detections(coco, detections)
    names = {0: '00000.jpg', 1: None, 2: None}
    write_gallery(tmp_path, 'one', images, coco.imgs, names, [CAT, DOG])
    assert sorted(file.name for file in tmp_path.glob('*.js')) == ['one-0.js', 'one.js']
    correct, background = KINDS.index('correct'), KINDS.index('background')
    first, second, third = read_data(tmp_path / 'one-0.js')
    assert first == dict(
        file='a.jpg',
        image='00000.jpg',
        width=100,
        height=80,
        detections=[
            [10, 10, 30, 30, 0.9, 0, correct, 0],
            [50, 10, 70, 30, 0.4, 1, correct, 1],
        ],
        objects=[[10, 10, 30, 30, 0, 0], [50, 10, 70, 30, 1, 0]],
    )
    assert [d[6] for d in second['detections']] == [background, correct]
    assert third['objects'] == []
    index = read_data(tmp_path / 'one.js')
    assert [one['ap50'] for one in index] == [1, 0.5, None]
    assert index[1]['objects'] == [[0, 0.2]]
    assert sorted(index[1]['best']) == [
        [0, correct, 0.2],
        [0, background, 0.5],
    ]


def test_gallery_is_cut_into_files_and_its_images_into_the_best(
    read_data, coco, tmp_path
):
    many = [
        dict(image_id=0, category_id=c, bbox=[10, 10, 20, 20], score=0.9 - i / 1000)
        for c in (CAT, DOG)
        for i in range(80)
    ]
    image = classify_detections(coco, many)[0]
    count = 2 * PAGE + 1
    names = {0: None}
    write_gallery(tmp_path, 'm', [image] * count, coco.imgs, names, [CAT, DOG])
    sizes = [len(read_data(tmp_path / f'm-{i}.js')) for i in range(3)]
    assert sizes == [PAGE, PAGE, 1]
    shown = read_data(tmp_path / 'm-0.js')[0]['detections']
    assert len(shown) == MOST_DETECTIONS
    assert min(d[4] for d in shown) == pytest.approx(0.9 - 49 / 1000)


def test_scores_for_the_slider(read_data, coco, detections, tmp_path):
    images = classify_detections(coco, detections)
    write_scores(tmp_path, 'one', score_detections(images, [CAT, DOG]))
    cats, dogs = read_data(tmp_path / 'one-scores.js')
    assert (cats['objects'], dogs['objects']) == (2, 1)
    # Cats at 0.9 and 0.2, false alarms at 0.5 and 0.6.
    assert [cats['right'][n] for n in (0, 20, 21, 90, 91)] == [2, 2, 1, 1, 0]
    assert [cats['found'][n] for n in (0, 20, 21, 50, 51, 61)] == [4, 4, 3, 3, 2, 1]
    assert dogs['found'] == dogs['right'] == [1] * 41 + [0] * 60

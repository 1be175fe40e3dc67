"""The parts of the report by numbers that one can check by hand, and the whole."""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.comparison import compare
from focal_retinanet.evaluation.detection_errors import (
    ERRORS,
    KINDS,
    classify_detections,
)
from focal_retinanet.evaluation.runs import Run, find_models
from focal_retinanet.evaluation.score_thresholds import score_detections
from focal_retinanet.visualization import style
from focal_retinanet.visualization.report import write_report
from focal_retinanet.visualization.report.charts import (
    MOST_BARS,
    class_precision_recall,
    draw_differences,
    draw_errors,
    draw_histogram,
    draw_precision_recall,
    draw_speed_accuracy,
    short_names,
    shorten,
)
from focal_retinanet.visualization.report.config_differences import config_differences
from focal_retinanet.visualization.report.dataset_facts import dataset_facts
from focal_retinanet.visualization.report.gallery import (
    MOST_DETECTIONS,
    PAGE,
    worst_images,
    write_gallery,
    write_scores,
)
from focal_retinanet.visualization.report.sections import confusion
from focal_retinanet.visualization.report.thumbnails import Thumbnails

ROOT = Path(__file__).parents[3]
CAT, DOG = 1, 2


@pytest.fixture
def coco(ground_truth):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(ground_truth))


@pytest.fixture
def report(tmp_path):
    """Function that makes a report; returns its text, folder and warnings."""

    def make(paths, **kwargs):
        said = []
        kwargs.setdefault('num_resamples', 20)
        page = write_report(paths, tmp_path / 'report', warn=said.append, **kwargs)
        return page.read_text(), page.parent, said

    return make


def read_data(file):
    """Content of a data file."""
    name, text = re.fullmatch(
        r'reportData\["(.*?)"\]=(.*);\n', file.read_text()
    ).groups()
    assert name == file.stem
    return json.loads(text)


def test_precision_and_recall_of_a_class(coco, detections, make_run):
    images = classify_detections(coco, detections)
    curve = class_precision_recall(images, CAT)
    # By score: correct, wrong, wrong, correct, for two cats.
    np.testing.assert_allclose(curve[:51], 1)
    np.testing.assert_allclose(curve[51:], 0.5)
    both = [curve.mean(), class_precision_recall(images, DOG).mean()]
    models, _ = find_models([make_run('run', detections)])
    [row] = compare(models, num_resamples=0, warn=lambda line: None)['models']
    assert np.mean(both) == pytest.approx(row['AP50'], abs=1e-12)
    assert class_precision_recall(images, 3) is None
    assert not class_precision_recall(classify_detections(coco, []), CAT).any()


def test_worst_images_come_first(coco, detections, worse_detections):
    good = classify_detections(coco, detections)
    # a.jpg is perfect, b.jpg has an error above the cat, c.jpg has no AP.
    assert worst_images([good]) == [1, 0, 2]
    bad = classify_detections(coco, worse_detections)
    assert worst_images([bad]) == [0, 1, 2]  # both 0
    assert worst_images([good, bad]) == [1, 0, 2]


def test_gallery_has_boxes_kinds_and_what_filters_need(coco, detections, tmp_path):
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


def test_gallery_is_cut_into_files_and_its_images_into_the_best(coco, tmp_path):
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


def test_scores_for_the_slider(coco, detections, tmp_path):
    images = classify_detections(coco, detections)
    write_scores(tmp_path, 'one', score_detections(images, [CAT, DOG]))
    cats, dogs = read_data(tmp_path / 'one-scores.js')
    assert (cats['objects'], dogs['objects']) == (2, 1)
    # Cats at 0.9 and 0.2, false alarms at 0.5 and 0.6.
    assert [cats['right'][n] for n in (0, 20, 21, 90, 91)] == [2, 2, 1, 1, 0]
    assert [cats['found'][n] for n in (0, 20, 21, 50, 51, 61)] == [4, 4, 3, 3, 2, 1]
    assert dogs['found'] == dogs['right'] == [1] * 41 + [0] * 60


def test_shares_of_a_confusion():
    shown = confusion(np.array([[3, 1], [2, 0]]), ['cat'])
    assert shown['head'] == ['object \\ found as', 'cat', 'nothing']
    assert shown['rows'] == [
        (['cat', '3', '1'], [75, 25]),
        (['nothing', '2', ''], [40, 0]),
    ]


def test_facts_of_a_data_set(ground_truth, coco):
    coco.anns[1]['area'] = 33**2
    coco.anns[3]['iscrowd'] = 1
    facts = dataset_facts(coco, [CAT, DOG])
    assert (facts.images, facts.empty, facts.objects, facts.crowds) == (3, 2, 2, 1)
    assert facts.classes == [('cat', 1, 1), ('dog', 1, 1)]
    assert facts.sizes == dict(small=1, medium=1, large=0)
    assert sorted(facts.sides) == [20, 33]
    assert facts.per_image.tolist() == [2, 0, 0]
    assert facts.image_sizes == [((100, 80), 3)]
    assert dataset_facts(coco, [DOG]).empty == 2


def test_keys_in_which_configs_differ():
    a = dict(work_dir='a', model=dict(gamma=2.0, pi=0.01), steps=[dict(n=1), dict(n=2)])
    b = dict(work_dir='b', model=dict(gamma=1.0, pi=0.01), steps=[dict(n=1), dict(n=3)])
    c = dict(work_dir='c', model=dict(gamma=2.0, pi=0.01), steps=[dict(n=1)], sizes=[1])
    assert {row.key: row.values for row in config_differences([a, b, c])} == {
        'model.gamma': ['2.0', '1.0', '2.0'],
        'steps.1.n': ['2', '3', '-'],
        'sizes': ['-', '-', '[1]'],
    }
    for one, other in ((a, 'a'), (b, 'b')):
        one.update(load_from=other, resume=other == 'a')
        one['hooks'] = dict(visualization=dict(test_out_dir=other))
    assert 'model.gamma' in {row.key for row in config_differences([a, b])}
    assert not {'load_from', 'resume', 'hooks.visualization.test_out_dir'} & {
        row.key for row in config_differences([a, b])
    }
    assert config_differences([a]) == config_differences([]) == []


def test_thumbnails_are_small_and_turned_and_written_once(tmp_path):
    wide, turned = tmp_path / 'wide.png', tmp_path / 'turned.jpg'
    Image.new('RGB', (1280, 320)).save(wide)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: by 90 degrees
    Image.new('RGB', (40, 20)).save(turned, exif=exif)
    broken = tmp_path / 'broken.jpg'
    broken.write_text('no image')
    thumbnails = Thumbnails(tmp_path / 'small')
    for _ in range(2):
        assert thumbnails.add(wide, (1280, 320)) == '00000.jpg'
    assert Image.open(tmp_path / 'small' / '00000.jpg').size == (640, 160)
    assert thumbnails.add(turned, (20, 40)) == '00001.jpg'
    assert Image.open(tmp_path / 'small' / '00001.jpg').size == (20, 40)
    # Boxes may belong to the photo as it is stored.
    stored = shutil.copy(turned, tmp_path / 'stored.jpg')
    assert thumbnails.add(stored, (40, 20)) == '00002.jpg'
    assert Image.open(tmp_path / 'small' / '00002.jpg').size == (40, 20)
    absent = tmp_path / 'absent.jpg'
    for file in (broken, absent, absent):
        assert thumbnails.add(file, (20, 40)) is None
    assert thumbnails.missing == [absent]
    assert thumbnails.unfit == [f'{broken} cannot be decoded as an image']
    # The image of another data set, of the same name.
    assert thumbnails.add(shutil.copy(wide, tmp_path / 'c.png'), (40, 20)) is None
    assert (
        'c.png is 1280x320 where the annotation file says 40x20'
        in (thumbnails.unfit[1])
    )


def test_thumbnails_look_as_the_detector_saw_the_images(tmp_path):
    grey = tmp_path / 'grey.png'
    Image.fromarray(np.full((20, 40), 90 * 257, np.uint16)).save(grey)
    large = tmp_path / 'large.png'  # Pillow refuses to read it
    Image.new('1', (14_000, 13_000), 1).save(large)
    # Where a photo is square, its size does not tell how it was read.
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    square = [tmp_path / 'turned.png', tmp_path / 'stored.png']
    for file in square:
        Image.fromarray(pixels).save(file, exif=exif)
    thumbnails = Thumbnails(tmp_path / 'small')
    thumbnails.add(grey, (40, 20))
    thumbnails.add(large, (14_000, 13_000))
    for file, is_stored in zip(square, (False, True), strict=True):
        thumbnails.add(file, (32, 32), is_stored)
    assert not thumbnails.missing and not thumbnails.unfit
    grey, large, turned, stored = (
        np.array(Image.open(file)).astype(int)
        for file in sorted((tmp_path / 'small').iterdir())
    )
    assert abs(grey - 90).max() < 3
    assert large.shape[:2] == (594, 640) and large.min() > 250
    assert turned[:, -4:].min() > 200 and turned[:, :4].max() < 50
    assert stored[:4].min() > 200 and stored[-4:].max() < 50


def test_images_are_where_the_config_has_them():
    dataset = dict(data_root='data', data_prefix=dict(img='images/'))
    cfg = Config(dict(val_dataloader=dict(dataset=dict(dataset=dataset))))
    assert Run(Path('run'), [], cfg=cfg).img_dir == Path('data/images')
    dataset['data_prefix'] = dict(img='/elsewhere')
    cfg = Config(dict(val_dataloader=dict(dataset=dataset)))
    assert Run(Path('run'), [], cfg=cfg).img_dir == Path('/elsewhere')
    assert Run(Path('file.json'), []).img_dir is None


def test_charts_that_have_nothing_to_say_are_left_out(tmp_path):
    costs = {str(i): dict.fromkeys(ERRORS, 0.1) for i in range(MOST_BARS + 1)}
    assert draw_errors(costs, tmp_path / 'errors.svg') is None
    row = dict(name='a', AP=0.1, AP_sd=None, images_per_second=None)
    assert draw_speed_accuracy([row], tmp_path / 'speed.svg') is None
    assert list(tmp_path.iterdir()) == []
    assert len(shorten('x' * 99)) == 34 and shorten('short') == 'short'


def test_names_with_the_same_end_are_told_apart(tmp_path):
    end = '/retinanet_r50_fpn_1x_coco_bbox-detections'
    names = [f'work_dirs/first{end}', f'work_dirs/second{end}', 'third']
    assert short_names(names) == {
        names[0]: 'work_dirs/first…',
        names[1]: 'work_dirs/second…',
        'third': 'third',
    }
    # A part that is equal in the short names, too: the whole names are shown.
    deep = [f'{part}{end}/x{"y" * 40}{end}' for part in 'ab']
    assert list(short_names([*deep, f'c{"y" * 40}']).values())[:2] == ['a…', 'b…']
    both = ['a/x' + 'y' * 50, 'a/x' + 'z' * 50, 'b/x' + 'y' * 50, 'b/x' + 'z' * 50]
    assert list(short_names(both).values()) == both

    curves = dict.fromkeys(names, np.ones(101))
    row = dict(AP=0.1, AP_sd=None, images_per_second=1.0)
    gap = dict(reference='third', AP=0.1, low=0, high=0.2, within_noise=False)
    files = [
        draw_precision_recall(curves, tmp_path / 'curves.svg'),
        draw_speed_accuracy(
            [dict(row, name=name) for name in names], tmp_path / 'speed.svg'
        ),
        draw_differences(
            [dict(gap, model=name) for name in names[:2]], tmp_path / 'gaps.svg'
        ),
        draw_errors(
            {name: dict.fromkeys(ERRORS, 0.1) for name in names}, tmp_path / 'bars.svg'
        ),
    ]
    for file in files:
        text = file.read_text()
        assert 'first…' in text and 'second…' in text and 'third' in text, file


def test_names_that_begin_with_an_underscore_are_in_the_legends(tmp_path):
    row = dict(AP=0.1, AP_sd=None, images_per_second=1.0)
    costs = dict.fromkeys(ERRORS, 0.1)
    files = [
        draw_precision_recall({'_mine': np.ones(101)}, tmp_path / 'curves.svg'),
        draw_speed_accuracy([dict(row, name='_mine')], tmp_path / 'speed.svg'),
        draw_errors({'_mine': costs}, tmp_path / 'bars.svg'),
    ]
    for file in files:
        assert '_mine' in file.read_text(), file


def test_the_last_bar_has_the_largest_objects(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(style, 'save_figure', lambda f, _: figures.append(f))
    draw_histogram([1, 1, 5, 99], [0, 2, 4], 'x', 'y', tmp_path / 'x.svg')
    (axes,) = figures[0].axes
    assert [bar.get_height() for bar in axes.patches] == [2, 2]
    assert [text.get_text() for text in axes.texts] == ['last bar: 2 and more']
    draw_histogram([1, 1, 3], [0, 2, 4], 'x', 'y', tmp_path / 'x.svg')
    (axes,) = figures[1].axes
    assert [bar.get_height() for bar in axes.patches] == [2, 1] and not axes.texts


def test_a_report_of_two_models(report, make_run, detections, worse_detections):
    for seed in range(2):
        make_run(f'good/seed-{seed}', detections, seed=seed)
    good = make_run('good/seed-0/x', detections).parents[1]
    shutil.rmtree(good / 'seed-0' / 'x')
    bad = make_run('bad', worse_detections, gamma=0.5)
    (bad / 'loss_cdf.svg').write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    html, out, said = report([good, bad])
    assert all('FLOPs' in line for line in said)  # configs without a real model
    # AP50 is 0.752 for cats and 1 for dogs.
    assert '<td>87.6</td>' in html
    assert html.count('± 0.0') == 1
    assert 'Points of AP against good' in html
    assert 'model.gamma' in html and 'model.layers' not in html.split('<details>')[0]
    assert 'class="skip"' in html and '{{' not in html and 'undefined' not in html
    charts = sorted(file.name for file in (out / 'charts').iterdir())
    assert charts == [
        'curve_AP.svg',
        'curve_loss.svg',
        'curve_lr.svg',
        'differences.svg',
        'errors_0.svg',
        'loss_1.svg',
        'object_sizes_0.svg',
        'objects_per_image_0.svg',
        'precision_recall_0_1.svg',
        'precision_recall_0_2.svg',
        'speed_accuracy.svg',
        'thresholds_0_0.svg',
        'thresholds_0_1.svg',
    ]
    # All three objects are found, and the two false alarms.
    assert 'good: Best F1 of all classes: 75.0 % at a score of 0.10, with' in html
    assert 'bad: No object is found at any score' in html
    assert html.count('class="confusion"') == 1
    assert 'so equal models may differ' in html
    # The models share the thumbnails.
    assert len(list((out / 'images').iterdir())) == 3
    for file in re.findall(r'(?:src|href)="([a-z]+/[^"]+)"', html):
        assert (out / file).is_file(), file
    assert 'http' not in re.sub(
        r'(?s)<pre.*?</pre>', '', html
    )  # nothing from a network


def test_corrected_differences_are_said_to_be(
    report, make_run, detections, worse_detections
):
    paths = [
        make_run('good', detections),
        make_run('bad', worse_detections),
        make_run('worst', worse_detections[:1]),
    ]
    html, _, _ = report(paths, corrects=True)
    assert "corrected for 2 comparisons by Holm's method" in html.replace('&#39;', "'")
    assert 'p by Holm' in html and 'by chance' not in html


def test_a_missing_common_table_is_explained(report, make_run, detections):
    cats = [one for one in detections if one['category_id'] == CAT]
    two = make_run('two', detections)
    one = make_run('one', cats, classes=('cat',))
    html, out, _ = report([two, one])
    assert 'have no common table' in html and 'different classes' in html
    assert html.count('<table class="sortable ') >= 2 + 2  # models, classes
    assert html.count('class="gallery"') == 2
    assert 'None: differences need at least two models' in html
    assert (out / 'data' / 'gallery-1-0-0.js').is_file()
    # Only cats count for the cat detector.
    assert [i['ap50'] for i in read_data(out / 'data' / 'gallery-1-0.js')] == [
        0.5,
        1,
        None,
    ]


def test_one_bad_run_does_not_spoil_the_others(
    report, make_run, detections, worse_detections, tmp_path
):
    elsewhere = [{**detections[0], 'image_id': 777}]
    noise = tmp_path / 'noise.json'
    noise.write_text('')
    paths = [
        make_run('good', detections),
        make_run('other-data', elsewhere),
        noise,
        make_run('empty', []),
        make_run('bad', worse_detections, has_log=False),
    ]
    html, _, said = report(paths)
    text = '\n'.join(said)
    assert 'noise.json is not JSON' in text
    assert 'image_id 777' in text
    assert 'empty has no detections' in text
    assert 'bad: no log' in html
    assert 'Not measured and not shown: bad.' in html
    assert 'have no common table' not in html  # good, empty and bad have one
    for line in said:
        assert line.split("'")[0].replace('"', '&#34;') in html
    assert re.search(
        r'<th scope="row">empty</th><td>0.0</td>', html
    )  # in the table of errors


def test_images_that_moved_are_said(report, make_run, detections, ground_truth):
    run = make_run('run', detections)
    images = ground_truth.parent / 'images'
    (images / 'b.jpg').unlink()
    html, out, said = report([run])
    assert '1 image files were not found' in said[-1]
    assert str(images / 'b.jpg') in said[-1] and '--img-dir' in said[-1]
    assert '1 of these have no image file' in html
    records = {r['file']: r['image'] for r in read_data(out / 'data/gallery-0-0-0.js')}
    assert records['b.jpg'] is None and records['a.jpg'] is not None
    moved = images.rename(images.parent / 'moved')
    html, out, said = report([run], img_dir=moved, overwrite=True, max_images=2)
    assert '1 image files' in said[-1]
    assert '2 of 3 images, those with the lowest AP50' in html
    # The third image has no AP50 and is left out; the first report's are deleted.
    assert len(list((out / 'images').iterdir())) == 1


def test_files_of_detections_alone(report, ground_truth, detections, tmp_path):
    file = tmp_path / '<b>&.json'
    file.write_text(json.dumps(detections))
    html, out, said = report([file], ann_file=str(ground_truth))
    assert said == []
    assert '<b>&' not in html and '&lt;b&gt;&amp;' in html
    assert 'Files of detections have no training log' in html
    assert 'equal models may differ' not in html  # no speed is shown
    assert '3 of these have no image file;' in html
    assert not (out / 'images').exists()


def test_what_makes_no_report(report, make_run, detections, tmp_path):
    run = make_run('run', detections)
    with pytest.raises(UserError, match='no model is called x; there are run'):
        report([run], reference='x')
    with pytest.raises(UserError, match='absent'):
        report([tmp_path / 'absent'])
    elsewhere = make_run('elsewhere', [{**detections[0], 'image_id': 777}])
    with pytest.raises(UserError, match='image_id 777'):
        report([elsewhere])
    out = tmp_path / 'report'
    assert not out.exists()
    out.mkdir()
    own = out / 'notes.txt'
    own.write_text('')
    with pytest.raises(UserError, match='has files already: name another --out-dir'):
        report([run])
    report([run], overwrite=True)
    with pytest.raises(UserError, match='is a file'):
        write_report([run], own, warn=lambda line: None)
    assert own.exists()


def test_a_report_replaces_only_what_a_report_wrote(
    report, make_run, detections, tmp_path
):
    run = make_run('run', detections)
    own = tmp_path / 'report' / 'data' / 'train.json'
    own.parent.mkdir(parents=True)
    own.write_text('mine')
    refused = r'train\.json is not of an earlier report, .*: name another --out-dir'
    with pytest.raises(UserError, match=refused):
        report([run], overwrite=True)
    assert [path.name for path in own.parent.parent.iterdir()] == ['data']
    own.unlink()
    report([run], overwrite=True)
    # In the folder of a report, too.
    own.write_text('mine')
    with pytest.raises(UserError, match=refused):
        report([run], overwrite=True)
    assert own.read_text() == 'mine'
    own.unlink()
    stale = own.with_name('gallery-0-9.js')
    listed = own.parent.parent / 'static' / 'files.json'
    stale.write_text('')
    listed.write_text(
        json.dumps([*json.loads(listed.read_text()), f'data/{stale.name}'])
    )
    report([run], overwrite=True)
    assert not stale.exists()


def test_a_report_that_failed_is_replaced(report, make_run, detections, monkeypatch):
    run = make_run('run', detections)
    with monkeypatch.context() as patched:
        patched.setattr(
            'focal_retinanet.visualization.report.report._render',
            mock.Mock(side_effect=OSError),
        )
        with pytest.raises(OSError):
            report([run])
    report([run], overwrite=True)


def test_twenty_models(report, detections, ground_truth, tmp_path):
    files = [tmp_path / f'model-{i}.json' for i in range(20)]
    for file in files:
        file.write_text(json.dumps(detections))
    html, out, _ = report(files, ann_file=str(ground_truth), num_resamples=2)
    assert html.count('<option value="gallery-0-') == 20
    svg = (out / 'charts' / 'precision_recall_0_1.svg').read_text()
    assert all(f'model-{i}: 75.2' in svg for i in range(20))


def test_more_models_than_looks_have_no_lines(report, make_run, detections, tmp_path):
    runs = [make_run(f'run-{i}', detections) for i in range(style.MOST_LOOKS + 1)]
    html, out, _ = report(runs, num_resamples=2)
    drawn = {file.name for file in (out / 'charts').iterdir()}
    assert not {name for name in drawn if name.startswith(('precision', 'speed'))}
    for what in (
        '24 models, the lines',
        '24 models, the markers',
        '8 models, the bars',
    ):
        assert f'of more than {what} look alike' in html


def test_the_tool(make_run, detections, tmp_path):
    words = [
        'tools/report.py',
        make_run('run', detections),
        '--out-dir',
        tmp_path / 'out',
    ]
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert f'wrote {tmp_path / "out" / "index.html"}: ' in done.stdout
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, text=True, capture_output=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith('error: ') and '--overwrite' in done.stderr

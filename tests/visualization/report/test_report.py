"""A whole report, and its tables by numbers that one can check by hand."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.runs import Run
from focal_retinanet.visualization import style
from focal_retinanet.visualization.report import write_report
from focal_retinanet.visualization.report.config_differences import config_differences
from focal_retinanet.visualization.report.dataset_facts import dataset_facts
from focal_retinanet.visualization.report.sections import confusion

ROOT = Path(__file__).parents[3]
CAT, DOG = 1, 2


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


def test_images_are_where_the_config_has_them():
    dataset = dict(data_root='data', data_prefix=dict(img='images/'))
    cfg = Config(dict(val_dataloader=dict(dataset=dict(dataset=dataset))))
    assert Run(Path('run'), [], cfg=cfg).img_dir == Path('data/images')
    dataset['data_prefix'] = dict(img='/elsewhere')
    cfg = Config(dict(val_dataloader=dict(dataset=dataset)))
    assert Run(Path('run'), [], cfg=cfg).img_dir == Path('/elsewhere')
    assert Run(Path('file.json'), []).img_dir is None


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


def test_a_missing_common_table_is_explained(read_data, report, make_run, detections):
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


def test_images_that_moved_are_said(
    read_data, report, make_run, detections, ground_truth
):
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

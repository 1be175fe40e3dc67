"""Tables of a model zoo, from work directories and files of detections."""

import csv
import io
import json
import os
from pathlib import Path

import pytest

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.average_precision import MatchedDetections
from focal_retinanet.evaluation.comparison import compare
from focal_retinanet.evaluation.complexity import complexity
from focal_retinanet.evaluation.ground_truth import describe_crowded
from focal_retinanet.evaluation.runs import find_models
from focal_retinanet.evaluation.tables import (
    as_csv,
    as_markdown,
    classes_table,
    differences_table,
    models_table,
    notes,
)

CONFIG = """
randomness = dict(seed={seed})
train_cfg = dict(max_epochs=24)
val_dataloader = dict(batch_size=2, dataset=dict(metainfo=dict(classes={classes})))
val_evaluator = dict(type='CocoMetric', ann_file={ann_file!r})
"""
SCALARS = [
    {'loss': 2.0, 'time': 0.5, 'memory': 2048, 'step': 1},
    {'loss': 1.0, 'time': 0.1, 'memory': 1024, 'step': 2},
    {'loss': 1.0, 'time': 0.2, 'memory': 1024, 'step': 3},
    {'coco/bbox_mAP': 0.5, 'time': 0.25, 'step': 1},
]


@pytest.fixture
def data(random_data, tmp_path):
    """An annotation file with good and with bad detections."""
    dataset, good = random_data()
    for image in dataset['images']:
        image['file_name'] = f'{image["id"]}.jpg'
    file = tmp_path / 'val.json'
    file.write_text(json.dumps(dataset))
    bad = [{**one, 'bbox': [v + 40 for v in one['bbox']]} for one in good]
    return file, good, bad


@pytest.fixture
def make_run(data):
    """Function that writes a work directory."""

    def make(folder, detections, seed=0, classes=('0', '1', '2')):
        log = folder / '20260101_000000'
        (log / 'vis_data').mkdir(parents=True)
        text = CONFIG.format(seed=seed, classes=classes, ann_file=str(data[0]))
        (log / 'vis_data' / 'config.py').write_text(text)
        lines = '\n'.join(json.dumps(line) for line in SCALARS)
        (log / 'vis_data' / 'scalars.json').write_text(lines + '\n')
        file = log / 'val_detections.bbox.json'
        file.write_text(json.dumps(detections))
        return folder

    return make


def compare_quietly(paths, *args, **kwargs):
    return compare(find_models(paths)[0], *args, warn=lambda line: None, **kwargs)


def test_numbers_of_work_directories_with_seeds(data, make_run, tmp_path, to_coco):
    _, good, bad = data
    for seed in range(3):
        make_run(tmp_path / 'good' / f'seed-{seed}', good[seed:], seed)
        make_run(tmp_path / 'bad' / f'seed-{seed}', bad[seed:], seed)
    (tmp_path / 'bad' / 'seed-3').mkdir()
    models, left_out = find_models([tmp_path / 'good', tmp_path / 'bad'])
    assert len(left_out) == 1 and 'seed-3' in left_out[0]
    said = []
    result = compare(models, num_resamples=50, warn=said.append)
    assert len(said) == 2 and 'FLOPs' in said[0]  # configs without a model
    row = result['models'][0]
    coco = to_coco(json.loads(data[0].read_text()))
    aps = [MatchedDetections(coco, good[s:]).summarize()['AP'] for s in range(3)]
    assert [one['AP'] for one in row['seeds']] == pytest.approx(aps, abs=1e-12)
    assert row['AP'] == pytest.approx(sum(aps) / 3, abs=1e-12)
    assert row['schedule'] == '24e'
    assert row['memory_gb'] == 2
    assert row['seconds_per_iter'] == 0.2
    assert row['images_per_second'] == 8
    [gap] = result['differences']
    assert gap['model'] == 'bad' and gap['reference'] == 'good'
    assert gap['AP'] == pytest.approx(result['models'][1]['AP'] - row['AP'])
    assert gap['low'] <= gap['AP'] <= gap['high'] < 0
    assert not gap['within_noise']
    assert json.loads(json.dumps(result)) == result


def test_the_latest_evaluation_counts_also_in_a_copy(data, make_run, tmp_path):
    _, good, bad = data
    run = make_run(tmp_path / 'run', bad)
    later = run / '20260101_000001'
    later.mkdir()
    (later / 'test_detections.bbox.json').write_text(json.dumps(good))
    # Copying may leave the times in any order.
    os.utime(later / 'test_detections.bbox.json', (1, 1))
    models, _ = find_models([run])
    assert models[0].runs[0].detections == good
    said = []
    compare(models, data[0], warn=said.append)
    assert f'{run} has 2 evaluations; the latest counts, {later}' in said[0]


def test_a_training_inside_of_another_ones_folder_lends_nothing(
    data, make_run, tmp_path
):
    _, good, bad = data
    run = make_run(tmp_path / 'run', bad)
    make_run(run / 'fine-tuned', good)
    models, _ = find_models([run, run / 'fine-tuned'])
    assert [model.runs[0].detections for model in models] == [bad, good]


def test_more_objects_than_count_are_said(tmp_path, to_coco):
    def content(count):
        box = dict(image_id=1, bbox=[1, 1, 9, 9], area=81, iscrowd=0, category_id=2)
        return dict(
            images=[dict(id=1, file_name='crowd.jpg', width=20, height=20)],
            categories=[dict(id=2, name='a')],
            annotations=[dict(box, id=n) for n in range(1, count + 1)],
        )

    assert describe_crowded(to_coco(content(100))) is None
    text = describe_crowded(to_coco(content(101)))
    assert text.startswith('1 images have more than 100 objects of a class, such as cr')
    file = tmp_path / 'val.json'
    file.write_text(json.dumps(content(101)))
    detections = tmp_path / 'found.bbox.json'
    detections.write_text('[]')
    said = []
    compare(find_models([detections])[0], file, warn=said.append)
    assert any(text in line for line in said)


def test_the_first_of_several_data_sets_counts(data, make_run, tmp_path):
    run = make_run(tmp_path / 'run', data[1])
    (log,) = run.glob('2026*')
    (log / 'val_detections_2.bbox.json').write_text('[]')
    ((model,), _) = find_models([run])
    assert model.runs[0].detections == data[1]
    assert 'of 2 data sets, the first counts, ' in model.runs[0].note


def test_a_later_run_without_detections_lends_no_config(data, make_run, tmp_path):
    run = make_run(tmp_path / 'run', data[1], seed=3)
    later = run / '20260101_000001' / 'vis_data'
    later.mkdir(parents=True)
    (later / 'config.py').write_text('randomness = dict(seed=7)\n')
    ((model,), _) = find_models([run])
    assert model.runs[0].seed == 3
    assert f'{run} has a later run without detections' in model.runs[0].note


def test_copies_of_a_seed_are_no_seeds(data, make_run, tmp_path):
    _, good, bad = data
    for copy in range(2):
        make_run(tmp_path / 'good' / f'seed-{copy}', good[copy:], copy)
        make_run(tmp_path / 'bad' / f'seed-{copy}', bad[copy:], 7)
    models, _ = find_models([tmp_path / 'good', tmp_path / 'bad'])
    said = []
    [gap] = compare(models, num_resamples=50, warn=said.append)['differences']
    assert gap['p_seeds'] is None
    assert 'bad: its runs have the seeds [7, 7]' in said[0]


WRAPPERS = [
    "dict(type='RepeatDataset', times=2, dataset={a})",
    "dict(type='ConcatDataset', datasets=[{a}, {a}])",
    "dict(type='ClassBalancedDataset', oversample_thr=0.1, "
    "dataset=dict(type='ConcatDataset', datasets=[{a}, {b}]))",
]


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_wrapped_data_sets(data, make_run, tmp_path, wrapper):
    file, good, _ = data
    plain = make_run(tmp_path / 'plain', good, classes=('0', '2'))
    wrapped = make_run(tmp_path / 'wrapped', good, classes=('0', '2'))
    config = wrapped / '20260101_000000' / 'vis_data' / 'config.py'
    part = (
        "dict(type='CocoDataset', metainfo=dict(classes=('0', '2')), "
        "data_root='root', data_prefix=dict(img={img!r}))"
    )
    text = config.read_text()
    inner = wrapper.format(a=part.format(img='a'), b=part.format(img='b'))
    head, _, tail = text.partition('dataset=dict(metainfo=')
    config.write_text(f'{head}dataset={inner})\n' + tail.partition('\n')[2])
    models, _ = find_models([plain, wrapped])
    run = models[1].runs[0]
    assert run.classes == ('0', '2')
    assert run.ann_file == str(file)
    assert run.img_dir == (None if '{b}' in wrapper else Path('root/a'))
    result = compare_quietly([plain, wrapped], num_resamples=20)
    assert result['categories'] == ['0', '2']
    [gap] = result['differences']
    assert gap['AP'] == 0


def test_ground_truth_of_several_metrics(data, make_run, tmp_path):
    file, good, _ = data
    run = make_run(tmp_path / 'run', good)
    config = run / '20260101_000000' / 'vis_data' / 'config.py'
    metric = f"dict(type='CocoMetric', ann_file={str(file)!r})"
    for evaluator in (
        f"[dict(type='CityScapesMetric'), {metric}]",
        f"dict(type='MultiDatasetsEvaluator', metrics=[{metric}, {metric}])",
    ):
        config.write_text(f'{config.read_text()}\nval_evaluator = {evaluator}\n')
        (model,), _ = find_models([run])
        assert model.runs[0].ann_file == str(file)


def test_multiply_adds_of_a_test_on_wrapped_data(tiny_config):
    plain = complexity(tiny_config)
    part = tiny_config.test_dataloader.dataset
    tiny_config.test_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[part, part]
    )
    assert complexity(tiny_config) == plain
    assert plain[2] == (64, 64)


def test_multiply_adds_are_of_the_padded_image(tiny_config):
    # YOLOv3 cannot concatenate the maps of an image that is not padded.
    resize = next(
        step
        for step in tiny_config.test_dataloader.dataset.pipeline
        if step.type.endswith('Resize')
    )
    of_size = {}
    for side in (33, 64):
        resize.scale = (64, side)
        of_size[side] = complexity(tiny_config)
    assert of_size[33] == of_size[64]
    assert of_size[33][2] == (64, 64)
    # The preprocessor that pads may stand beside the model.
    resize.scale = (64, 33)
    tiny_config.data_preprocessor = tiny_config.model.pop('data_preprocessor')
    assert complexity(tiny_config) == of_size[33]
    assert 'data_preprocessor' not in tiny_config.model


def test_the_same_twice_is_within_noise(data, tmp_path):
    file, good, _ = data
    for name in 'ab':
        (tmp_path / f'{name}.json').write_text(json.dumps(good))
    result = compare_quietly([tmp_path / 'a.json', tmp_path / 'b.json'], file)
    [gap] = result['differences']
    assert gap['AP'] == gap['low'] == gap['high'] == 0
    assert gap['within_noise']
    assert result['models'][0]['params'] is None
    assert differences_table(result)[1][-1] == 'within noise'


def test_tables_say_what_was_not_measured(data, make_run, tmp_path):
    file, good, bad = data
    (tmp_path / 'theirs.json').write_text(json.dumps(bad))
    make_run(tmp_path / 'ours', good)
    paths = [tmp_path / 'ours', tmp_path / 'theirs.json']
    result = compare_quietly(paths, file, reference='theirs', num_resamples=20)
    head, ours, theirs = models_table(result)
    assert 'params (M)' not in head  # measured for neither
    assert ours[head.index('img/s')] == '8.0'
    assert theirs[head.index('img/s')] == 'not measured'
    ap = f'{100 * result["models"][0]["AP"]:.1f}'
    assert f'| {ap}' in as_markdown(models_table(result))
    rows = list(csv.DictReader(io.StringIO(as_csv(result))))
    assert float(rows[0]['AP']) == result['models'][0]['AP']  # full precision
    assert rows[0]['difference_reference'] == 'theirs'
    assert rows[1]['difference_AP'] == ''
    assert differences_table(result)[1][-1] == 'better'


def test_folders_of_one_name_are_told_apart(data, make_run, tmp_path):
    _, good, _ = data
    paths = [make_run(tmp_path / name / 'run', good) for name in 'ab']
    models, _ = find_models(paths)
    assert [model.name for model in models] == [str(path) for path in paths]


@pytest.mark.parametrize(
    'text, message',
    [('nonsense', 'not JSON'), ('{}', 'COCO format'), ('[{"image_id": 1}]', 'bbox')],
)
def test_files_that_are_no_detections_are_named(text, message, tmp_path):
    file = tmp_path / 'results.json'
    file.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        find_models([file])
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    'value',
    [
        {'score': float('nan')},
        {'score': float('inf')},
        {'score': '0.5'},
        {'score': None},
        {'score': True},
        {'bbox': [1, 2, 3]},
        {'bbox': [1, 2, float('nan'), 4]},
        {'image_id': '1'},
        {'image_id': 1.5},
        {'category_id': None},
    ],
)
def test_a_value_that_is_none_is_named(data, value, tmp_path):
    _, good, _ = data
    file = tmp_path / 'results.json'
    file.write_text(json.dumps([good[0], {**good[1], **value}]))
    (key,) = value
    with pytest.raises(UserError, match=rf'detection 1 \(.*\) has the {key}') as error:
        find_models([file])
    assert str(file) in str(error.value)


def test_what_is_left_out_of_a_file_is_said_and_does_not_count(data, tmp_path):
    file, good, _ = data
    (tmp_path / 'a.json').write_text(json.dumps(good))
    expected = compare_quietly([tmp_path / 'a.json'], file)['models'][0]
    content = json.loads(file.read_text())
    extra = dict(content['annotations'][0], id=12345, bbox=[1, 1, 0, 5])
    content['annotations'].append(extra)
    for annotation in content['annotations']:
        if not annotation.get('iscrowd'):
            annotation.pop('iscrowd', None)
    changed = tmp_path / 'changed.json'
    changed.write_text(json.dumps(content))
    models, _ = find_models([tmp_path / 'a.json'])
    said = []
    found = compare(models, changed, warn=said.append)['models'][0]
    assert found == expected
    assert 'annotation 12345 has a box narrower' in said[0]


def test_models_that_cannot_be_compared_are_named(data, make_run, tmp_path):
    file, good, _ = data
    (tmp_path / 'a.json').write_text(json.dumps(good))
    models, _ = find_models([tmp_path / 'a.json'])
    with pytest.raises(UserError, match='--ann-file'):
        compare(models)
    with pytest.raises(UserError, match='no model is called x; there are a'):
        compare(models, file, reference='x')
    (tmp_path / 'other.json').write_text(json.dumps([{**good[0], 'image_id': 777}]))
    with pytest.raises(UserError, match='image_id 777'):
        compare_quietly([tmp_path / 'other.json'], file)
    (tmp_path / 'other.json').write_text(json.dumps([{**good[0], 'category_id': 99}]))
    with pytest.raises(UserError, match='category_id 99'):
        compare_quietly([tmp_path / 'other.json'], file)
    with pytest.raises(FileNotFoundError, match='absent'):
        find_models([tmp_path / 'absent'])
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='nothing to compare'):
        find_models([tmp_path / 'empty'])
    runs = [
        make_run(tmp_path / 'two', good, classes=('0', '1')),
        make_run(tmp_path / 'three', good),
    ]
    with pytest.raises(UserError, match='different classes'):
        compare_quietly(runs)
    with pytest.raises(UserError, match="no category 'cat'"):
        compare_quietly([make_run(tmp_path / 'cats', good, classes=('cat',))])
    empty = tmp_path / 'nothing.json'
    empty.write_text(json.dumps({**json.loads(file.read_text()), 'annotations': []}))
    with pytest.raises(UserError, match='no box'):
        compare_quietly([tmp_path / 'a.json'], empty)


def test_a_run_on_a_part_of_its_images_is_not_compared_on_all(data, make_run, tmp_path):
    run = make_run(tmp_path / 'part', data[1])
    config = run / '20260101_000000' / 'vis_data' / 'config.py'
    config.write_text(config.read_text() + "val_dataloader['dataset']['indices'] = 2\n")
    with pytest.raises(UserError, match=r'part of its images .*dataset\.indices'):
        compare_quietly([run])
    assert compare_quietly([run], data[0])['models']


def test_a_run_that_still_writes_its_log_is_compared(data, make_run, tmp_path):
    run = make_run(tmp_path / 'run', data[1])
    (log,) = run.glob('*/vis_data/scalars.json')
    log.write_text(log.read_text()[:-20])  # without the validation
    ((model,), _) = find_models([run])
    assert model.runs[0].seconds_per_iter == 0.2
    assert model.runs[0].images_per_second is None
    log.write_text('oops\n{"step": 1}\n')
    with pytest.raises(UserError, match='line 1, is not JSON'):
        find_models([run])
    with pytest.raises(UserError, match=r'nothing to compare\n.*line 1, is not JSON'):
        find_models([run], skip_errors=True)


def test_speed_of_a_test_is_that_of_its_own_log(data, make_run, tmp_path):
    run = make_run(tmp_path / 'run', data[1])
    test = run / '20260102_000000'
    test.mkdir()
    (test / 'test_detections.bbox.json').write_text(json.dumps(data[1]))
    log = test / '20260102_000000.json'
    log.write_text(json.dumps({'coco/bbox_mAP': 0.5, 'time': 0.5, 'data_time': 0.1}))
    ((model,), _) = find_models([run])
    assert model.runs[0].split == 'test'
    assert model.runs[0].seconds_per_iter == 0.2
    config = run / '20260101_000000' / 'vis_data' / 'config.py'
    config.write_text(config.read_text() + 'test_dataloader = dict(batch_size=3)\n')
    ((model,), _) = find_models([run])
    assert model.runs[0].images_per_second == 6
    log.write_text('oops')
    with pytest.raises(UserError, match=r'20260102_000000\.json is not JSON'):
        find_models([run])


def test_holm_corrects_for_the_number_of_differences(data, make_run, tmp_path):
    _, good, bad = data
    runs = [
        make_run(tmp_path / 'good', good),
        make_run(tmp_path / 'bad', bad),
        make_run(tmp_path / 'same', good),
        make_run(tmp_path / 'nearly', good[:-1]),
    ]
    plain = compare_quietly(runs, num_resamples=400)
    assert plain['correction'] is None
    assert {gap['confidence'] for gap in plain['differences']} == {0.95}
    assert all(gap['p_corrected'] is None for gap in plain['differences'])
    result = compare_quietly(runs, num_resamples=400, corrects=True)
    worse, same, nearly = result['differences']
    assert worse['confidence'] == pytest.approx(1 - 0.05 / 3)
    assert worse['p_corrected'] == pytest.approx(3 * worse['p_images'])
    assert worse['low'] < plain['differences'][0]['low']
    assert not worse['within_noise'] and same['within_noise']
    assert same['p_corrected'] == 1
    assert nearly['p_corrected'] >= nearly['p_images']
    table = differences_table(result)
    assert table[0][-2:] == ['p by Holm', '']
    assert table[1][-1] == 'worse' and len(table[1]) == len(table[0])
    assert 'corrected for 3 comparisons by Holm' in ' '.join(notes(result))
    assert 'difference_p_corrected' in as_csv(result).splitlines()[0]


def test_a_lopsided_interval_is_said(data, make_run, tmp_path):
    _, good, bad = data
    runs = [make_run(tmp_path / name, good) for name in ('good', 'same')]
    runs.append(make_run(tmp_path / 'bad', bad))
    result = compare_quietly(runs, num_resamples=200)
    same, worse = result['differences']
    assert worse['lopsided'] and not same['lopsided']
    drawn = f'{100 * (worse["AP"] + worse["bias"]):+.1f}'
    line = f'bad ({drawn} instead of {100 * worse["AP"]:+.1f})'
    assert f'{line}: the interval is lopsided' in ' '.join(notes(result))
    assert 'is lopsided' not in ' '.join(notes({**result, 'differences': [same]}))


def test_ap_of_each_class(data, make_run, tmp_path, to_coco):
    file, good, bad = data
    for seed in range(2):
        make_run(tmp_path / 'good' / f'seed-{seed}', good[seed:], seed)
    make_run(tmp_path / 'bad', bad)
    result = compare_quietly([tmp_path / 'good', tmp_path / 'bad'], num_resamples=0)
    coco = to_coco(json.loads(file.read_text()))
    expected = [
        MatchedDetections(coco, good[seed:]).average_precision().mean(0)
        for seed in range(2)
    ]
    row = result['models'][0]
    assert row['class_AP'] == pytest.approx(list(sum(expected) / 2)[:3])
    assert sum(row['class_AP']) / 3 == pytest.approx(row['AP'])
    head, *rows = classes_table(result)
    assert head == ['AP', 'good', 'bad']
    assert [line[0] for line in rows] == ['0', '1', '2']
    assert rows[1][1] == f'{100 * row["class_AP"][1]:.1f}'
    [line, _] = csv.DictReader(io.StringIO(as_csv(result)))
    assert float(line['AP of 1']) == row['class_AP'][1]
    assert any('equal models may differ' in note for note in notes(result))


def test_ap_of_each_class_of_many_models(data, tmp_path):
    file, good, _ = data
    paths = [tmp_path / f'{name}.json' for name in 'abcde']
    for path in paths:
        path.write_text(json.dumps(good))
    result = compare_quietly(paths, file, num_resamples=0)
    head, *rows = classes_table(result)
    assert head == ['AP', '0', '1', '2', '3']
    assert [line[0] for line in rows] == list('abcde')
    assert {line[-1] for line in rows} == {'-'}  # class 3 has no objects
    # Of detections alone, no speed is known.
    assert not any('equal models may differ' in note for note in notes(result))


def test_a_bar_in_a_name_adds_no_cell_to_a_table():
    lines = as_markdown([['class', 'AP'], ['cat|dog', '1.0']]).splitlines()
    assert lines[-1] == r'| cat\|dog | 1.0 |'

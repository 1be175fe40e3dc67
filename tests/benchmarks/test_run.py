"""Each sub-command at a tiny size, and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmdet.models.losses import FocalLoss

from focal_retinanet.cli.errors import UserError
from harness.agreement import Disagreement
from harness.environment import describe_environment
from run import find_case, make_parser, run

ROOT = Path(__file__).parents[2]
QUICK = '--runs 2 --warmup 0 --min-run-ms 0'
IMAGE = '--height 64 --width 96'
ROW_KEYS = {
    'name',
    'median_ms',
    'spread',
    'ratio',
    'peak_mib',
    'agreement',
    'note',
    'calls_per_run',
    'runs_ms',
}


def benchmark(words):
    return run(make_parser().parse_args(f'{words} {QUICK}'.split()))


def check_case(case):
    """Check what every case promises; return its contestants by name."""
    rows = {row['name']: row for row in case['contestants']}
    assert {'ours', 'mmdet'} <= rows.keys()
    for name, row in rows.items():
        assert row.keys() >= ROW_KEYS
        assert len(row['runs_ms']) == 2
        assert row['median_ms'] > 0
        if case['least_bytes']:
            assert row['gb_per_s'] > 0
            assert (row['of_copy'] == 1) == (name == 'copy')
    assert rows['ours']['ratio'] == 1
    assert rows['mmdet']['agreement']
    contestants = find_case(case['name']).CONTESTANTS
    assert {*rows, *case['left_out']} - {'copy'} == contestants.keys()
    return rows


@pytest.fixture(autouse=True)
def one_thread():
    """At these sizes threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def config(tiny_config, tmp_path):
    file = tmp_path / 'tiny.py'
    tiny_config.dump(file)
    return file


@pytest.mark.parametrize('dtype', ['fp32', 'bf16', 'fp16'])
def test_loss(dtype):
    record = benchmark(f'loss --anchors 500 --classes 7 --dtype {dtype}')
    (case,) = record['cases']
    check_case(case)
    assert case['sizes']['anchors'] == 500
    assert case['left_out']['mmcv'] == 'its operator is for GPUs only'


def test_assign_with_any_number_of_objects():
    record = benchmark(f'assign {IMAGE} --objects 0,1,40')
    assert [case['sizes']['objects'] for case in record['cases']] == [0, 1, 40]
    for case in record['cases']:
        assert check_case(case)['mmdet']['agreement'] == 'objects equal'


def test_a_peer_that_needs_too_much_memory_is_left_out():
    record = benchmark(f'assign {IMAGE} --objects 100 --max-memory 0.001')
    (case,) = record['cases']
    assert 'would need about' in case['left_out']['mmdet']
    assert [row['name'] for row in case['contestants']] == ['ours', 'copy']


def test_a_peer_without_a_kernel_for_the_dtype_is_left_out(monkeypatch):
    def forward(*args, **kwargs):
        raise NotImplementedError('no kernel for BFloat16')

    monkeypatch.setattr('mmdet.models.losses.FocalLoss.forward', forward)
    record = benchmark('loss --anchors 500 --classes 3 --peers mmdet')
    (case,) = record['cases']
    assert case['left_out'] == dict(mmdet='no kernel for BFloat16')
    assert [row['name'] for row in case['contestants']] == ['ours', 'copy']


@pytest.mark.parametrize('options', ['', '--memory-format channels_last --dtype bf16'])
def test_head(options):
    record = benchmark(f'head {IMAGE} --classes 3 --objects 2,5 {options}')
    check_case(record['cases'][0])
    assert record['cases'][0]['sizes']['objects'] == '2+5'


@pytest.mark.parametrize('density', ['many', 'few'])
def test_predict(density):
    record = benchmark(f'predict {IMAGE} --classes 20 --density {density}')
    rows = check_case(record['cases'][0])
    assert 'matches' in rows['mmdet']['agreement']


def test_step(config):
    record = benchmark(f'step --config {config} {IMAGE} --objects 3,4')
    check_case(record['cases'][0])
    assert 'ResNet-50' in record['cases'][0]['left_out']['torchvision']


@pytest.mark.parametrize(
    'options, data',
    [('', 'in memory'), ('--with-data', 'loaded'), (f'--synthetic {IMAGE}', None)],
)
def test_infer(config, options, data):
    record = benchmark(f'infer --config {config} --images 3 {options}')
    (case,) = record['cases']
    rows = check_case(case)
    assert case['sizes']['images'] == 3
    assert case['sizes'].get('data') == data
    assert 'matches' in rows['mmdet']['agreement']  # score_thr is 0 there


def test_deploy(config):
    # Without the peers that export or compile, which take up to a minute.
    record = benchmark(f'deploy --config {config} {IMAGE} --peers mmdet')
    (case,) = record['cases']
    rows = {row['name']: row for row in case['contestants']}
    assert list(rows) == ['ours', 'mmdet']
    assert 'matches of' in rows['mmdet']['agreement']


def test_eval(shapes_root, tmp_path):
    file = shapes_root / 'annotations' / 'val.json'
    coco = json.loads(file.read_text())
    found = [
        {key: a[key] for key in ('image_id', 'category_id', 'bbox')} | {'score': 0.5}
        for a in coco['annotations']
    ]
    results = tmp_path / 'results.json'
    results.write_text(json.dumps(found))
    record = benchmark(f'eval --ann-file {file} --results {results}')
    rows = check_case(record['cases'][0])
    assert rows['mmdet']['agreement'].endswith('numbers equal')
    assert record['cases'][0]['sizes']['detections'] == len(found)

    for img_id, message in (
        ('nowhere', 'detection 1 .*has the image_id'),
        (10**6, 'detections with the image_id 1000000, which'),
    ):
        found[1]['image_id'] = img_id
        results.write_text(json.dumps(found))
        with pytest.raises(UserError, match=message):
            benchmark(f'eval --ann-file {file} --results {results}')


def test_a_peer_that_disagrees_is_refused(monkeypatch):
    forward = FocalLoss.forward
    monkeypatch.setattr(
        FocalLoss, 'forward', lambda *args, **kwargs: forward(*args, **kwargs) * 1.01
    )
    with pytest.raises(Disagreement, match='ours and mmdet disagree: our loss: '):
        benchmark('loss --anchors 500 --classes 7')


def test_a_model_with_other_weights_is_refused(config):
    with pytest.raises(UserError, match='--shared-options'):
        benchmark(
            f'step --config {config} {IMAGE} '
            '--cfg-options model.bbox_head.stacked_convs=2'
        )


def test_ours_alone():
    (case,) = benchmark('loss --anchors 50 --classes 3 --peers none')['cases']
    assert [row['name'] for row in case['contestants']] == ['ours', 'copy']


def test_environment_is_described():
    described = describe_environment()
    assert described['versions']['torch'] == torch.__version__
    assert described['hardware']['cpu']
    assert described['hardware']['cores'] >= 1
    assert described['command'].startswith('python ')
    json.dumps(described)


def tool(*words, cwd=ROOT):
    """Run the script as a user does; return its status and all that it printed."""
    done = subprocess.run(
        [sys.executable, ROOT / 'benchmarks' / 'run.py', *map(str, words)],
        cwd=cwd,
        env={**os.environ, 'COLUMNS': '120'},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.returncode, done.stdout


def test_record_is_written_once(tmp_path):
    out = tmp_path / 'loss.json'
    words = ['loss', '--anchors', 50, '--classes', 3, *QUICK.split(), '--no-compiler']
    status, printed = tool(*words, '--out', out, cwd=tmp_path)
    assert status == 0, printed
    assert 'median ms' in printed and 'mmcv: its operator' in printed
    written = out.read_text()
    record = json.loads(written)
    assert record.keys() == {'environment', 'settings', 'cases'}
    assert record['environment']['variables']['FOCAL_RETINANET_NATIVE'] == '0'
    assert 'benchmarks/run.py loss' in record['environment']['command']
    assert record['settings']['anchors'] == 50
    check_case(record['cases'][0])

    again = f'loss --anchors 60 --classes 3 --out {out}'
    with pytest.raises(UserError, match='exists already: name another file'):
        benchmark(again)
    assert out.read_text() == written
    benchmark(f'{again} --overwrite')
    assert json.loads(out.read_text())['settings']['anchors'] == 60


@pytest.mark.parametrize(
    'words, message',
    [
        ('loss --peers mmdet,detectron', "unknown peer 'detectron'; known are mmdet,"),
        ('loss --anchors 0', 'must be at least 1'),
        ('loss --positives 2', 'is not a share'),
        ('head --objects 3,0', 'must be at least 1'),
        ('assign --objects 3,x', "'x' is not a number"),
        ('loss --min-run-ms x', 'invalid float value'),
    ],
)
def test_bad_values_are_named(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        make_parser().parse_args(words.split())
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    'words, message',
    [
        ('step --config nowhere.py --amp', '--amp needs'),
        ('infer --config nowhere.py --with-data --synthetic', '--synthetic uses none'),
        ('loss --anchors 9 --out {tmp}', 'is a folder'),
        ('loss --anchors 9 --out {tmp}/a/b.json', 'there is no folder'),
    ],
)
def test_mistakes_are_one_clear_line(words, message, tmp_path):
    with pytest.raises(UserError, match=message):
        benchmark(words.format(tmp=tmp_path))

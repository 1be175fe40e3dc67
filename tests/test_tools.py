"""The tools from outside, as a user runs them."""

import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

ROOT = Path(__file__).parent.parent


def run(*command, fails=False, **environment):
    """Run a tool with this interpreter; return its stdout and stderr together."""
    words = [str(word) for word in command]
    if words[0].endswith('.py'):
        words = [sys.executable, *words]
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    done = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, 'PATH': path, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def config(tiny_config, tmp_path):
    """Write the tiny config to a file."""
    file = tmp_path / 'tiny.py'
    tiny_config.pop('work_dir')
    tiny_config.dump(file)
    return file


@pytest.fixture
def trained(config, tmp_path):
    """Train once; return the config, the checkpoint and the printed output."""
    output = run('tools/train.py', config, '--work-dir', tmp_path / 'run')
    return config, tmp_path / 'run' / 'epoch_2.pth', output


def test_train_test_and_infer(trained, tmp_path, shapes_root, fail):
    config, checkpoint, output = trained
    assert checkpoint.exists()
    assert (tmp_path / 'run' / 'tiny.py').exists()  # the config, as mmdet saves it
    assert 'eta:' in output
    assert 'Warning' not in output
    assert len(output.splitlines()) < 70

    out, shown = tmp_path / 'results.pkl', tmp_path / 'test'
    output = run(
        *('tools/test.py', config, checkpoint, '--work-dir', shown, '--out', out),
        *('--show-dir', 'pictures'),
    )
    assert 'Average Precision' in output
    assert len(pickle.loads(out.read_bytes())) == 4
    (folder,) = shown.glob('*/pictures')
    assert f'Pictures: {folder}' in output
    assert len(list(folder.glob('*.png'))) == 4

    video = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*'MJPG'), 5, (64, 64))
    for value in (50, 150):
        writer.write(np.full((64, 64, 3), value, np.uint8))
    writer.release()
    broken = tmp_path / 'broken.png'
    broken.write_text('not an image')
    found = tmp_path / 'found'
    images = shapes_root / 'images' / 'val'
    inputs = [images, f'{shapes_root}/images/train/00000[12].png', video, broken]
    infer = ['tools/infer.py', config, checkpoint, *inputs, '--out-dir', found]
    output = run(*infer, fails=True)  # names the broken image
    assert f'{broken} cannot be decoded' in output
    assert '1 of 8 inputs could not be read' in output
    coco = COCO(str(found / 'detections.json'))
    assert len(coco.imgs) == 4 + 2 + 2
    assert coco.cats[1]['name'] == 'circle'
    assert all(0 <= a['score'] <= 1 for a in coco.anns.values())
    assert len(list((found / 'vis').glob('*.jpg'))) == 6
    assert cv2.VideoCapture(str(found / 'vis' / 'clip.mp4')).read()[0]

    again = fail(*infer)
    assert 'has files already' in again

    # A picture that cannot be written is named; its detections are kept.
    (found / 'vis' / 'clip.mp4').unlink()
    (found / 'vis' / 'clip.mp4').mkdir()
    infer = ['tools/infer.py', config, checkpoint, video, '--out-dir', found]
    output = fail(*infer, '--overwrite')
    assert f'{found}/vis/clip.mp4 cannot be written as a video' in output
    assert '1 of 1 pictures and videos could not be written' in output
    coco = COCO(str(found / 'detections.json'))
    assert [image['file_name'] for image in coco.dataset['images']] == [
        f'{video}#000000',
        f'{video}#000001',
    ]


def test_pictures_of_a_trained_model(trained, tmp_path, fail):
    config, checkpoint, _ = trained
    worst = tmp_path / 'worst'
    analyze = ('tools/analyze_results.py', tmp_path / 'run', '--out-dir', worst)
    output = run(*analyze, '--topk', 2, '--show-score-thr', 0.05)
    assert 'localisation' in output and 'AP50 without it' in output
    assert 'number from 0.05' in output and 'found as' in output
    assert 'Best F1 of all classes: ' in output
    assert (worst / 'score_threshold.png').exists()
    assert len(list((worst / 'most_missed').glob('*.png'))) == 2
    assert (worst / 'most_missed.png').exists() and (worst / 'lowest_ap50.png').exists()
    assert 'has files already' in fail(*analyze)

    maps = ('tools/plot_loss.py', 'map', config, checkpoint, '--num', 1)
    output = run(*maps, '--out-dir', tmp_path / 'maps')
    (file,) = (tmp_path / 'maps').glob('*_loss.png')
    assert output.splitlines()[-1] == str(file)
    again = fail(*maps, '--out-dir', tmp_path / 'maps')
    assert 'exists: name another --out-dir' in again
    out = tmp_path / 'run' / 'loss_cdf.svg'
    output = run('tools/plot_loss.py', 'cdf', config, checkpoint, '--out', out)
    assert 'gamma 2: the hardest 20 % of the positives have' in output
    assert out.exists()


def test_resume_and_scaled_learning_rate(trained, tmp_path, fail):
    config, checkpoint, _ = trained
    output = run(
        *('tools/train.py', config, '--work-dir', tmp_path / 'run', '--resume'),
        *('--cfg-options', 'train_cfg.max_epochs=3'),
    )
    assert 'Epoch(train) [3]' in output.replace('  ', ' ')
    assert 'Epoch(train) [1]' not in output.replace('  ', ' ')
    weights = torch.load(tmp_path / 'run' / 'epoch_3.pth')
    assert weights['meta']['epoch'] == 3

    # With another head, it cannot be resumed.
    resume = ('tools/train.py', config, '--work-dir', tmp_path / 'run', '--resume')
    wider = ('model.bbox_head.feat_channels=32', 'train_cfg.max_epochs=4')
    output = fail(*resume, '--cfg-options', *wider)
    assert f'error: {tmp_path / "run" / "epoch_3.pth"} cannot be resumed' in output
    assert '--weights ' in output
    test = ('tools/test.py', config, tmp_path / 'run' / 'epoch_3.pth')
    output = fail(*test, '--cfg-options', wider[0])
    assert 'epoch_3.pth is of another model' in output

    output = fail(*resume[:-1])  # would write over epoch_1.pth
    assert 'has the checkpoints of a run already' in output

    output = fail('tools/train.py', config, '--auto-scale-lr')
    assert '--auto-scale-lr needs auto_scale_lr' in output
    assert checkpoint.exists()


def test_sweep_and_compare(config, tmp_path, fail):
    table = tmp_path / 'table.py'
    table.write_text(
        f'base = {config.name!r}\n'
        "rows = {'a': {}, 'b': {'model.bbox_head.loss_cls.gamma': 0.0}, 'same': {},\n"
        "        'fails': {'model.bbox_head.num_classes': 7}}\n"
    )
    out = tmp_path / 'sweep'
    sweep = ('tools/sweep.py', table, '--work-dir', out, '--seeds', 3)
    output = fail(*sweep)
    assert 'table_same is the same as table_a' in output
    assert 'table_fails seed 3: FAILED' in output
    assert 'built for 7 classes' in output
    assert '[3/3]' in output and 'eta 0:00:00' in output
    assert '1 of 3 runs failed' in output
    output = fail(*sweep)
    assert '2 of 3 runs were done before' in output and '[1/1]' in output

    runs = sorted(out.glob('table_*'))
    compare = ('tools/compare.py', *runs, '--resamples', 50)
    json_file, markdown = tmp_path / 'out.json', tmp_path / 'out.md'
    output = run(*compare, '--json', json_file, '--markdown', markdown)
    assert 'left out' in output and 'table_fails' in output
    assert 'triangle' in output  # the AP of each class
    comparison = json.loads(json_file.read_text())
    rows = {row['name']: row for row in comparison['models']}
    assert rows.keys() == {'table_a', 'table_b'}
    assert rows['table_a']['params'] == rows['table_b']['params'] > 0
    for row in rows.values():
        assert row['flops'] > 0 and row['seconds_per_iter'] > 0
        for seed in row['seeds']:
            (log,) = Path(seed['path']).glob('*/vis_data/scalars.json')
            scalars = [json.loads(line) for line in log.read_text().splitlines()]
            ap = [line['coco/bbox_mAP'] for line in scalars if 'coco/bbox_mAP' in line]
            assert seed['AP'] == pytest.approx(ap[-1], abs=1e-3)  # has three digits
    assert '| table_b' in markdown.read_text()

    output = fail(*compare, '--csv', tmp_path / 'out.csv', '--markdown', markdown)
    assert f'error: {markdown} exists' in output and '--overwrite' in output


def test_two_processes_train_as_one_with_the_whole_batch(runs, tiny_config, tmp_path):
    """Batch norm is frozen, and both trainings see the same images per batch."""
    config, start = tmp_path / 'tiny.py', tmp_path / 'start.pth'
    tiny_config.merge_from_dict(
        {
            'model.backbone.norm_eval': True,
            'model.backbone.norm_cfg.requires_grad': False,
            'train_dataloader.dataset.pipeline.3.prob': 0.0,
            'train_cfg.max_epochs': 1,
            'train_cfg.val_interval': 1,
            'optim_wrapper.optimizer.type': 'SGD',
            'optim_wrapper.optimizer.lr': 0.01,
            'param_scheduler.0.start_factor': 1.0,
        }
    )
    first = runs.train(tiny_config, tmp_path / 'start').model.state_dict()
    torch.save(dict(state_dict=first), start)
    tiny_config.pop('work_dir')
    tiny_config.load_from = str(start)
    tiny_config.dump(config)
    run(
        *('tools/train.py', config, '--work-dir', tmp_path / 'one'),
        *('--cfg-options', 'train_dataloader.batch_size=8'),
        CUDA_VISIBLE_DEVICES='',
    )
    output = run(
        *('tools/dist_train.sh', config, 2, '--work-dir', tmp_path / 'two'),
        *('--cfg-options', 'train_dataloader.batch_size=4'),
        PORT=free_port(),
        OMP_NUM_THREADS='1',
        CUDA_VISIBLE_DEVICES='',
    )
    assert 'eta:' in output
    one, two = (
        torch.load(tmp_path / name / 'epoch_1.pth', map_location='cpu')['state_dict']
        for name in ('one', 'two')
    )
    moved = max((one[k].float() - first[k].float().cpu()).abs().max() for k in one)
    apart = max((one[k].float() - two[k].float()).abs().max() for k in one)
    assert moved > 1e-3
    assert apart < 1e-3 * moved

    output = run(
        *('tools/dist_test.sh', config, tmp_path / 'two' / 'epoch_1.pth', 2),
        *('--work-dir', tmp_path / 'test'),
        PORT=free_port(),
        CUDA_VISIBLE_DEVICES='',
    )
    assert 'Average Precision' in output


def test_mistakes_are_one_clear_line(config, tmp_path, fail):
    evil = tmp_path / 'evil.pth'
    torch.save(dict(state_dict={}, extra=Path('x')), evil)
    output = run('tools/test.py', config, evil, fails=True)
    assert f'error: {evil} is not a plain checkpoint' in output
    assert 'Traceback' not in output
    assert 'gone.pth not found' in fail('tools/test.py', config, tmp_path / 'gone.pth')
    output = fail('tools/infer.py', config, evil, tmp_path / 'none.jpg')
    assert 'none.jpg does not exist' in output
    assert 'nowhere.py' in fail('tools/train.py', 'nowhere.py')


def test_mistakes_of_options_and_launchers_are_one_clear_line(config, tmp_path, fail):
    found = ('--out-dir', tmp_path / 'found')
    tools = {
        'tools/train.py': (config,),
        'tools/test.py': (config, 'gone.pth'),
        'tools/infer.py': (config, 'gone.pth', ROOT / 'resources', *found),
        'tools/export.py': (config, 'gone.pth'),
        'tools/browse_dataset.py': (config, '--out-dir', tmp_path / 'browsed'),
        'tools/plot_loss.py': ('map', config, 'x'),
        'tools/sweep.py': (config, '--work-dir', tmp_path / 'sweep', '--dry-run'),
        'benchmarks/run.py': ('step', '--config', config),
    }
    for tool, words in tools.items():
        output = fail(tool, *words, '--cfg-options', 'train_cfg.max_epoch=3')
        assert 'error: --cfg-options: no one reads train_cfg.max_epoch' in output, tool
        assert 'did you mean train_cfg.max_epochs' in output
    output = fail('tools/train.py', config, '--cfg-options', 'foo')
    assert 'error: --cfg-options foo: an option is KEY=VALUE' in output
    output = fail('tools/test.py', config, 'a.pth', '--cfg-options', 'load_from=b.pth')
    assert 'the argument CHECKPOINT is tested' in output
    for flags, option in (
        (('--work-dir', tmp_path), 'work_dir=elsewhere'),
        (('--amp',), 'optim_wrapper.type=OptimWrapper'),
    ):
        output = fail('tools/train.py', config, *flags, '--cfg-options', option)
        assert f'--cfg-options {option.partition("=")[0]}: {flags[0]}' in output
    output = fail('tools/train.py', config, '--resume', 'a.pth', '--weights', 'b.pth')
    assert '--weights: --resume a.pth has weights of its own' in output
    assert f'{tmp_path} is a folder; name a config' in fail('tools/train.py', tmp_path)
    assert 'there is no config nosuch.py' in fail('tools/train.py', 'nosuch.py')
    output = fail('tools/train.py', config, '--launcher', 'pytorch')
    assert 'RANK' in output and 'torchrun' in output


def test_amp_has_options_of_its_own(config, tmp_path, fail):
    output = run(
        *('tools/train.py', config, '--work-dir', tmp_path / 'amp', '--amp'),
        *('--cfg-options', 'optim_wrapper.loss_scale=512', 'train_cfg.max_epochs=1'),
    )
    assert 'Saving checkpoint at 1 epochs' in output
    output = fail(
        *('tools/train.py', config, '--work-dir', tmp_path / 'amp'),
        *('--cfg-options', 'optim_wrapper.loss_scale=512'),
    )
    assert 'OptimWrapper has no loss_scale' in output


def test_make_shapes(tmp_path, fail):
    command = ('tools/make_shapes.py', tmp_path / 's', '--train', 2, '--val', 1)
    assert 'made' in run(*command)
    assert 'there already' in run(*command)
    assert 'made with other arguments' in fail(*command, '--seed', 3)
    record = json.loads((tmp_path / 's' / 'shapes.json').read_text())
    assert record['train'] == 2

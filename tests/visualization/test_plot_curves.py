"""tools/plot_curves.py as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).parents[2]


def plot(*words, fails=False, **options):
    """Run the tool without a display and return its output, both streams."""
    command = [sys.executable, ROOT / 'tools/plot_curves.py', *words]
    environment = {k: v for k, v in os.environ.items() if k != 'DISPLAY'}
    done = subprocess.run(
        [str(word) for word in command],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )
    assert (done.returncode != 0) == fails, done.stdout
    assert 'Traceback' not in done.stdout
    return done.stdout


def write(work_dir, losses, ap=0.3):
    folder = work_dir / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    lines = [
        dict(lr=0.01, loss=loss, loss_cls=loss / 2, time=1.0, epoch=1, step=10 * i)
        for i, loss in enumerate(losses, 1)
    ]
    lines.append({'coco/bbox_mAP': ap, 'time': 1.0, 'step': 1})
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / 'scalars.json').write_text(text)


@pytest.fixture
def runs(tmp_path):
    """Seeds, a diverged run, a run without a log, and one with an empty log."""
    write(tmp_path / 'seeds' / 'seed-0', [3, 2, 1])
    write(tmp_path / 'seeds' / 'seed-1', [4, 2, 2])
    write(tmp_path / 'lost', [9, float('nan'), float('nan')])
    (tmp_path / 'none').mkdir()
    folder = tmp_path / 'empty' / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').touch()
    return [tmp_path / name for name in ('seeds', 'lost', 'none', 'empty')]


def test_good_runs_are_plotted_and_bad_ones_named(runs, tmp_path):
    output = plot(*runs, cwd=tmp_path)
    assert 'wrote curves.png: seeds, lost\n' in output
    lines = [line for line in output.splitlines() if line.startswith('warning: ')]
    assert len(lines) == 3
    assert f'left out {runs[2]}: no log' in lines[0]
    assert f'left out {runs[3]}: its log is empty' in lines[1]
    assert f'{runs[1]} diverged' in lines[2] and 'iteration 20 on' in lines[2]
    picture = cv2.imread(str(tmp_path / 'curves.png'))
    assert picture.shape[1] > 1200  # print quality
    assert picture.std() > 10

    before = (tmp_path / 'curves.png').read_bytes()
    output = plot(runs[0], cwd=tmp_path, fails=True)
    assert 'curves.png exists: name another --out, or add --overwrite' in output
    assert (tmp_path / 'curves.png').read_bytes() == before
    plot(runs[0], '--overwrite', cwd=tmp_path)
    assert (tmp_path / 'curves.png').read_bytes() != before


def test_options_are_in_the_picture(runs, tmp_path):
    out = tmp_path / 'new' / 'out.svg'
    plot(
        *(*runs[:2], '--keys', 'loss', 'AP', '--x', 'time', '--smooth', 2),
        *('--legend', 'ours', 'theirs', '--title', 'Two of them', '--out', out),
    )
    text = out.read_text()
    for words in (
        *('loss, mean of 2 logged', 'AP (%)', 'ours (2 seeds)', 'theirs'),
        *('Two of them', 'seconds of training, without validation'),
    ):
        assert words in text, words
    assert 'learning rate' not in text
    plot(runs[0], '--out', tmp_path / 'out.pdf')
    assert (tmp_path / 'out.pdf').read_bytes().startswith(b'%PDF')


def test_mistakes_are_one_clear_line(runs, tmp_path, fail, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, message in (
        ([*runs[2:]], 'nothing to plot'),
        ([runs[0], '--out', 'curves.gif'], 'curves.gif must end in .png, .svg, .pdf'),
        ([runs[0], '--legend', 'a', 'b'], '--legend has 2 names for 1 runs: seeds'),
    ):
        assert message in fail('tools/plot_curves.py', *words)
    assert not list(tmp_path.glob('curves.*'))


def test_survival(tmp_path):
    for rate, losses in (0.01, [3, 2, 1]), (0.1, [9, float('nan')]):
        work_dir = tmp_path / f'lr-{rate}' / 'ce'
        write(work_dir, losses)
        config = work_dir / '20260101_000000' / 'vis_data' / 'config.py'
        config.write_text(f'optim_wrapper = dict(optimizer=dict(lr={rate}))')
    runs = sorted(tmp_path.glob('lr-*/ce'))
    plot(*runs, '--survival', '--out', tmp_path / 'survival.png')
    assert cv2.imread(str(tmp_path / 'survival.png')) is not None
    output = plot(*runs, '--survival', '--keys', 'loss', fails=True)
    assert '--survival has no curves for --keys' in output

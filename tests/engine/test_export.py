"""tools/export.py leaves a file only if it detects what PyTorch detects."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.structures import InstanceData

from focal_retinanet import Detector
from focal_retinanet.cli.errors import UserError
from focal_retinanet.engine.export import _convert, _line
from focal_retinanet.engine.export_check import (
    check_equal,
    check_same_ap,
    detect,
    load_test_images,
)
from focal_retinanet.export import use_exported_model
from focal_retinanet.export.runtimes import OnnxRuntime

pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def tool(monkeypatch):
    """The tool, called with arguments."""
    spec = importlib.util.spec_from_file_location('export', ROOT / 'tools/export.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(*args):
        monkeypatch.setattr(sys, 'argv', ['tools/export.py', *map(str, args)])
        module.main()

    return call


@pytest.fixture
def model(tiny_config, tmp_path):
    """Config file and checkpoint of a detector with random weights."""
    register_all_modules(init_default_scope=True)
    torch.manual_seed(0)
    tiny_config.model.test_cfg.score_thr = 0.05
    built = MODELS.build(tiny_config.model).eval()
    classify = built.bbox_head.retina_cls
    with torch.no_grad():
        # Scores that differ, around 0.27.
        logits, _ = built.bbox_head(built.extract_feat(torch.randn(1, 3, 64, 64)))
        classify.weight.div_(logits[0].std())
        classify.bias.fill_(-1)
    torch.save(dict(state_dict=built.state_dict()), tmp_path / 'model.pth')
    tiny_config.dump(tmp_path / 'config.py')
    return tmp_path / 'config.py', tmp_path / 'model.pth'


def test_the_file_is_checked_and_takes_the_place_of_the_checkpoint(
    tool, model, runs, tiny_config, tmp_path, capsys, monkeypatch
):
    with monkeypatch.context() as patch:
        run = OnnxRuntime.__call__

        def shifted(self, images):
            boxes, *rest = run(self, images)
            return [boxes + 0.1, *rest]

        patch.setattr(OnnxRuntime, '__call__', shifted)
        with pytest.raises(
            UserError, match=r'model.onnx is not written: image 0 of the check: PyTorch'
        ):
            tool(*model, '--shape', 1, 64, 64)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'config.py',
        'model.pth',
    ]

    tool(*model, '--shape', 1, 64, 64, '--int8', '--calibration-images', 4)
    output = capsys.readouterr().out
    assert 'in 4 test images are those of PyTorch' in output
    assert 'fp32     AP ' in output and 'int8     AP ' in output
    file = tmp_path / 'model-int8.onnx'
    assert f'Written  {file}' in output
    with pytest.raises(UserError, match='exists: name another --out, or add --overw'):
        tool(*model, '--int8')

    # In the places where a checkpoint goes, and by the code of the page.
    image = np.random.default_rng(0).integers(0, 256, (80, 160, 3), dtype=np.uint8)
    [found] = Detector(str(model[0]), file)(image)
    assert len(found) > 0
    file.rename(tmp_path / 'model.onnx')
    cv2.imwrite(str(tmp_path / 'photo.png'), image)
    page = (ROOT / 'docs' / 'deploy.md').read_text()
    (code,) = re.findall(r'```python\n(import json.*?)```', page, re.DOTALL)
    code = code.replace('photo.jpg', 'photo.png').replace(
        '[None]\n', "[None]\nimages = fill(images, about['pad'])\n"
    )
    monkeypatch.chdir(tmp_path)

    def fill(images, pixel):  # the file of this test has a fixed shape
        filled = np.empty((1, 3, 64, 64), np.uint8)
        filled[:] = np.array(pixel, np.uint8)[:, None, None]
        filled[:, :, : images.shape[2]] = images
        return filled

    names = dict(fill=fill)
    exec(code, names)
    # As the page says of a fixed shape.
    boxes = names['boxes'].clip(0, (160, 80, 160, 80))
    stays = (boxes[:, 2:] - boxes[:, :2] > 1e-3).all(1) & (names['scores'][0] > 0)
    np.testing.assert_allclose(names['scores'][0, stays], found.scores, atol=1e-6)
    np.testing.assert_allclose(boxes[stays], found.boxes, atol=1e-3)
    file = tmp_path / 'model.onnx'

    cfg = tiny_config.copy()
    use_exported_model(cfg, file)
    runner = runs.build(cfg)
    metrics = runner.test()
    assert 'coco/bbox_mAP' in metrics
    (kept,) = Path(runner.log_dir).glob('*.bbox.json')
    assert json.loads(kept.read_text())


def test_a_name_with_brackets_is_no_pattern(tmp_path):
    for folder in ('graph', 'made'):
        (tmp_path / folder).mkdir()
    for name in ('m[1].onnx', 'm[1].onnx.data', 'm1.onnx'):
        (tmp_path / 'graph' / name).touch()
    _convert(tmp_path / 'graph/m[1].onnx', tmp_path / 'made/k[2].onnx', metadata=None)
    made = sorted(path.name for path in (tmp_path / 'made').iterdir())
    assert made == ['k[2].onnx', 'k[2].onnx.data']


def test_arguments_that_do_not_fit(tool, model, capsys):
    for args, says in (
        (['--out', 'model.pth'], 'the name ends with .onnx, .xml, .pt2'),
        (['--format', 'onnx', '--out', 'model.xml'], 'the name ends with .onnx'),
        (['--int8', '--format', 'torch-export'], '--int8 needs --format onnx or openv'),
        (['--int8', '--raw'], 'which --raw leaves out'),
    ):
        with pytest.raises(SystemExit):
            tool(*model, *args)
        assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ('format', 'name'), [('openvino', 'model.bin'), ('onnx', 'model.onnx.data')]
)
def test_the_weights_beside_the_file_replace_no_other_file(tool, model, format, name):
    config, checkpoint = model
    beside = checkpoint.with_name(name)
    beside.write_bytes(b'mine')
    with pytest.raises(UserError, match=f'{name} exists: name another --out'):
        tool(*model, '--format', format)
    checkpoint.replace(beside)
    out = ['--out', beside.with_name('model.onnx')] if format == 'onnx' else []
    with pytest.raises(UserError, match=f'{name} is an input or another output'):
        tool(config, beside, '--format', format, '--overwrite', *out)


@pytest.mark.parametrize(
    ('changes', 'has_evaluator'),
    [({}, True), (dict(format_only=True), False)],
    ids=['evaluated', 'format_only'],
)
def test_the_check_writes_no_result_file(
    changes, has_evaluator, model, tiny_config, tmp_path
):
    prefix = tmp_path / 'submission'
    results = Path(f'{prefix}.bbox.json')
    results.write_text('mine')
    tiny_config.test_evaluator.update(outfile_prefix=str(prefix), **changes)
    detector = Detector(tiny_config, model[1], 'cpu')
    images = load_test_images(tiny_config, detector.model, 2)
    assert (images.evaluator is not None) is has_evaluator
    _, metrics = detect(detector.model, images, 'check')
    assert ('coco/bbox_mAP' in metrics) is has_evaluator
    assert results.read_text() == 'mine'


@pytest.mark.parametrize(
    ('metrics', 'says'),
    [
        (dict(mAP=0.5, mAP_50=0.75, mAP_75=0.25), 'AP 50.0, AP50 75.0, AP75 25.0 on 4'),
        (dict(mAP=0.5), 'AP 50.0 on 4'),
        (dict(mAP_50=0.75, mAP_s=0.5), 'AP50 75.0 on 4'),
        (dict(mAP_s=0.5), 'no AP'),
        ({}, 'no AP'),
    ],
)
def test_the_line_has_the_aps_that_the_evaluator_has(metrics, says):
    metrics = {f'coco/bbox_{name}': value for name, value in metrics.items()}
    assert _line('fp32', metrics, 4).startswith(f'fp32     {says}')


@pytest.mark.parametrize(
    ('split', 'args'), [('test', []), ('train', ['--int8'])], ids=['test', 'train']
)
def test_a_config_without_the_images_is_named(split, args, tool, model, tiny_config):
    config, checkpoint = model
    tiny_config[f'{split}_dataloader'] = None
    tiny_config.dump(config)
    with pytest.raises(
        UserError, match=rf'config\.py has no {split}_dataloader, whose'
    ):
        tool(config, checkpoint, *args)


def test_images_of_parts_that_differ_in_their_colours(model, tiny_config, in_colours):
    part = tiny_config.test_dataloader.dataset
    tiny_config.test_dataloader.dataset = in_colours(part)
    tiny_config.test_evaluator = None
    images = load_test_images(tiny_config, MODELS.build(tiny_config.model), num=None)
    assert len(list(images)) == 8  # twice the 4 of the validation
    classes = images.dataset.metainfo['classes']
    assert tuple(classes) == tuple(part.metainfo.classes)


def detections(*rows):
    """Make detections of (x, score, label), boxes of 10 pixels side."""
    x = torch.tensor([row[0] for row in rows])
    return InstanceData(
        bboxes=torch.stack([x, 0 * x, x + 10, 0 * x + 10], dim=1),
        scores=torch.tensor([row[1] for row in rows]),
        labels=torch.tensor([row[2] for row in rows]),
    )


A, B, C = (0.0, 0.9, 0), (50.0, 0.5, 1), (90.0, 0.4, 0)


@pytest.mark.parametrize(
    ('other', 'is_same'),
    [
        ((A, B), True),
        ((B, A), True),
        (((0.009, 0.900008, 0), B), True),
        (((0.02, 0.9, 0), B), False),
        (((0.0, 0.9001, 0), B), False),
        (((0.0, 0.9, 1), B), False),
        ((A,), False),
        ((A, B, C), False),
        # At the score threshold.
        ((A, B, (70.0, 0.050001, 0)), True),
        ((A, B, (70.0, 0.0502, 0)), False),
        # Its IoU with a better box is that of the suppression, 1/2.
        ((A, B, (10 / 3, 0.3, 0)), True),
        ((A, B, (10 / 3, 0.3, 1)), False),
    ],
)
def test_which_detections_count_as_the_same(other, is_same):
    args = [detections(A, B)], [detections(*other)], 0.05, 0.5, 100
    if is_same:
        check_equal(*args)
        return
    with pytest.raises(UserError, match=r'image 0 of the check: (PyTorch|the file)'):
        check_equal(*args)


def test_detections_at_the_limit_of_their_number():
    """Rounding decides which of equal scores is the last one."""
    ours, theirs = detections(A, (20.0, 0.3, 0)), detections(A, (70.0, 0.3, 0))
    check_equal([ours], [theirs], 0.05, 0.5, 2)
    with pytest.raises(UserError):
        check_equal([ours], [theirs], 0.05, 0.5, 3)


def test_ap_may_differ_by_a_thousandth():
    check_same_ap({'coco/bbox_mAP': 0.5}, {'coco/bbox_mAP': 0.501})
    with pytest.raises(UserError, match=r'bbox_mAP is 0.5000 by PyTorch and 0.5030'):
        check_same_ap({'coco/bbox_mAP': 0.5}, {'coco/bbox_mAP': 0.503})

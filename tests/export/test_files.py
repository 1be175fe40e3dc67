"""Exported files detect what PyTorch detects, at other sizes than those of the trace."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from focal_retinanet.cli.errors import UserError
from focal_retinanet.engine.export_check import check_equal
from focal_retinanet.export import ExportedModel, onnx, openvino, torch_export
from focal_retinanet.export.exportable import Exportable
from focal_retinanet.export.metadata import Metadata
from focal_retinanet.export.quantize import quantize
from focal_retinanet.export.runtimes import TorchModule, load_runtime

pytest.importorskip('openvino')
pytest.importorskip('onnxscript')
onnx_library = pytest.importorskip('onnx')
ANY = (None, None, None)


def metadata_of(model, shape=ANY):
    return Metadata(
        classes=[f'class {i}' for i in range(model.head.num_classes)],
        resize=dict(scale=[64, 64], keep_ratio=True),
        score_thr=None if model.raw else model.score_thr,
        max_per_img=None if model.raw else model.max_per_img,
        shape=list(shape),
        raw=model.raw,
        precision='fp32',
        pad=model.pad_pixel(),
    )


def assert_same(found, expected):
    """Scores that are equal but for rounding may be in another order."""
    for ours, theirs in zip(expected, found, strict=True):
        assert theirs.shape == ours.shape and theirs.dtype == ours.dtype
    check_equal(as_instances(expected), as_instances(found), 0.05, 0.5, 100)


def as_instances(outputs):
    return [
        InstanceData(
            bboxes=torch.from_numpy(boxes[scores > 0]),
            scores=torch.from_numpy(scores[scores > 0]),
            labels=torch.from_numpy(labels[scores > 0]),
        )
        for boxes, scores, labels in zip(*outputs, strict=True)
    ]


def test_every_size(build, draw_images, tmp_path):
    # Three levels, as each takes seconds to trace.
    changes = {'neck.num_outs': 3, 'bbox_head.anchor_generator.strides': [8, 16, 32]}
    model = Exportable(build(**changes)).eval()
    metadata = metadata_of(model)
    program = torch_export.trace(model, ANY)
    onnx.write(program, tmp_path / 'model.onnx', metadata)
    openvino.write(tmp_path / 'model.onnx', tmp_path / 'model.xml', metadata)
    runtimes = [
        load_runtime(tmp_path / f'model{suffix}') for suffix in ('.onnx', '.xml')
    ]
    for size in ((1, 64, 64), (4, 70, 41), (1, 20, 300), (2, 416, 352)):
        images = draw_images(*size).numpy()
        expected = TorchModule(model, metadata)(images)
        assert (expected[1] > 0).any()
        for runtime in runtimes:
            assert runtime.metadata == metadata
            assert_same(runtime(images), expected)
    graph = onnx_library.load(tmp_path / 'model.onnx').graph
    shape = graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param for dim in shape] == ['batch', '', 'height', 'width']
    assert [output.name for output in graph.output] == ['boxes', 'scores', 'labels']

    # In 8 bits, the best detections are still there.
    images = draw_images(4, 64, 64)
    quantize(
        tmp_path / 'model.onnx',
        tmp_path / 'int8.onnx',
        [one[None].numpy() for one in images],
    )
    onnx.set_metadata(tmp_path / 'int8.onnx', metadata)
    small = onnx_library.load(tmp_path / 'int8.onnx')
    kinds = [node.op_type for node in small.graph.node]
    last = [n for n in small.graph.node if n.op_type == 'Conv'][-1]
    assert kinds.count('QuantizeLinear') > 10
    assert not any('DequantizeLinear' in name for name in last.input[:1])
    exact = TorchModule(model, metadata)(images.numpy())
    coarse = load_runtime(tmp_path / 'int8.onnx')(images.numpy())
    assert abs(coarse[1][:, 0] - exact[1][:, 0]).max() < 0.2


@pytest.fixture
def softmax_80(build):
    changes = {
        'bbox_head.num_classes': 80,
        'bbox_head.loss_cls': dict(
            _delete_=True, type='CrossEntropyLoss', use_sigmoid=False
        ),
    }
    return Exportable(build(**changes)).eval()


def test_a_fixed_shape_takes_smaller_images_and_any_number(
    softmax_80, draw_images, tmp_path
):
    """With softmax, 80 classes, and an image without detections."""
    shape = (2, 64, 96)
    exact = TorchModule(softmax_80, metadata_of(softmax_80, shape))
    images = [*draw_images(3, 64, 96), *draw_images(2, 50, 90)]
    best = [exact(torch.stack([one] * 2).numpy())[1][0, 0] for one in images[:3]]
    softmax_80.score_thr = float(np.sort(best)[:2].mean())
    metadata = metadata_of(softmax_80, shape)
    file = tmp_path / 'model.onnx'
    program = torch_export.trace(softmax_80, shape)
    onnx.write(program, file, metadata)
    torch_export.write(program, tmp_path / 'model.pt2', metadata)
    exported = ExportedModel(file)
    reference = ExportedModel('', runtime=TorchModule(softmax_80, metadata))
    batch = torch.stack(images[:2]).numpy()
    assert_same(load_runtime(tmp_path / 'model.pt2')(batch), exact(batch))
    samples = [DetDataSample(metainfo=dict(scale_factor=(0.5, 2.0))) for _ in images]
    data = dict(inputs=images, data_samples=samples)
    counts = []
    for ours, theirs, image in zip(
        reference.test_step(data), exported.test_step(data), images, strict=True
    ):
        ours, theirs = ours.pred_instances, theirs.pred_instances
        counts.append(len(ours))
        for key in ('bboxes', 'scores', 'labels'):
            torch.testing.assert_close(theirs[key], ours[key], rtol=0, atol=1e-2)
        # In pixels of the original image, whose sides are 2 and 1/2 of the input's.
        height, width = image.shape[1:]
        assert (theirs.bboxes[:, 2] <= 2 * width).all()
        assert (theirs.bboxes[:, 3] <= height / 2).all()
    assert min(counts) == 0 < max(counts)
    with pytest.raises(UserError, match=r'64x96 pixels .* gives 65x64; .* --shape'):
        exported.test_step(
            dict(inputs=draw_images(1, 65, 64), data_samples=samples[:1])
        )
    with pytest.raises(UserError, match=r'takes images of uint8'):
        exported.test_step(dict(inputs=[images[0].float()], data_samples=samples[:1]))
    with pytest.raises(
        UserError, match=r'has 80 classes .*, and the config has 2 \(a, b'
    ):
        exported.check_classes(['a', 'b'])


def test_files_that_are_none(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r'exported model .*nosuch.onnx not found'
    ):
        load_runtime(tmp_path / 'nosuch.onnx')
    for suffix in ('.onnx', '.xml', '.pt2'):
        file = tmp_path / f'cut{suffix}'
        file.write_bytes(b'no model')
        with pytest.raises(
            UserError, match=rf'cut\{suffix} cannot be read as an exported'
        ):
            load_runtime(file)


def test_the_onnx_file_of_another_program(tmp_path):
    helper = onnx_library.helper
    value = helper.make_tensor_value_info('images', 1, [1])
    out = helper.make_tensor_value_info('out', 1, [1])
    graph = helper.make_graph(
        [helper.make_node('Identity', ['images'], ['out'])], 'g', [value], [out]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)])
    onnx_library.save(model, tmp_path / 'other.onnx')
    with pytest.raises(UserError, match=r'was not written by tools/export.py'):
        load_runtime(tmp_path / 'other.onnx')

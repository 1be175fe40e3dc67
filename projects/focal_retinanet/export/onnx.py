"""A detector as an ONNX file."""

import logging
from pathlib import Path

import torch
from torch.export import ExportedProgram

from focal_retinanet.cli.errors import UserError
from focal_retinanet.export.libraries import import_library
from focal_retinanet.export.metadata import KEY, Metadata

_OPSET = 18
_OUTPUTS = ['boxes', 'scores', 'labels']
_RAW_OUTPUTS = ['logits', 'deltas', 'anchors']


def write(program: ExportedProgram, file: Path, metadata: Metadata) -> None:
    """Write a traced model as ONNX, opset 18.

    Args:
        program: Traced model, see :func:`focal_retinanet.export.torch_export.trace`.
        file: File to write. Weights beyond 2 GB lie beside it.
        metadata: Metadata of the file.

    Raises:
        UserError: A library is missing, or the model has an operator that ONNX lacks.
    """
    import_library('onnxscript', 'onnxscript', 'writing ONNX')
    onnx = import_library('onnx', 'onnx', 'writing ONNX')
    # It warns of operators of torchvision, which no graph here has.
    logging.getLogger('torch.onnx').setLevel(logging.ERROR)
    try:
        written = torch.onnx.export(
            program,
            dynamo=True,
            input_names=['images'],
            output_names=_RAW_OUTPUTS if metadata.raw else _OUTPUTS,
            opset_version=_OPSET,
            custom_translation_table=_translations(),
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise UserError(
            f'torch {torch.__version__} cannot write this model as ONNX: '
            f'{str(error).splitlines()[0]}'
        ) from error
    written.save(file)
    model = onnx.load(file, load_external_data=False)
    _name_sizes(model.graph)
    onnx.save(model, file)
    set_metadata(file, metadata)
    onnx.checker.check_model(str(file))


def set_metadata(file: Path, metadata: Metadata) -> None:
    """Set the metadata of an ONNX file."""
    onnx = import_library('onnx', 'onnx', 'writing ONNX')
    model = onnx.load(file, load_external_data=False)
    known = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**known, KEY: metadata.as_json()})
    onnx.save(model, file)


def _name_sizes(graph) -> None:
    """Name the free sizes of the input, which torch numbers, wherever they appear."""
    dims = graph.input[0].type.tensor_type.shape.dim
    names = {
        dims[axis].dim_param: name
        for axis, name in ((0, 'batch'), (2, 'height'), (3, 'width'))
    }
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = names.get(dim.dim_param, dim.dim_param)


def _translations() -> dict:
    """Return how this package's operators are written in ONNX's."""
    from onnx.helper import make_tensor
    from onnxscript import opset18 as op

    def nms(boxes, scores, labels, iou_threshold: float, num_classes: int):
        axis = op.Constant(value_ints=[1])
        # (1, K, 1), to tell the classes of the boxes (B, n) apart.
        numbers = make_tensor('k', 7, [1, num_classes, 1], list(range(num_classes)))
        of_class = op.Equal(op.Unsqueeze(labels, axis), op.Constant(value=numbers))
        by_class = op.Where(
            of_class, op.Unsqueeze(scores, axis), op.Constant(value_float=0.0)
        )
        kept = op.NonMaxSuppression(
            boxes,
            by_class,
            op.Constant(value_ints=[2**31 - 1]),  # no limit for a class
            op.Constant(value_floats=[iou_threshold]),
            op.Constant(value_floats=[0.0]),  # a box without a score is none
        )  # (M, 3): image, class, box
        place = op.Gather(kept, op.Constant(value_ints=[0, 2]), axis=1)
        zeros = op.ConstantOfShape(op.Shape(scores))
        count = op.Shape(place, start=0, end=1)
        ones = op.Expand(op.Constant(value_float=1.0), count)
        return op.Cast(op.ScatterND(zeros, place, ones), to=9)  # bool

    def pad(images, divisor: int, value: float):
        sides = op.Shape(images, start=2, end=4)
        # Like Python's, the remainder has the sign of the divisor.
        missing = op.Mod(op.Neg(sides), op.Constant(value_ints=[divisor]))
        pads = op.Concat(op.Constant(value_ints=[0] * 6), missing, axis=0)
        return op.Pad(images, pads, op.Constant(value_float=value))

    operators = torch.ops.focal_retinanet
    return {
        operators.batched_nms.default: nms,
        operators.pad_to_multiple.default: pad,
    }

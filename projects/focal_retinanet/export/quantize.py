"""Quantisation of an ONNX file to 8 bits, by ONNX Runtime."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from focal_retinanet.export.libraries import import_library


def quantize(source: Path, file: Path, images: Iterable[np.ndarray]) -> None:
    """Write an ONNX file with convolutions of 8 bits, calibrated on images.

    Weights have a scale for each channel. The last convolutions of the subnets and
    what follows them stay in fp32, since scores and boxes come of small differences.

    Args:
        source: ONNX file in fp32.
        file: ONNX file to write.
        images: Batches (B, 3, H, W), uint8, for the ranges of the activations.

    Raises:
        UserError: ONNX Runtime is missing.
    """
    ort = import_library('onnxruntime.quantization', 'onnxruntime', '--int8')
    shapes = import_library(
        'onnxruntime.quantization.shape_inference', 'onnxruntime', '--int8'
    )
    onnx = import_library('onnx', 'onnx', '--int8')

    class Images(ort.CalibrationDataReader):
        def __init__(self) -> None:
            self._images = iter(images)

        def get_next(self) -> dict | None:
            batch = next(self._images, None)
            return None if batch is None else dict(images=batch)

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / 'prepared.onnx'
        # Folds batch norms, which then need no range of their own.
        shapes.quant_pre_process(source, prepared, skip_symbolic_shape=True)
        ort.quantize_static(
            prepared,
            file,
            Images(),
            quant_format=ort.QuantFormat.QDQ,
            per_channel=True,
            activation_type=ort.QuantType.QUInt8,
            weight_type=ort.QuantType.QInt8,
            op_types_to_quantize=['Conv'],
            nodes_to_exclude=_last_convolutions(onnx.load(prepared)),
        )


def _last_convolutions(model) -> list[str]:
    """Return the names of the convolutions that no other follows."""
    readers: dict[str, list] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    seen: dict[str, bool] = {}

    def leads_to_convolution(name: str) -> bool:
        if name not in seen:
            seen[name] = False  # until known; the graph has no circle
            seen[name] = any(
                reader.op_type == 'Conv'
                or any(map(leads_to_convolution, reader.output))
                for reader in readers.get(name, [])
            )
        return seen[name]

    return [
        node.name
        for node in model.graph.node
        if node.op_type == 'Conv' and not any(map(leads_to_convolution, node.output))
    ]

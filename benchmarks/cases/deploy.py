"""A detector outside training: PyTorch, its compiler, ONNX Runtime and OpenVINO."""

import argparse
import atexit
import copy
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from focal_retinanet.acceleration.accelerate import accelerate
from focal_retinanet.acceleration.fast_conv import freeze_weights
from focal_retinanet.cli.errors import UserError
from focal_retinanet.export import onnx, openvino, quantize, torch_export
from focal_retinanet.export.exportable import Exportable
from focal_retinanet.export.exported_model import ExportedModel
from focal_retinanet.export.metadata import Metadata
from focal_retinanet.export.runtimes import OnnxRuntime, OpenVino, Runtime
from harness import detectors
from harness.agreement import Disagreement, check_detections
from harness.arguments import add_inputs, pick
from harness.contest import Case, Contestant, LeftOut
from harness.inputs import make_images

_NOT_COMPARED = 'other results by design; benchmarks/README.md has AP'
_RAW_TOLERANCE = 1e-3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    detectors.add_arguments(parser)
    add_inputs(parser, 'height', 'width', 'batch', batch=1)
    text = 'what is timed: the network with its normalisation, or all up to the boxes'
    parser.add_argument(
        '--part', choices=['network', 'detector'], default='detector', help=text
    )


def make_cases(args: argparse.Namespace) -> Iterator[Case]:
    if args.device != 'cpu':
        raise UserError('deploy compares runtimes on a CPU')
    yield Case(
        pick(args, 'config', 'part', 'batch', 'height', 'width'), (Inputs(args),)
    )


class Inputs:
    """Models of equal weights, images, and the files that are made of them.

    Attributes:
        ours: Our detector, with the settings of its config.
        stock: Mmdet's detector.
        data: Images as a data loader gives them.
        raw: Whether the network alone is timed.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        built = detectors.build_detectors(args)
        self._args = args
        self.ours, self.stock = built.ours.eval(), built.stock.eval()
        self.data = make_images(args.batch, args.height, args.width, [0], 1)
        self.raw = args.part == 'network'
        _spread_scores(self.stock)
        self.ours.load_state_dict(self.stock.state_dict())

    @property
    def images(self) -> Tensor:
        """Images (B, 3, H, W), uint8."""
        return torch.stack(self.data['inputs'])

    @cached_property
    def metadata(self) -> Metadata:
        exportable = Exportable(self.stock, self.raw)
        return Metadata(
            classes=['a'] * exportable.head.num_classes,
            resize=None,
            score_thr=None if self.raw else exportable.score_thr,
            max_per_img=None if self.raw else exportable.max_per_img,
            shape=[self._args.batch, self._args.height, self._args.width],
            raw=self.raw,
            precision='fp32',
            pad=exportable.pad_pixel(),
        )

    @cached_property
    def onnx_file(self) -> Path:
        program = torch_export.trace(
            Exportable(self.stock, self.raw).eval(), self.metadata.shape
        )
        file = self._folder / 'model.onnx'
        onnx.write(program, file, self.metadata)
        return file

    @cached_property
    def int8_file(self) -> Path:
        file = self._folder / 'int8.onnx'
        quantize.quantize(self.onnx_file, file, [self.images.numpy()])
        onnx.set_metadata(file, self.metadata)
        return file

    def openvino_file(self, graph: Path) -> Path:
        file = graph.with_suffix('.xml')
        if not file.exists():
            openvino.write(graph, file, self.metadata)
        return file

    @cached_property
    def _folder(self) -> Path:
        folder = tempfile.TemporaryDirectory()
        atexit.register(folder.cleanup)
        return Path(folder.name)


def ours(inputs: Inputs) -> Contestant:
    freeze_weights(inputs.ours)  # as Detector does
    return _pytorch(inputs, inputs.ours)


def ours_bf16(inputs: Inputs) -> Contestant:
    contestant = _pytorch(inputs, inputs.ours)

    def run() -> object:
        with torch.autocast('cpu', torch.bfloat16):
            return contestant.run()

    return Contestant(run, None, _NOT_COMPARED)


def mmdet(inputs: Inputs) -> Contestant:
    return _pytorch(inputs, inputs.stock)


def compiled(inputs: Inputs) -> Contestant:
    model = copy.deepcopy(inputs.stock)
    accelerate(model, Config(dict(compile=True)), 'silent', 'cpu')
    return _pytorch(inputs, model)


def onnxruntime(inputs: Inputs) -> Contestant:
    return _exported(inputs, lambda: OnnxRuntime(inputs.onnx_file, _threads()))


def onnxruntime_int8(inputs: Inputs) -> Contestant:
    return _exported(
        inputs, lambda: OnnxRuntime(inputs.int8_file, _threads()), _NOT_COMPARED
    )


def openvino_fp32(inputs: Inputs) -> Contestant:
    return _openvino(inputs, 'f32')


def openvino_bf16(inputs: Inputs) -> Contestant:
    return _openvino(inputs, 'bf16')


def openvino_int8(inputs: Inputs) -> Contestant:
    return _exported(
        inputs,
        lambda: OpenVino(inputs.openvino_file(inputs.int8_file), _threads()),
        _NOT_COMPARED,
    )


CONTESTANTS = {
    'ours': ours,
    'mmdet': mmdet,
    'compile': compiled,
    'onnxruntime': onnxruntime,
    'openvino': openvino_fp32,
    'ours-bf16': ours_bf16,
    'onnxruntime-int8': onnxruntime_int8,
    'openvino-bf16': openvino_bf16,
    'openvino-int8': openvino_int8,
}


def _pytorch(inputs: Inputs, model: nn.Module) -> Contestant:
    if inputs.raw:
        network = Exportable(model, raw=True).eval()
        images = inputs.images

        @torch.no_grad()
        def run() -> list[np.ndarray]:
            return [part.float().numpy() for part in network(images)]

        return Contestant(run, _check_raw)

    @torch.no_grad()
    def detect() -> list[InstanceData]:
        return [one.pred_instances for one in model.test_step(inputs.data)]

    return Contestant(detect, check_detections)


def _openvino(inputs: Inputs, precision: str) -> Contestant:
    return _exported(
        inputs,
        lambda: OpenVino(inputs.openvino_file(inputs.onnx_file), _threads(), precision),
        '' if precision == 'f32' else _NOT_COMPARED,
    )


def _exported(
    inputs: Inputs, load: Callable[[], Runtime], note: str = ''
) -> Contestant:
    try:
        runtime = load()
    except UserError as error:
        raise LeftOut(str(error)) from error
    if inputs.raw:
        images = inputs.images.numpy()
        return Contestant(lambda: runtime(images), None if note else _check_raw, note)
    model = ExportedModel('', runtime=runtime)

    def detect() -> list[InstanceData]:
        return [one.pred_instances for one in model.test_step(inputs.data)]

    return Contestant(detect, None if note else check_detections, note)


def _check_raw(ours: list[np.ndarray], theirs: list[np.ndarray]) -> str:
    """Check that logits, deltas and anchors are the same.

    Raises:
        Disagreement: One differs by more than 0.001.
    """
    differences = [
        float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True)
    ]
    text = f'largest difference {max(differences):.1e}'
    if not max(differences) <= _RAW_TOLERANCE:
        raise Disagreement(text)
    return text


@torch.no_grad()
def _spread_scores(model: nn.Module) -> None:
    """Give random weights some thousand scores above the threshold.

    The weights of a new model find nothing, and the suppression would cost nothing.
    """
    head = model.bbox_head
    images = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    logits, _ = head(model.extract_feat(images))
    head.retina_cls.weight.div_(logits[0].std())
    head.retina_cls.bias.fill_(-6.5)


def _threads() -> int:
    return torch.get_num_threads()

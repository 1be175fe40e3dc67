"""A trained detector as a file for another runtime, checked before it counts."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from focal_retinanet.acceleration.accelerate import SETTINGS
from focal_retinanet.config.ablation_table import load_with_options
from focal_retinanet.engine.export_check import (
    TestImages,
    check_equal,
    check_raw_equal,
    check_same_ap,
    detect,
)
from focal_retinanet.engine.inference import Detector
from focal_retinanet.export import onnx, openvino, torch_export
from focal_retinanet.export.exportable import Exportable
from focal_retinanet.export.exported_model import ExportedModel
from focal_retinanet.export.metadata import Metadata, resize_rule
from focal_retinanet.export.quantize import quantize
from focal_retinanet.export.runtimes import Runtime, TorchModule, load_runtime

#: Suffix of the file of each format.
SUFFIXES = {'onnx': '.onnx', 'openvino': '.xml', 'torch-export': '.pt2'}


def written_files(file: Path) -> list[Path]:
    """Return the files that an export may write: the named one, and its weights.

    OpenVINO always has the weights in a file beside it, ONNX beyond 2 GB.
    """
    if file.suffix == '.xml':
        return [file, file.with_suffix('.bin')]
    if file.suffix == '.onnx':
        return [file, file.with_name(f'{file.name}.data')]
    return [file]


def load_plain_config(name: str, options: Mapping[str, Any] | None) -> Config:
    """Load a config whose model is PyTorch's alone, which exporters understand.

    Args:
        name: Config file, or ``TABLE.py:ROW``.
        options: Settings to override, by their keys, or None.

    Raises:
        FileNotFoundError: The file does not exist.
        UserError: There is no such row, or no one reads an option.
    """
    cfg = load_with_options(name, options)
    for key in SETTINGS:
        cfg[key] = False
    return cfg


def export_detector(
    detector: Detector,
    cfg: Config,
    file: Path,
    format: str,
    test_images: TestImages,
    shape: Sequence[int | None] = (None, None, None),
    raw: bool = False,
    calibration_images: Iterable[dict] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Write a detector to a file, after a check of what the file detects.

    The file is made in a folder of its own and moved when it has passed the check.

    Args:
        detector: Detector on the CPU, of a config by :func:`load_plain_config`.
        cfg: The config.
        file: File to write; its folder exists.
        format: Key of ``SUFFIXES``.
        test_images: Images of the check.
        shape: B, H and W of the images; None for a size that stays free.
        raw: Whether to leave decoding and suppression out.
        calibration_images: Samples of a data set for the ranges of 8 bits; None
            leaves the file in fp32.
        say: Function that gets a line for each result.

    Raises:
        UserError: The model cannot be exported, a library is missing, or the
            file detects something else than PyTorch.
    """
    exportable = Exportable(detector.model, raw).eval()
    metadata = Metadata(
        classes=list(detector.classes),
        resize=resize_rule(cfg),
        **(dict(score_thr=None, max_per_img=None) if raw else exportable.settings),
        shape=list(shape),
        raw=raw,
        precision='fp32',
        pad=exportable.pad_pixel(),
        clip_border=exportable.head.bbox_coder.clip_border,
    )
    program = torch_export.trace(exportable, shape)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix='.export-') as folder:
        graph = Path(folder, 'graph', file.stem).with_suffix('.onnx')
        made = Path(folder, 'made', file.name)
        for path in (graph, made):
            path.parent.mkdir()
        if format == 'torch-export':
            torch_export.write(program, made, metadata)
        else:
            onnx.write(program, graph, metadata)
            _convert(graph, made, metadata)
        expected = TorchModule(exportable, metadata)
        if raw:
            check_raw_equal(expected, load_runtime(made), test_images)
            say(
                f'Checked  the outputs for {len(test_images)} images are those of PyTorch'
            )
        else:
            _check(detector, expected, made, test_images, say)
        if calibration_images is not None:
            metadata = replace(metadata, precision='int8')
            batches = _batches(calibration_images, expected)
            small = graph.with_stem('int8')
            quantize(graph, small, batches)
            onnx.set_metadata(small, metadata)
            _convert(small, made, metadata)
            _, metrics = detect(ExportedModel(made), test_images, 'int8')
            say(_line('int8', metrics, len(test_images)))
        for part in made.parent.iterdir():
            shutil.move(part, file.parent / part.name)


def _convert(graph: Path, made: Path, metadata: Metadata) -> None:
    """Write an ONNX file as the format of the suffix of another file."""
    if made.suffix == '.onnx':
        # Large weights lie beside it.
        for part in graph.parent.glob(f'{escape(graph.name)}*'):
            shutil.copy(part, made.with_name(part.name.replace(graph.name, made.name)))
    else:
        openvino.write(graph, made, metadata)


def _check(
    detector: Detector,
    exported: Runtime,
    made: Path,
    images: TestImages,
    say: Callable[[str], None],
) -> None:
    """Compare the detections of a file and their AP with those of PyTorch."""
    metadata = exported.metadata
    reference = detector.model
    if any(size is not None for size in metadata.shape[1:]):
        # What is beyond the image in a fixed shape counts for both.
        reference = ExportedModel('the exported model', runtime=exported)
    expected, ap = detect(reference, images, 'PyTorch', batch_size=1)
    found, exported_ap = detect(ExportedModel(made), images, made.suffix[1:])
    check_equal(
        expected,
        found,
        metadata.score_thr,
        float(detector.model.test_cfg.nms.iou_threshold),
        metadata.max_per_img,
    )
    check_same_ap(ap, exported_ap)
    count = sum(map(len, expected))
    say(
        f'Checked  {count} detections in {len(images)} test images are those of PyTorch'
    )
    if not count:
        say('         so the check says little: train the model, or lower score_thr')
    say(_line('fp32', exported_ap, len(images)))


def _line(name: str, metrics: Mapping[str, float], num_images: int) -> str:
    aps = {
        label: 100 * metrics[key]
        for label, suffix in (('AP', ''), ('AP50', '_50'), ('AP75', '_75'))
        if (key := f'coco/bbox_mAP{suffix}') in metrics  # as metric_items says
    }
    if not aps:
        return f'{name}     no AP: the test evaluator has none for boxes of COCO'
    text = ', '.join(f'{label} {value:.1f}' for label, value in aps.items())
    return f'{name}     {text} on {num_images} test images'


def _batches(samples: Iterable[dict], runtime: Runtime) -> Iterator[np.ndarray]:
    """Yield images of a data set as the exported file takes them."""
    model = ExportedModel('the exported model', runtime=runtime)
    for sample in samples:
        yield from model.prepare(sample['inputs'][None].numpy())

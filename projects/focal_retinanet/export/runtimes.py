"""Runtimes that execute exported files on a CPU: ONNX Runtime, OpenVINO, torch.export.

Each is a callable from images (B, 3, H, W), uint8, BGR, to the file's outputs, NumPy
arrays, with ``metadata``.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

# The operators that a graph of torch.export calls have to be there.
import focal_retinanet.ops.nms.operator
import focal_retinanet.ops.padding  # noqa: F401
from focal_retinanet.cli.errors import UserError
from focal_retinanet.export.libraries import import_library
from focal_retinanet.export.metadata import KEY, Metadata


class Runtime(Protocol):
    """A loaded file."""

    metadata: Metadata

    def __call__(self, images: np.ndarray) -> list[np.ndarray]: ...


class OnnxRuntime:
    """ONNX Runtime.

    Args:
        file: ONNX file of ``tools/export.py``.
        threads: Number of threads; None leaves it to the runtime.
    """

    def __init__(self, file: Path, threads: int | None = None) -> None:
        ort = import_library('onnxruntime', 'onnxruntime', f'running {file}')
        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(
            str(file), options, providers=['CPUExecutionProvider']
        )
        known = self._session.get_modelmeta().custom_metadata_map
        self.metadata = _metadata(file, known.get(KEY))

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        return self._session.run(None, {'images': images})


class OpenVino:
    """OpenVINO.

    Args:
        file: XML file of ``tools/export.py``, or an ONNX file.
        threads: Number of threads; None leaves it to the runtime.
        precision: 'f32', or 'bf16' on a CPU that has it. OpenVINO by itself takes bf16
            where the CPU has it, and boxes move by pixels.
    """

    def __init__(
        self, file: Path, threads: int | None = None, precision: str = 'f32'
    ) -> None:
        ov = import_library('openvino', 'openvino', f'running {file}')
        settings = {
            'INFERENCE_PRECISION_HINT': precision,
            'PERFORMANCE_HINT': 'LATENCY',
        }
        if threads is not None:
            settings['INFERENCE_NUM_THREADS'] = threads
        core = ov.Core()
        model = core.read_model(file)
        text = model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else None
        self.metadata = _metadata(file, text)
        self._model = core.compile_model(model, 'CPU', settings)

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        found = self._model(images)
        return [found[index] for index in range(len(found))]


class TorchModule:
    """PyTorch, for a module of images.

    Args:
        module: Module with the inputs and outputs of an exported file.
        metadata: Metadata that the file would have.
    """

    def __init__(self, module: nn.Module, metadata: Metadata) -> None:
        self.metadata = metadata
        self._module = module

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            return [part.numpy() for part in self._module(torch.from_numpy(images))]


class TorchExport(TorchModule):
    """PyTorch, for a file of ``torch.export``.

    Args:
        file: PT2 file of ``tools/export.py``.
        threads: None; the number of threads is that of the process.
    """

    def __init__(self, file: Path, threads: int | None = None) -> None:
        extra = {KEY: ''}
        program = torch.export.load(file, extra_files=extra)
        super().__init__(program.module(), _metadata(file, extra[KEY]))


#: Runtimes by the suffix of the file.
RUNTIMES = {'.onnx': OnnxRuntime, '.xml': OpenVino, '.pt2': TorchExport}


def load_runtime(file: str | Path, threads: int | None = None) -> Runtime:
    """Load an exported file with the runtime of its suffix.

    Raises:
        FileNotFoundError: The file does not exist.
        UserError: The file is none of ``tools/export.py``, is broken, or its runtime is
            not installed.
    """
    file = Path(file).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f'exported model {file} not found')
    try:
        return RUNTIMES[file.suffix](file, threads)
    except UserError:
        raise
    except Exception as error:  # each runtime raises kinds of its own
        raise UserError(
            f'{file} cannot be read as an exported model; is it complete? '
            f'({type(error).__name__}: {str(error).splitlines()[0]})'
        ) from error


def _metadata(file: Path, text: str | None) -> Metadata:
    if not text:
        raise UserError(
            f'{file} was not written by tools/export.py: it does not say what its '
            'classes and inputs are'
        )
    return Metadata.from_json(text)

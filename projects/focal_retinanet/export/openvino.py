"""A detector as an OpenVINO model."""

from pathlib import Path

from focal_retinanet.export.libraries import import_library
from focal_retinanet.export.metadata import KEY, Metadata


def write(onnx_file: Path, file: Path, metadata: Metadata) -> None:
    """Write an ONNX file as OpenVINO's XML, with the weights in a BIN file beside it.

    Args:
        onnx_file: File to convert.
        file: XML file to write.
        metadata: Metadata of the file.

    Raises:
        UserError: OpenVINO is missing.
    """
    ov = import_library('openvino', 'openvino', 'writing OpenVINO models')
    # convert_model would report its use to somebody.
    model = ov.Core().read_model(onnx_file)
    model.set_rt_info(metadata.as_json(), KEY)
    # Its default is fp16, which changes the detections.
    ov.save_model(model, file, compress_to_fp16=False)

"""Trained detectors as files for ONNX Runtime, OpenVINO and torch.export."""

from focal_retinanet.export.exported_model import ExportedModel, is_exported
from focal_retinanet.export.use_exported import use_exported_model

__all__ = ['ExportedModel', 'is_exported', 'use_exported_model']

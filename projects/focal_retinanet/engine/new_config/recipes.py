"""The models that a new config starts from: one without a GPU, one with a GPU."""

import math
import os
from pathlib import Path

import torch

from focal_retinanet.engine.checkpoints.load import load_from_local

_FILE = 'data/weights/mobilenet_v2_imagenet_bnfolded.pth'
_HUB = 'open-mmlab://mmdet/mobilenet_v2'
_IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


class CpuRecipe:
    """MobileNetV2-FPN, trained by AdamW."""

    base = 'small-data_cpu.py'
    why = 'no GPU: MobileNetV2 and AdamW, the best that was measured on a CPU'
    longer_sides = (480, 1024)
    crops = True
    batch_reason = 'as in the runs that were measured'
    lr_reason = "AdamW's for 4 images; for n times as many, sqrt(n) times as high"

    def batch_size(self, pixels: int) -> int:
        """Return the number of images of an iteration, each of so many pixels."""
        return 4

    def learning_rate(self, batch_size: int) -> float:
        return float(f'{0.001 * math.sqrt(batch_size / 4):.2g}')

    def find_weights(self) -> tuple[str, dict]:
        """Return a checkpoint, and settings of the preprocessor that go with it."""
        file = Path(os.environ.get('MOBILENETV2', _FILE)).expanduser().absolute()
        if not file.is_file():
            return _HUB, _IMAGENET
        return str(file), {} if _has_folded_norms(file) else _IMAGENET

    def weights_reason(self, weights: str) -> str:
        if weights != _HUB:
            return 'ImageNet weights'
        missing = os.environ.get('MOBILENETV2', _FILE)
        return (
            'ImageNet weights that mmengine downloads (14 MB) when training starts, as '
            f'there is no file {missing}; set MOBILENETV2 to use a file'
        )


class GpuRecipe:
    """ResNet-50-FPN, trained by the paper's SGD."""

    base = 'small-data_gpu.py'
    why = "a GPU: ResNet-50 and the paper's SGD; not measured"
    longer_sides = (800, 1333)
    crops = False
    batch_reason = 'fits into the memory of the GPU, roughly; not measured'
    lr_reason = "the paper's 0.01 for 16 images, in proportion"

    def batch_size(self, pixels: int) -> int:
        """Return the number of images of an iteration, each of so many pixels."""
        memory = torch.cuda.get_device_properties(0).total_memory
        images = memory / (2.5e9 * pixels / 1e6)  # roughly, for training in fp32
        return 2 ** min(4, max(1, int(math.log2(max(images, 1)))))

    def learning_rate(self, batch_size: int) -> float:
        return float(f'{0.01 * batch_size / 16:.2g}')

    def find_weights(self) -> tuple[str, dict]:
        """Return a checkpoint, and settings of the preprocessor that go with it."""
        return 'torchvision://resnet50', {}

    def weights_reason(self, weights: str) -> str:
        return 'ImageNet weights that mmengine downloads (98 MB) when training starts'


Recipe = CpuRecipe | GpuRecipe


def _has_folded_norms(file: Path) -> bool:
    """Return whether the batch norms of a checkpoint do nothing.

    Weights with folded norms were trained on pixels of -1 to 1, which the model's base
    config gives them, all others on mmdet's and torchvision's mean and deviation.
    """
    content = load_from_local(str(file), 'cpu')
    state = content.get('state_dict', content)
    variances = [value for key, value in state.items() if key.endswith('running_var')]
    return all(bool((value == value[0]).all()) for value in variances)


def choose_recipe() -> Recipe:
    """Return the recipe for this machine."""
    return GpuRecipe() if torch.cuda.is_available() else CpuRecipe()

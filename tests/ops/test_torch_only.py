"""The operators work for those who have PyTorch and nothing else."""

import subprocess
import sys

# Refuses the packages that PyTorch does without.
SCRIPT = """
import builtins, sys, torch

OTHERS = {
    *('mmengine', 'mmcv', 'mmdet', 'pycocotools', 'cv2', 'PIL', 'packaging'),
    *('matplotlib', 'scipy', 'terminaltables', 'tqdm', 'faster_coco_eval'),
}

# PyTorch has imported those of them that it can use.
for name in [name for name in sys.modules if name.partition('.')[0] in OTHERS]:
    del sys.modules[name]
import_module = builtins.__import__

def refuse(name, *args, **kwargs):
    if name.partition('.')[0] in OTHERS:
        raise ModuleNotFoundError(f'No module named {name!r}', name=name)
    return import_module(name, *args, **kwargs)

builtins.__import__ = refuse
import focal_retinanet.ops, focal_retinanet.ops.postprocess, focal_retinanet.ops.rivals
import focal_retinanet.ops.nms.native, focal_retinanet.ops.tiles

levels = [torch.randn(2, 9 * 3, 4, 5, requires_grad=True)]
loss = focal_retinanet.ops.sigmoid_focal_loss_sum(
    levels, torch.randint(4, (2, 9 * 4 * 5)), num_classes=3
)
loss.backward()
anchors = torch.rand(50, 4).cumsum(1)
matched, _ = focal_retinanet.ops.match_max_iou(anchors, anchors[:3])
focal_retinanet.ops.nms.native.is_available(anchors)
print(levels[0].grad.isfinite().all().item(), matched[:3].tolist())
"""


def test_ops_need_nothing_but_torch():
    run = subprocess.run([sys.executable, '-c', SCRIPT], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split(maxsplit=1)[0] == 'True'

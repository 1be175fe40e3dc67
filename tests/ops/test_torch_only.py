"""The operators need PyTorch and no other package."""

import subprocess
import sys

# Prints the packages that are imported in addition to those of PyTorch.
SCRIPT = """
import sys, torch
before = set(sys.modules)
import focal_retinanet.ops, focal_retinanet.ops.postprocess, focal_retinanet.ops.rivals
import focal_retinanet.ops.nms.native
levels = [torch.randn(2, 9 * 3, 4, 5, requires_grad=True)]
loss = focal_retinanet.ops.sigmoid_focal_loss_sum(
    levels, torch.randint(4, (2, 9 * 4 * 5)), num_classes=3
)
loss.backward()
anchors = torch.rand(50, 4).cumsum(1)
focal_retinanet.ops.match_max_iou(anchors, anchors[:3])
focal_retinanet.ops.nms.native.is_available(anchors)
standard = {*sys.stdlib_module_names, 'torch', 'torchgen', 'focal_retinanet'}
added = {name.partition('.')[0] for name in set(sys.modules) - before}
print(*sorted(added - standard - {name.partition('.')[0] for name in before}))
"""


def test_ops_import_nothing_but_torch():
    run = subprocess.run(
        [sys.executable, '-c', SCRIPT], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []

"""default_runtime.py, with a log for TensorBoard beside the usual one.

It needs `pip install tensorboard`. In a config of one's own, name it in the list
of `_base_` in the place of default_runtime.py (mmengine takes no two of a list
that have a key in common):

    _base_ = [..., '../_base_/tensorboard.py']

For a config that is there already, a child of it with two lines:

    _base_ = '../demo/retinanet_r18-slim_fpn_8e_shapes.py'
    visualizer = dict(
        vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
    )

Then `tensorboard --logdir work_dirs` shows the runs. As in mmengine's own log, the
steps of AP are epochs where the schedule is by epochs.
"""

_base_ = './default_runtime.py'

# The first one writes scalars.json, which tools/compare.py and tools/plot_curves.py
# read.
vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(vis_backends=vis_backends)

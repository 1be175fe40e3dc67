"""default_runtime.py with an additional log for TensorBoard.

It needs `pip install tensorboard`. In the `_base_` of your config, it replaces
default_runtime.py, since two bases must not have a key in common:

    _base_ = [..., '../_base_/tensorboard.py']

To add it to an existing config, write a child of that config:

    _base_ = '../demo/retinanet_r18-slim_fpn_8e_shapes.py'
    visualizer = dict(
        vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
    )

Then `tensorboard --logdir work_dirs` shows the runs. In a schedule by epochs, the
steps of AP are epochs, as in mmengine's own log.
"""

_base_ = './default_runtime.py'

# The first writes scalars.json for tools/compare.py and tools/plot_curves.py.
vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(vis_backends=vis_backends)

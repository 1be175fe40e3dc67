"""Table 2: the final models, with scale jitter and the schedule 1.5x as long."""

base = '../retinanet/retinanet_r101_fpn_135k_coco-800px-jitter.py'
rows = {
    'r101': {},
    'x101': '../retinanet/retinanet_x101-64x4d_fpn_135k_coco-800px-jitter.py',
}

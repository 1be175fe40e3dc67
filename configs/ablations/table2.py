"""Table 2: the final models, with scale jitter and 1.5x the schedule."""

base = '../retinanet/retinanet_r101_fpn_135k_coco-800px-jitter.py'
rows = {
    'r101': {},
    'x101': '../retinanet/retinanet_x101-64x4d_fpn_135k_coco-800px-jitter.py',
}

"""ATSS with ResNet-50-FPN: focal loss, anchors chosen by their statistics.

data_from names the config of the data, here COCO.
"""

_base_ = 'mmdet::atss/atss_r50_fpn_1x_coco.py'

data_from = '../_base_/datasets/coco_detection.py'

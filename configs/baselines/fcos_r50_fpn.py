"""FCOS with ResNet-50-FPN: focal loss without anchors.

data_from names the config of the data, here COCO.
"""

_base_ = 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'

data_from = '../_base_/datasets/coco_detection.py'

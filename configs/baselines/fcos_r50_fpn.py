"""FCOS with ResNet-50-FPN: focal loss without anchors.

On the data of COCO; data_from is the line to change.
"""

_base_ = 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'

data_from = '../_base_/datasets/coco_detection.py'

"""Options that train and test the same model in about half the time on a CPU.

See focal_retinanet/acceleration/accelerate.py. Results differ only by the order of
fp32 operations. On a GPU, only `channels_last` has an effect.
"""

channels_last = True
fold_batch_norm = True
winograd = True

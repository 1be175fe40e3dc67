"""Let waiting threads give up their core; imported before torch, which reads it once.

In GNU's OpenMP a thread that waits for the others spins some hundred thousand times on
a machine of few cores, and holds a core that another busy process needs. Seconds of a
training step, blood cells at 480 pixels with MobileNetV2, 2 cores of an AMD EPYC, torch
2.13.0, seed 0, medians of 6 to 8 steps; "beside" is a matrix product on both cores:

=======================  ===========  ============
setting                  mmdet        ours
=======================  ===========  ============
none, alone              1.50         0.92
none, beside             9.13         3.35
GOMP_SPINCOUNT, alone    1.54         0.95 to 1.30
GOMP_SPINCOUNT, beside   2.98         1.83
=======================  ===========  ============

Alone, steps take 0.9 to 1.4 s with and without the setting, as the machine drifts. A
user's own setting is kept.
"""

import os

if not {'OMP_WAIT_POLICY', 'GOMP_SPINCOUNT'} & os.environ.keys():
    os.environ['GOMP_SPINCOUNT'] = '1000'

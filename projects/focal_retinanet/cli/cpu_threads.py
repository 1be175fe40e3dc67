"""How threads on a CPU wait for each other; imported before torch, which reads it once.

GNU's OpenMP lets a thread that waits for the others turn in a loop, some hundred
thousand times on a machine of few cores. Beside another busy process the core that it
holds is the one that the others need: an iteration that takes 1.06 s alone takes
5.19 s beside a matrix product on both of 2 cores, and 2.11 s with this setting, which
costs nothing alone (1.01 s; medians of 5 numbers of one run each, blood cells at 480
pixels, MobileNetV2, AMD EPYC, seed 0). Nothing is changed where the user has set how
threads wait.
"""

import os

if not {'OMP_WAIT_POLICY', 'GOMP_SPINCOUNT'} & os.environ.keys():
    os.environ['GOMP_SPINCOUNT'] = '1000'

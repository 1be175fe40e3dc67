"""Triton's real compiler on a machine without a GPU.

Triton compiles for the target that its active driver names. The driver here
names one and can do nothing else, so that kernels compile down to PTX, and to
the GPU's own code by the ``ptxas`` that Triton brings, but never run. What its
interpreter accepts and its compiler does not is found that way.

In Python, in a process where ``TRITON_INTERPRET`` was not set when the kernels
were imported::

    compile_to_ptx(kernel, dict(x=torch.float32, n=100, BLOCK=64), capability=90)

    with compile_launches(capability=90) as compiled:
        match(anchors, gt_bboxes)  # on CPU tensors; every launch only compiles
    assert len({launch.key for launch in compiled}) <= 4

As a command, for tests, whose own process may be the interpreter's::

    python triton_compiler.py FILE FUNCTION CAPABILITY [CAPABILITY ...]

It calls ``FUNCTION()`` of the Python file ``FILE`` under
:func:`compile_launches` for each capability and prints a line of JSON: Triton's
version, and for every launch its kernel, capability, variant and PTX. Another
Triton than the installed one is served by a folder on ``PYTHONPATH``, as
``pip install --no-deps --target FOLDER triton==3.7.1`` makes it.
"""

import contextlib
import json
import runpy
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction


class Launch(NamedTuple):
    """A launch that was compiled in place of being run."""

    kernel: str  #: name of the kernel's function
    capability: int  #: 80 for sm_80
    key: str  #: name of the compiled variant: equal where Triton compiles once
    ptx: str


class _Driver:
    """Names a target. There is no device behind it."""

    def __init__(self, capability: int):
        self._capability = capability

    @staticmethod
    def is_active() -> bool:
        return True

    def get_current_target(self) -> GPUTarget:
        return GPUTarget('cuda', self._capability, 32)

    def get_current_device(self) -> int:
        # Triton keeps what it compiled by the device's index.
        return self._capability

    def get_device_capability(self, device: int | None = None) -> tuple[int, int]:
        return divmod(self._capability, 10)

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device('cpu')

    def get_device_interface(self):
        return torch.cpu


def compile_to_ptx(
    kernel: JITFunction,
    arguments: dict[str, Any],
    grid: tuple[int, ...] = (1,),
    capability: int = 80,
) -> str:
    """Compile one variant of a kernel.

    Args:
        kernel: what ``@triton.jit`` made.
        arguments: by name: tensors on any device, or ``torch.dtype`` in place
            of one, also in tuples; numbers, which Triton may specialise on;
            values of ``tl.constexpr`` arguments; ``num_warps`` and the like.
        grid: as for a launch.
        capability: 80 for sm_80, 90 for sm_90.

    Returns:
        The PTX.
    """
    arguments = {name: _as_tensor(value) for name, value in arguments.items()}
    with _target(capability):
        return kernel.warmup(grid=grid, **arguments).asm['ptx']


@contextlib.contextmanager
def compile_launches(capability: int) -> Iterator[list[Launch]]:
    """Within it, ``kernel[grid](...)`` compiles for the capability, and runs nothing.

    Yields:
        What was launched, in order; it grows while the context is open.
    """
    launches = []
    run = JITFunction.run

    def compile_only(kernel, *args, grid, warmup, **options):
        compiled = run(kernel, *args, grid=grid, warmup=True, **options)
        launches.append(
            Launch(kernel.__name__, capability, compiled.hash, compiled.asm['ptx'])
        )
        return compiled

    JITFunction.run = compile_only
    try:
        with _target(capability):
            yield launches
    finally:
        JITFunction.run = run


@contextlib.contextmanager
def _target(capability: int) -> Iterator[None]:
    driver = triton.runtime.driver
    before = driver.__dict__.get('_active', driver.__dict__.get('active'))
    driver.set_active(_Driver(capability))
    try:
        yield
    finally:
        if before is not None:
            driver.set_active(before)


def _as_tensor(value):
    """A tensor of a dtype, at an address that 16 divides, as PyTorch's all are."""
    if isinstance(value, tuple | list):
        return tuple(map(_as_tensor, value))
    return torch.empty(16, dtype=value) if isinstance(value, torch.dtype) else value


def main(file: str, function: str, *capabilities: str) -> None:
    launch_all = runpy.run_path(file)[function]
    launches = []
    for capability in map(int, capabilities):
        with compile_launches(capability) as compiled:
            launch_all()
        launches += [launch._asdict() for launch in compiled]
    print(json.dumps(dict(triton=triton.__version__, launches=launches)))


if __name__ == '__main__':
    main(*sys.argv[1:])

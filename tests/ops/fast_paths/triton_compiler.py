"""Triton's real compiler on a machine without a GPU.

Triton compiles for the target that its active driver names. The driver here only names
a target, so kernels are compiled to PTX, and by Triton's own ``ptxas`` to machine code,
but they never run. This finds code that the interpreter accepts and the compiler does
not.

In Python, in a process that imported the kernels without ``TRITON_INTERPRET``::

    compile_to_ptx(kernel, dict(x=torch.float32, n=100, BLOCK=64), capability=90)

    with compile_launches(capability=90) as compiled:
        match(anchors, gt_bboxes)  # on CPU tensors; every launch only compiles
    assert len({launch.key for launch in compiled}) <= 4

As a command, for tests whose own process may use the interpreter::

    python triton_compiler.py FILE FUNCTION CAPABILITY [CAPABILITY ...]

It calls ``FUNCTION()`` of the Python file ``FILE`` under :func:`compile_launches` for
each capability. It prints one line of JSON with Triton's version and the kernel,
capability, variant and PTX of every launch. To use another version of Triton, put a
folder on ``PYTHONPATH`` that ``pip install --no-deps --target FOLDER triton==3.7.1``
made.
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
    """A launch that was compiled and not run."""

    kernel: str  #: name of the kernel's function
    capability: int  #: 80 for sm_80
    key: str  #: hash of the variant, equal if Triton compiles only once
    ptx: str


class _Driver:
    """Driver that names a target without a device."""

    def __init__(self, capability: int):
        self._capability = capability

    @staticmethod
    def is_active() -> bool:
        return True

    def get_current_target(self) -> GPUTarget:
        return GPUTarget('cuda', self._capability, 32)

    def get_current_device(self) -> int:
        # Triton caches compiled kernels by the index of the device.
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
        kernel: Result of ``@triton.jit``.
        arguments: Arguments by name: tensors on any device or ``torch.dtype`` in their
            place, also in tuples; numbers, which Triton may specialise on; values of
            ``tl.constexpr`` arguments; options such as ``num_warps``.
        grid: Grid of the launch.
        capability: Compute capability, 80 for sm_80.

    Returns:
        The PTX.
    """
    arguments = {name: _as_tensor(value) for name, value in arguments.items()}
    with _target(capability):
        return kernel.warmup(grid=grid, **arguments).asm['ptx']


@contextlib.contextmanager
def compile_launches(capability: int) -> Iterator[list[Launch]]:
    """Let ``kernel[grid](...)`` compile for the capability and run nothing.

    Yields:
        Launches in order. The list grows while the context is open.
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
    """Return a tensor for a dtype; PyTorch aligns its address to 16 bytes."""
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

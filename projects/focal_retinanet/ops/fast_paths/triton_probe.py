"""Whether Triton works on a device, tested by launching a kernel."""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator

import torch

logger = logging.getLogger('focal_retinanet')


def works(
    device: torch.device, launch: Callable[[torch.device], None] | None = None
) -> bool:
    """Whether kernels compile for a device, run on it, and give the right result.

    A missing or old Triton, a GPU that it does not support, or a missing C compiler
    raise an exception when the first kernel is launched. This finds out before training
    starts.

    Args:
        device: Device; false unless its type is ``cuda``.
        launch: Function that launches kernels on the device with tiny inputs, and
            raises if the result is wrong. By default, it launches a kernel that
            doubles numbers.

    Returns:
        Result of the test, which is run once per device and ``launch``. If false, one
        warning gives the reason.
    """
    return device.type == 'cuda' and _works(device, launch or double_a_few_numbers)


@functools.cache
def _works(device: torch.device, launch: Callable[[torch.device], None]) -> bool:
    error = _error_of(launch, device)
    if error is not None:
        last_lines = ' '.join(str(error).split())[-500:]
        logger.warning(
            'Triton does not work on %s, so plain PyTorch replaces it, which is '
            'slower (%s): %s: %s',
            device,
            launch.__name__,
            type(error).__name__,
            last_lines,
        )
    return error is None


def _error_of(
    launch: Callable[[torch.device], None], device: torch.device
) -> Exception | None:
    """Return what ``launch`` raises, in a thread without the caller's modes.

    Grad mode, inference mode, autocast, dispatch modes and the default device belong to
    a thread. The mode that forbids synchronisation does not.
    """
    errors = []

    def run():
        try:
            with _synchronisation_allowed():
                launch(device)
                torch.cuda.synchronize(device)  # reports a failed launch
        except Exception as error:  # any error means that Triton does not work
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return errors[0] if errors else None


@contextlib.contextmanager
def _synchronisation_allowed() -> Iterator[None]:
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode('default')
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def double_a_few_numbers(device: torch.device) -> None:
    """Launch the smallest kernel.

    Raises:
        Exception: Triton cannot compile or launch it, or the result is wrong.
    """
    from focal_retinanet.ops.fast_paths.triton_probe_kernel import double

    numbers = torch.arange(5, dtype=torch.float32, device=device)
    with torch.cuda.device_of(numbers):  # Triton launches on the current device
        double[(1,)](numbers, numbers.numel(), BLOCK=16)
    if numbers.tolist() != [0, 2, 4, 6, 8]:
        raise RuntimeError(f'twice 0, 1, 2, 3, 4 are not {numbers.tolist()}')

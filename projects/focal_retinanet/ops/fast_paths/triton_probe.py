"""Whether Triton works on a device, found out by using it."""

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
    """Whether kernels compile for a device, run on it, and compute what they should.

    Without Triton, with one that is too old or does not serve the GPU, without
    the C compiler that it may want: each ends in some exception when the first
    kernel is launched. Better here than in the first iteration of a training.

    Args:
        device: of type ``cuda``; anything else is none of Triton's.
        launch: launches one's own kernels on the device, on something tiny, and
            raises where the result is wrong. By default a kernel that doubles.

    Returns:
        The answer, which is found once for each device and ``launch``. Of a no,
        one warning tells, with the reason.
    """
    return device.type == 'cuda' and _works(device, launch or double_a_few_numbers)


@functools.cache
def _works(device: torch.device, launch: Callable[[torch.device], None]) -> bool:
    error = _error_of(launch, device)
    if error is not None:
        last_lines = ' '.join(str(error).split())[-500:]
        logger.warning(
            'Triton does not work on %s, plain PyTorch takes its place and is '
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
    """What ``launch`` raises, in a thread that has none of the caller's modes.

    Grad and inference mode, autocast, dispatch modes and the default device are
    a thread's own. The mode that forbids synchronisation is not.
    """
    errors = []

    def run():
        try:
            with _synchronisation_allowed():
                launch(device)
                torch.cuda.synchronize(device)  # where a bad launch is told
        except Exception as error:  # whatever it is, the answer is no
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
    """The smallest launch.

    Raises:
        Exception: whatever Triton has to say, or a wrong result.
    """
    from focal_retinanet.ops.fast_paths.triton_probe_kernel import double

    numbers = torch.arange(5, dtype=torch.float32, device=device)
    with torch.cuda.device_of(numbers):  # Triton launches on the current device
        double[(1,)](numbers, numbers.numel(), BLOCK=16)
    if numbers.tolist() != [0, 2, 4, 6, 8]:
        raise RuntimeError(f'twice 0, 1, 2, 3, 4 are not {numbers.tolist()}')

"""A restricted unpickler for torch before 2.6.

Weights-only loading of these versions cannot be taught further types, or not under
the names that a pickle gives them, and it unpacks tar files and TorchScript archives
before it checks them. This unpickler replaces torch's: it has the operations, the
allowed globals and the refusals of later versions.
"""

import collections
import contextlib
import functools
import os
import pickle
import tarfile
from _codecs import encode
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Mapping
from typing import BinaryIO

import torch
from torch import _weights_only_unpickler, serialization

# Objects that a pickle may name, by `module.qualname`.
_allowed: dict[str, object] = {}


def is_needed() -> bool:
    """Return whether torch's own unpickler cannot be taught what mmengine saves."""
    return torch.__version__ < (2, 6)


def install(harmless: Mapping[str, object]) -> None:
    """Let torch's weights-only loading use this unpickler.

    Args:
        harmless: Objects besides tensors that a file may name, by `module.qualname`.
    """
    _allowed.update(_globals_of_later_versions())
    _allowed.update(harmless)
    _weights_only_unpickler.Unpickler = RestrictedUnpickler
    _weights_only_unpickler.load = load
    # Both run before there is anything to unpickle.
    serialization._legacy_load = _refuse_tar(serialization._legacy_load)
    serialization._is_torchscript_zip = _refuse_torchscript(
        serialization._is_torchscript_zip
    )


def load(file: BinaryIO, *, encoding: str = 'ASCII') -> object:
    """Unpickle a file.

    Raises:
        pickle.UnpicklingError: The pickle names or does something that is not allowed.
    """
    return RestrictedUnpickler(file, encoding=encoding).load()


# The unpickler in C cannot be kept from single operations.
class RestrictedUnpickler(pickle._Unpickler):
    """Python's unpickler with torch's operations and globals, and no others."""

    def find_class(self, module: str, name: str) -> object:
        # torch saves in protocol 2, with the names of Python 2.
        module, name = NAME_MAPPING.get(
            (module, name), (IMPORT_MAPPING.get(module, module), name)
        )
        path = f'{module}.{name}'
        for allowed in (_allowed, _globals_that_others_allow()):
            if path in allowed:
                return allowed[path]
        path = path.removeprefix('builtins.')
        raise pickle.UnpicklingError(
            f'Unsupported global: GLOBAL {path} was not an allowed global by default.'
        )


def _check_is_allowed(called: object) -> None:
    allowed = [*_allowed.values(), *_globals_that_others_allow().values()]
    if not any(called is value for value in allowed):
        raise pickle.UnpicklingError(f'Trying to call or build {called!r}')


def _check_type(target: object, *types: type) -> None:
    if type(target) not in types:
        raise pickle.UnpicklingError(f'Unsupported operation on {type(target)}')


def _check_identity(identity: object) -> None:
    _check_type(identity, tuple, int)
    storages = [('storage',), (b'storage',)]
    if isinstance(identity, tuple) and identity[:1] not in storages:
        raise pickle.UnpicklingError('Only persistent_load of storage is allowed')


_DICTS = (dict, collections.OrderedDict, collections.Counter)
#: Checks of the unpickler before an operation, by the operation's code.
_CHECKS: dict[bytes, Callable[[RestrictedUnpickler], None]] = {
    pickle.NEWOBJ: lambda self: _check_is_allowed(self.stack[-2]),
    pickle.REDUCE: lambda self: _check_is_allowed(self.stack[-2]),
    pickle.BUILD: lambda self: _check_is_allowed(type(self.stack[-2])),
    pickle.APPEND: lambda self: _check_type(self.stack[-2], list),
    pickle.APPENDS: lambda self: _check_type(self.metastack[-1][-1], list),
    pickle.SETITEM: lambda self: _check_type(self.stack[-3], *_DICTS),
    pickle.SETITEMS: lambda self: _check_type(self.metastack[-1][-1], *_DICTS),
    pickle.BINPERSID: lambda self: _check_identity(self.stack[-1]),
}
#: Operations that need no check.
_UNCHECKED = {
    *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.GLOBAL),
    *(pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.NONE, pickle.NEWFALSE, pickle.NEWTRUE, pickle.BINFLOAT),
    *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1),
    *(pickle.EMPTY_TUPLE, pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.EMPTY_SET),
    *(pickle.BINUNICODE, pickle.SHORT_BINSTRING),
    *(pickle.BINGET, pickle.LONG_BINGET, pickle.BINPUT, pickle.LONG_BINPUT),
}


def _restricted(code: bytes, operation: Callable) -> Callable:
    """Return an operation of pickle's as the restricted unpickler performs it."""
    if code in _UNCHECKED:
        return operation

    def checked(self: RestrictedUnpickler) -> None:
        if code not in _CHECKS:
            raise pickle.UnpicklingError('Unsupported operand')
        _CHECKS[code](self)
        operation(self)

    return checked


RestrictedUnpickler.dispatch = {
    code: _restricted(bytes([code]), operation)
    for code, operation in pickle._Unpickler.dispatch.items()
}


def _globals_of_later_versions() -> dict[str, object]:
    """Return the objects that torch 2.6 allows by itself."""
    rebuilds = [
        *('_rebuild_parameter_with_state', '_rebuild_qtensor', '_rebuild_tensor_v3'),
        *('_rebuild_nested_tensor', '_rebuild_wrapper_subclass'),
        '_rebuild_device_tensor_from_numpy',
    ]
    return {
        **_weights_only_unpickler._get_allowed_globals(),
        **{str(x): x for x in vars(torch).values() if isinstance(x, torch.dtype)},
        **{
            f'torch._utils.{name}': getattr(torch._utils, name)
            for name in rebuilds
            if hasattr(torch._utils, name)
        },
        'collections.Counter': collections.Counter,
        'torch.device': torch.device,
        '_codecs.encode': encode,  # for bytes
        'builtins.bytearray': bytearray,
        'builtins.set': set,
        'builtins.complex': complex,
    }


def _globals_that_others_allow() -> dict[str, object]:
    """Return what was given to ``add_safe_globals``, which torch 2.4 introduced."""
    ask = getattr(_weights_only_unpickler, '_get_user_allowed_globals', dict)
    return ask()


def _refuse_tar(legacy_load: Callable) -> Callable:
    if hasattr(legacy_load, '__wrapped__'):
        return legacy_load

    @functools.wraps(legacy_load)
    def refusing(file: BinaryIO, location, pickle_module, **options) -> object:
        if pickle_module is _weights_only_unpickler:
            position = file.tell()
            with contextlib.suppress(tarfile.TarError):
                tarfile.open(fileobj=file, mode='r:').close()
                raise pickle.UnpicklingError('GLOBAL tar was not an allowed global')
            file.seek(position)
        return legacy_load(file, location, pickle_module, **options)

    return refusing


def _refuse_torchscript(is_torchscript: Callable) -> Callable:
    if hasattr(is_torchscript, '__wrapped__'):
        return is_torchscript

    @functools.wraps(is_torchscript)
    def refusing(zip_file) -> bool:
        found = is_torchscript(zip_file)
        # As torch reads the variable.
        forced = os.environ.get('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0').lower()
        if found and forced in ('1', 'y', 'yes', 'true'):
            raise pickle.UnpicklingError('GLOBAL TorchScript was not an allowed global')
        return found

    return refusing

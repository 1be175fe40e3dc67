"""A restricted unpickler, for torch before 2.6.

These versions have weights-only loading, but it cannot be taught further types
(or not under the names that a pickle gives them), and it unpacks tar files and
TorchScript archives before it looks at them. Here is the unpickler of later
versions in their place: the same operations, the same list of globals, the same
refusals.
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

_OPCODES = [
    *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.BINPERSID),
    *(pickle.GLOBAL, pickle.NEWOBJ, pickle.REDUCE, pickle.BUILD),
    *(pickle.APPEND, pickle.APPENDS, pickle.SETITEM, pickle.SETITEMS),
    *(pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.NONE, pickle.NEWFALSE, pickle.NEWTRUE, pickle.BINFLOAT),
    *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1),
    *(pickle.EMPTY_TUPLE, pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.EMPTY_SET),
    *(pickle.BINUNICODE, pickle.SHORT_BINSTRING),
    *(pickle.BINGET, pickle.LONG_BINGET, pickle.BINPUT, pickle.LONG_BINPUT),
]
_DICTS = (dict, collections.OrderedDict, collections.Counter)

# By the name that a pickle gives it, as `module.qualname`.
_allowed: dict[str, object] = {}


def is_needed() -> bool:
    """Whether torch's own cannot be taught what mmengine saves."""
    return torch.__version__ < (2, 6)


def install(harmless: Mapping[str, object]) -> None:
    """Read every file with it that torch loads weights-only.

    Args:
        harmless: what a file may hold besides tensors, by `module.qualname`.
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
    """What the pickle in the file holds.

    Raises:
        pickle.UnpicklingError: something that is not on the list.
    """
    return RestrictedUnpickler(file, encoding=encoding).load()


# The one written in C cannot be kept from single operations.
class RestrictedUnpickler(pickle._Unpickler):
    """Python's own, with torch's operations and globals, and no others."""

    def load_unsupported(self) -> None:
        raise pickle.UnpicklingError('Unsupported operand')

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

    def load_newobj(self) -> None:
        self._check_is_allowed(self.stack[-2])
        super().load_newobj()

    def load_reduce(self) -> None:
        self._check_is_allowed(self.stack[-2])
        super().load_reduce()

    def load_build(self) -> None:
        self._check_is_allowed(type(self.stack[-2]))
        super().load_build()

    def load_append(self) -> None:
        self._check_type(self.stack[-2], list)
        super().load_append()

    def load_appends(self) -> None:
        self._check_type(self.metastack[-1][-1], list)
        super().load_appends()

    def load_setitem(self) -> None:
        self._check_type(self.stack[-3], *_DICTS)
        super().load_setitem()

    def load_setitems(self) -> None:
        self._check_type(self.metastack[-1][-1], *_DICTS)
        super().load_setitems()

    def load_binpersid(self) -> None:
        identity = self.stack[-1]
        self._check_type(identity, tuple, int)
        if isinstance(identity, tuple) and identity[:1] not in [
            ('storage',),
            (b'storage',),
        ]:
            raise pickle.UnpicklingError('Only persistent_load of storage is allowed')
        super().load_binpersid()

    @staticmethod
    def _check_is_allowed(called: object) -> None:
        allowed = [*_allowed.values(), *_globals_that_others_allow().values()]
        if not any(called is value for value in allowed):
            raise pickle.UnpicklingError(f'Trying to call or build {called!r}')

    @staticmethod
    def _check_type(target: object, *types: type) -> None:
        if type(target) not in types:
            raise pickle.UnpicklingError(f'Unsupported operation on {type(target)}')


# By operation, as in its base: what is written there, or above under the same name.
RestrictedUnpickler.dispatch = {
    code: getattr(RestrictedUnpickler, handler.__name__)
    if bytes([code]) in _OPCODES
    else RestrictedUnpickler.load_unsupported
    for code, handler in pickle._Unpickler.dispatch.items()
}


def _globals_of_later_versions() -> dict[str, object]:
    """What torch 2.6 allows by itself."""
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
    """What was given to ``add_safe_globals``, which torch has from 2.4 on."""
    ask = getattr(_weights_only_unpickler, '_get_user_allowed_globals', dict)
    return ask()


def _is_forced() -> bool:
    # As torch reads it.
    value = os.environ.get('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
    return value.lower() in ('1', 'y', 'yes', 'true')


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
        if found and _is_forced():
            raise pickle.UnpicklingError('GLOBAL TorchScript was not an allowed global')
        return found

    return refusing

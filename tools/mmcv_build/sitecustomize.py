"""Lets mmcv 2.1.0's setup.py run on Python 3.13; only its build imports this.

It reads its version by ``exec`` inside a function and then asks ``locals()``
for it, where Python 3.13 no longer puts it (PEP 667). Here ``exec`` writes into
its caller's variables as it did before.
"""

import builtins
import sys

_exec = builtins.exec


def _exec_in_caller(source, globals=None, locals=None, /, **options):
    if globals is None and locals is None:
        caller = sys._getframe(1)
        globals, locals = caller.f_globals, caller.f_locals
    return _exec(source, globals, locals, **options)


builtins.exec = _exec_in_caller

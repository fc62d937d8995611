"""What `import cython` gives to the codec when Cython is not installed: nothing, under its names.

The codec is one source, compiled where it can be and interpreted elsewhere. A machine without a C
compiler has no use for Cython either, so the interpreted form must run without the package. Here
every decorator returns its function, every C type is a plain Python type, and `cast` converts as
Cython.Shadow does: a number keeps its value, so code that relies on C wrap-around must mask by
itself.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

_Wrapped = TypeVar("_Wrapped", bound=Callable[..., Any])
_T = TypeVar("_T")

compiled = False

# C integers. Python's own never overflow; the modules keep their figures in range themselves.
char = schar = uchar = int
short = ushort = int
uint = int
long = ulong = int
longlong = ulonglong = int
Py_ssize_t = size_t = ssize_t = Py_hash_t = int
int8_t = int16_t = int32_t = int64_t = int
uint8_t = uint16_t = uint32_t = uint64_t = int
bint = bool

double = float
longdouble = float

# Pointers appear in annotations only: no interpreted line follows one.
void = None
p_char = p_uchar = p_void = bytes

NULL = None


def _unchanged(function: _Wrapped) -> _Wrapped:
    return function


# Decorators without arguments.
cclass = cfunc = ccall = inline = final = no_gc = no_gc_clear = internal = _unchanged


def _configured(*_args: object, **_options: object) -> Callable[[_Wrapped], _Wrapped]:
    return _unchanged


# Decorators with arguments: types, and the compiler's directives.
locals = returns = exceptval = freelist = _configured  # Cython's own names
boundscheck = wraparound = cdivision = nonecheck = initializedcheck = _configured
overflowcheck = embedsignature = binding = profile = linetrace = infer_types = _configured
auto_pickle = annotation_typing = always_allow_keywords = test_assert_path_exists = _configured
optimize = _configured


class _Gil:
    """`with cython.nogil:`, `@cython.nogil` and `@cython.with_gil`: there is nothing to release."""

    def __call__(self, condition: Any = True) -> Any:
        return condition if callable(condition) else self

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


nogil = gil = with_gil = _Gil()


def cast(kind: Any, value: Any, *, typecheck: bool = False) -> Any:
    """`value` as `kind`: converted when `kind` is a plain type that the value is not of yet.

    typecheck: raise TypeError instead of converting, as `<kind?>value` does.
    """
    if not isinstance(kind, type) or value is None or isinstance(value, kind):
        return value
    if typecheck:
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return kind(value)


def declare(kind: Any = None, value: Any = None, **_options: object) -> Any:
    """The start value of a variable: the one given, else what its type makes of nothing."""
    if value is not None:
        return cast(kind, value)
    if kind in (int, float, bool):
        return kind()
    return None


def typeof(value: object) -> str:
    """The name of a value's type."""
    return type(value).__name__


def likely(condition: _T) -> _T:
    """Which way a condition goes is of use to a C compiler only."""
    return condition


unlikely = likely


def pointer(_kind: object) -> type[bytes]:
    """The type of a pointer: as `p_uchar`."""
    return bytes


class _Const:
    """`cython.const[T]`."""

    def __getitem__(self, kind: _T) -> _T:
        return kind


const = volatile = _Const()


def __getattr__(name: str) -> Any:
    # `int` and `float` are C types under Cython, and could not be assigned above without hiding the
    # builtins from this very module.
    if name == "int":
        return int
    if name == "float":
        return float
    raise AttributeError(f"the Cython stand-in has no {name!r}: add it to {__name__}")

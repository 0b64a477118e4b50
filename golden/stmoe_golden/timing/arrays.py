"""The timing model's arrays in compiled code, behind one pointer.

A tuple of two dozen arrays would be passed as some two hundred arguments and counted references by
every compiled function that takes it: nine tenths of a run's time. Here compiled code gets the
address of a table of addresses and extents, and makes views of them.
"""

from numba import carray, types
from numba.core import cgutils
from numba.extending import (
    NativeValue,
    intrinsic,
    models,
    overload_attribute,
    register_model,
    typeof_impl,
    unbox,
)

from .state import ARRAYS, WORDS, Arrays, dtype_of


class _Type(types.Type):
    def __init__(self) -> None:
        super().__init__(name="stmoe.timing.Arrays")


_type = _Type()
typeof_impl.register(Arrays)(lambda value, context: _type)
register_model(_Type)(models.OpaqueModel)


@unbox(_Type)
def _unbox(typ, obj, c):
    number = c.pyapi.object_getattr_string(obj, "address")
    address = c.pyapi.long_as_voidptr(number)
    c.pyapi.decref(number)
    return NativeValue(address)


def _word(builder, table, at):
    words = builder.bitcast(table, cgutils.intp_t.as_pointer())
    return builder.load(builder.gep(words, [at]))


@intrinsic
def _address(typingctx, a, at):
    def code(context, builder, signature, arguments):
        return builder.inttoptr(_word(builder, *arguments), cgutils.voidptr_t)
    return types.voidptr(a, at), code


@intrinsic
def _extent(typingctx, a, at):
    def code(context, builder, signature, arguments):
        return _word(builder, *arguments)
    return types.int64(a, at), code


def _publish(name: str, index: int) -> None:
    dtype, first, dimensions = dtype_of(name), WORDS * index, ARRAYS[name]

    @overload_attribute(_Type, name)
    def get(a):
        if dimensions == 1:
            return lambda a: carray(_address(a, first), (_extent(a, first + 1),), dtype)
        if dimensions == 2:
            return lambda a: carray(_address(a, first), (_extent(a, first + 1),
                                                         _extent(a, first + 2)), dtype)
        return lambda a: carray(_address(a, first), (
            _extent(a, first + 1), _extent(a, first + 2), _extent(a, first + 3)), dtype)


for _index, _name in enumerate(ARRAYS):
    _publish(_name, _index)

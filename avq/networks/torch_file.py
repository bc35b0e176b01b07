"""PyTorch's files of tensors, read without unpickling.

Such a file has the tensors' numbers in plain blocks, and a pickle that says which name has which
part of a block. A pickle is a program that may import and call anything. Here its operations are
interpreted on plain values: the few that a dictionary of tensors is made of. No module, class or
function that it names is looked up.
"""

import io
import math
import pickletools
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from avq.errors import InputError

ZIP = b"PK\x03\x04"  # first bytes of files since PyTorch 1.6
MAGIC = 0x1950A86A20F9469CFC6C  # first value in files before it
DTYPES: dict[str, np.dtype[Any]] = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch BFloat16Storage": np.dtype(jnp.bfloat16),
    "torch LongStorage": np.dtype("<i8"),
}
# Operations whose argument is the value. GLOBAL's is the text "module name".
LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINSTRING", "GLOBAL"}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class _Storage(NamedTuple):
    """A block of numbers."""

    dtype: np.dtype[Any]
    key: str


class _Layout(NamedTuple):
    """A tensor's place in a block; offset and strides count numbers, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, block: bytes | memoryview) -> np.ndarray:
        """The tensor, from the bytes of its block."""
        row_major = tuple(math.prod(self.shape[i + 1 :]) for i in range(len(self.shape)))
        if self.strides != row_major:
            raise InputError("a tensor in it is not contiguous")
        dtype = self.storage.dtype
        numbers = np.frombuffer(
            block, dtype, math.prod(self.shape), offset=self.offset * dtype.itemsize
        )
        return numbers.reshape(self.shape)


def read_tensors(content: bytes) -> dict[str, np.ndarray]:
    """Reads what `torch.save(network.state_dict(), path)` writes, in the zip format or in that of
    PyTorch before 1.6.

    Args:
        content: of the file. It may come from anyone; nothing in it is executed.

    Raises:
        InputError: when it is damaged, or holds anything but tensors, plain values and containers.
    """
    try:
        return _from_zip(content) if content.startswith(ZIP) else _from_stream(content)
    except InputError:
        raise
    except Exception as error:  # whatever the bytes of a damaged file lead to
        raise InputError("it is damaged, or no file of PyTorch's") from error


def _from_zip(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        # PyTorch compresses nothing. Entries of more bytes than the file has would fill the memory.
        if sum(entry.file_size for entry in archive.infolist()) > len(content):
            raise InputError("it is compressed")
        (pickle,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        layouts = _layouts(_interpret(io.BytesIO(archive.read(pickle))))
        folder = pickle.removesuffix(".pkl")
        keys = {layout.storage.key for layout in layouts.values()}
        blocks = {key: archive.read(f"{folder}/{key}") for key in keys}
    return {name: layout.array(blocks[layout.storage.key]) for name, layout in layouts.items()}


def _from_stream(content: bytes) -> dict[str, np.ndarray]:
    """Four pickles (magic number, version, system, tensors), one of the blocks' keys, the blocks,
    each behind its count of numbers.
    """
    stream = io.BytesIO(content)
    magic, _, _, tensors, keys = (_interpret(stream) for _ in range(5))
    if magic != MAGIC:
        raise InputError("it is damaged, or no file of PyTorch's")
    layouts = _layouts(tensors)
    dtypes = dict(layout.storage[::-1] for layout in layouts.values())
    blocks, place = {}, stream.tell()
    for key in keys:
        start = place + 8
        count = int.from_bytes(content[place:start], "little")
        place = start + count * dtypes[_text(key)].itemsize
        blocks[key] = memoryview(content)[start:place]
    return {name: layout.array(blocks[layout.storage.key]) for name, layout in layouts.items()}


def _layouts(tensors: Any) -> dict[str, _Layout]:
    if not isinstance(tensors, Mapping):
        raise InputError("it holds no tensors by name")
    return {name: layout for name, layout in tensors.items() if isinstance(layout, _Layout)}


def _interpret(pickle: io.BytesIO) -> Any:
    """The value that a pickle describes, made of plain values, `_Storage` and `_Layout`. The stream
    is left behind it.
    """
    stack: list[Any] = []
    below: list[list[Any]] = []  # stacks under the open marks
    memo: dict[Any, Any] = {}
    for operation, argument, _ in pickletools.genops(pickle):
        match operation.name:
            case name if name in LITERALS:
                stack.append(argument)
            case name if name in CONSTANTS:
                stack.append(CONSTANTS[name])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "MARK":
                below.append(stack)
                stack = []
            case "TUPLE":
                items, stack = stack, below.pop()
                stack.append(tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                stack.append(tuple(_popped(stack, int(name[-1]))))
            case "APPEND":
                _add(stack, _popped(stack, 1))
            case "SETITEM":
                _add(stack, _popped(stack, 2))
            case "APPENDS" | "SETITEMS":
                items, stack = stack, below.pop()
                _add(stack, items)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "BINPERSID":
                _, kind, key, *_ = stack.pop()
                stack.append(_Storage(DTYPES[_text(kind)], _text(key)))
            case "REDUCE":
                function, arguments = _popped(stack, 2)
                stack.append(_value(function, arguments))
            case "BUILD":
                stack.pop()  # attributes of a dictionary: versions of the layers
            case "PROTO" | "STOP":
                pass
            case name:
                raise InputError(f"it holds more than tensors (operation {name})")
    return stack.pop()


def _popped(stack: list[Any], count: int) -> list[Any]:
    items = stack[-count:]
    del stack[-count:]
    return items


def _add(stack: list[Any], items: list[Any]) -> None:
    """Adds items to the list, or keys and values in turns to the dictionary, on top of a stack."""
    if isinstance(stack[-1], dict):
        stack[-1].update(_named(zip(items[::2], items[1::2], strict=True)))
    else:
        stack[-1].extend(items)


def _named(pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    return {_text(name): value for name, value in pairs}


def _text(value: Any) -> str:
    """The value, when it is a text. Others may be nested so deeply that Python cannot hash them."""
    if not isinstance(value, str):
        raise InputError("it has names that are no text")
    return value


def _value(function: Any, arguments: Any) -> Any:
    """What PyTorch's function of that name would make of the arguments."""
    match function:
        case "collections OrderedDict":
            return _named(*arguments) if arguments else {}
        case "torch._utils _rebuild_tensor" | "torch._utils _rebuild_tensor_v2":
            storage, offset, shape, strides = arguments[:4]
            if all(isinstance(number, int) for number in (offset, *shape, *strides)):
                return _Layout(storage, offset, shape, strides)
        case "torch._utils _rebuild_parameter":
            return arguments[0]
    raise InputError(f"it holds more than tensors (function {_text(function)})")

"""Mark the symbols of a Mach-O object as private to what it is linked into.

On Linux a version script keeps the entry points of a step out of a library's exports. The linker
for Mach-O that zig has knows no such list; it keeps to the mark that a compiler writes for
``-fvisibility=hidden``, which kernels and entry points do not get.
"""

import struct

_MAGIC_64, _SYMTAB = 0xFEEDFACF, 0x2
_STAB, _PRIVATE_EXTERNAL, _TYPE, _EXTERNAL = 0xE0, 0x10, 0x0E, 0x01
"""Parts of ``n_type`` (Apple's mach-o/nlist.h)."""


def hide_symbols(content: bytes) -> bytes:
    """Return a 64-bit Mach-O object with every symbol that it defines private."""
    magic, _, _, _, count = struct.unpack_from("<IIIII", content)
    if magic != _MAGIC_64:
        raise ValueError("not a 64-bit Mach-O object")
    changed = bytearray(content)
    at = 32
    for _ in range(count):
        command, size = struct.unpack_from("<II", content, at)
        if command == _SYMTAB:
            first, symbols = struct.unpack_from("<II", content, at + 8)
            for entry in range(first, first + 16 * symbols, 16):
                changed[entry + 4] = _hidden(content[entry + 4])
        at += size
    return bytes(changed)


def _hidden(kind: int) -> int:
    defined = kind & _EXTERNAL and kind & _TYPE and not kind & _STAB
    return kind | _PRIVATE_EXTERNAL if defined else kind

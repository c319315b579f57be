"""What a loader reads of a 64-bit ELF library: its dynamic section and dynamic symbols."""

import struct
from dataclasses import dataclass

LOAD, DYNAMIC = 1, 2
NEEDED, STRTAB, SYMTAB, SONAME = 1, 5, 6, 14


@dataclass
class Library:
    machine: int
    soname: str
    needed: list[str]
    defined: set[str]
    undefined: set[str]
    alignments: list[int]


def read_library(raw):
    """Parse it by the ELF-64 Object File Format 1.5."""
    assert raw[:6] == b"\x7fELF\x02\x01"
    (machine,) = struct.unpack_from("<H", raw, 18)
    at, size, count = *struct.unpack_from("<Q", raw, 32), *struct.unpack_from("<HH", raw, 54)
    segments = [struct.unpack_from("<IIQQQQQQ", raw, at + i * size) for i in range(count)]
    loads = [s for s in segments if s[0] == LOAD]

    def offset_of(address):
        return next(a - s + address for _, _, a, s, _, n, _, _ in loads if s <= address < s + n)

    (start, length) = next((s[2], s[5]) for s in segments if s[0] == DYNAMIC)
    entries = [struct.unpack_from("<QQ", raw, start + i) for i in range(0, length, 16)]
    first = dict(reversed(entries))
    strings, symbols = offset_of(first[STRTAB]), offset_of(first[SYMTAB])

    def text(at):
        return raw[strings + at : raw.index(b"\0", strings + at)].decode()

    names = {True: set(), False: set()}
    for entry in range(symbols + 24, _end(raw, symbols), 24):
        name, _, _, section = struct.unpack_from("<IBBH", raw, entry)
        names[section != 0].add(text(name))
    return Library(
        machine=machine,
        soname=text(first[SONAME]),
        needed=[text(value) for tag, value in entries if tag == NEEDED],
        defined=names[True],
        undefined=names[False],
        alignments=[s[7] for s in loads],
    )


def _end(raw, symbols):
    """The end of the section that holds the dynamic symbols."""
    (at,) = struct.unpack_from("<Q", raw, 40)
    size, count = struct.unpack_from("<HH", raw, 58)
    for i in range(count):
        offset, nbytes = struct.unpack_from("<QQ", raw, at + i * size + 24)
        if offset == symbols:
            return offset + nbytes
    raise AssertionError("no section of dynamic symbols")

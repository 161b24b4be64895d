"""What an object file defines and what it needs: enough of ELF and Mach-O to refuse what a kernel never has."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_ELF = b"\x7fELF\x02\x01\x01"
_MACHO = 0xFEEDFACF
_X86_64, _AARCH64 = "x86_64", "aarch64"


@dataclass(frozen=True)
class ObjectFile:
    """A relocatable object.

    machine      x86_64 or aarch64
    defined      names of its global symbols
    undefined    names that the loader would have to find elsewhere
    runs_itself  whether loading alone would run code: constructors, destructors, indirect functions
    """

    machine: str
    defined: frozenset[str]
    undefined: frozenset[str]
    runs_itself: bool


def read_object(image: bytes) -> ObjectFile:
    """Look into an object. raises ValueError when it is not a whole relocatable object for a processor we know."""
    try:
        if image[:7] == _ELF:
            return _read_elf(image)
        if image[:4] == struct.pack("<I", _MACHO):
            return _read_macho(image)
    except (struct.error, IndexError, UnicodeDecodeError, KeyError) as error:
        raise ValueError(f"a damaged object file: {error}") from error
    raise ValueError("not an object file")


def _part(image: bytes, start: int, size: int) -> bytes:
    if start + size > len(image):
        raise ValueError("a truncated object file")
    return image[start : start + size]


def _text(table: bytes, start: int) -> str:
    return table[start : table.index(b"\0", start)].decode("ascii")


def _read_elf(image: bytes) -> ObjectFile:
    kind, machine = struct.unpack_from("<HH", image, 16)
    (sections_at,) = struct.unpack_from("<Q", image, 40)
    entry, count, names_index = struct.unpack_from("<HHH", image, 58)
    if kind != 1 or entry != 64:
        raise ValueError("not a relocatable object file")
    headers = [struct.unpack_from("<IIQQQQIIQQ", image, sections_at + i * entry) for i in range(count)]
    names = _part(image, headers[names_index][4], headers[names_index][5])
    runs_itself = False
    defined: set[str] = set()
    undefined: set[str] = set()
    for name, type, _, _, offset, size, link, _, _, _ in headers:
        # Sections of function pointers that loaders call; older objects mark them by name only.
        runs_itself |= type in (14, 15, 16)
        runs_itself |= _text(names, name).startswith((".init", ".fini", ".ctors", ".dtors", ".preinit"))
        if type != 2:
            continue
        strings = _part(image, headers[link][4], headers[link][5])
        for symbol, info, _, section, _, _ in struct.iter_unpack("<IBBHQQ", _part(image, offset, size)):
            text = _text(strings, symbol)
            runs_itself |= info & 15 == 10
            if section == 0 or section == 0xFFF2:  # undefined, or a common block
                undefined.add(text)
            elif info >> 4 != 0:
                defined.add(text)
    return ObjectFile(
        {62: _X86_64, 183: _AARCH64}[machine], frozenset(defined), frozenset(undefined - {""}), runs_itself
    )


def _read_macho(image: bytes) -> ObjectFile:
    _, processor, _, kind, commands, _, _, _ = struct.unpack_from("<IiiIIIII", image, 0)
    if kind != 1:
        raise ValueError("not a relocatable object file")
    runs_itself = False
    defined: set[str] = set()
    undefined: set[str] = set()
    for command, at in _commands(image, commands):
        if command == 0x19:  # a segment: look at its sections' types
            (sections,) = struct.unpack_from("<I", image, at + 64)
            for i in range(sections):
                (flags,) = struct.unpack_from("<I", image, at + 72 + 80 * i + 64)
                runs_itself |= flags & 0xFF in (0x9, 0xA, 0x15, 0x16)
        elif command == 2:  # the symbol table
            symbols_at, symbols, strings_at, strings_size = struct.unpack_from("<IIII", image, at + 8)
            strings = _part(image, strings_at, strings_size)
            for name, type, _, _, _ in struct.iter_unpack("<IBBHQ", _part(image, symbols_at, 16 * symbols)):
                text = _text(strings, name).removeprefix("_")
                if type & 0xE0:
                    continue  # for debuggers
                if type & 0x0E == 0:
                    undefined.add(text)
                elif type & 1:
                    defined.add(text)
    machine = {0x01000007: _X86_64, 0x0100000C: _AARCH64}[processor]
    return ObjectFile(machine, frozenset(defined), frozenset(undefined), runs_itself)


def _commands(image: bytes, count: int) -> Iterator[tuple[int, int]]:
    at = 32
    for _ in range(count):
        command, size = struct.unpack_from("<II", image, at)
        yield command, at
        if size < 8:
            raise ValueError("a damaged object file: a command without size")
        at += size

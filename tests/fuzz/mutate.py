"""Mutations of a case: aimed at what parsers read, undirected, and of how the decoder is asked.

Everything follows from the random generator that is passed in, so a seed and a number name an input for good.
"""

from __future__ import annotations

import copy
import io
import itertools
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.fuzz.case import Case
from tests.fuzz.walk import Number, walk

Mutator = Callable[[bytes, random.Random], bytes]

_MAX_MUTATIONS = 6
_MAX_BYTES = 1 << 20
# Compressions, photometric interpretations and tags that lead LibRaw and libtiff to other code.
_TIFF_NUMBERS = (
    *(1, 2, 5, 6, 7, 8, 9, 99, 262, 32767, 32769, 32770, 32803, 32867, 34713, 34892, 52546, 65000, 65535),
    *(0x00E0, 0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x010F, 0x0110, 0x0111, 0x0112, 0x0115, 0x0116, 0x0117, 0x011C),
    *(0x013D, 0x0142, 0x0143, 0x0144, 0x0145, 0x014A, 0x0152, 0x0153, 0x0157, 0x0201, 0x0202, 0x4001, 0x828D, 0x828E),
    *(0x8769, 0x8773, 0x927C, 0x9206, 0xA20E, 0xC612, 0xC616, 0xC619, 0xC61A, 0xC61B, 0xC61D, 0xC61F, 0xC620, 0xC621),
    *(0xC628, 0xC62A, 0xC634, 0xC640, 0xC68D, 0xC68E, 0xC740, 0xC741, 0xC74E, 0xC6C5, 0xC7A6),
)
_PICTURE_SIZES = (3, 4, 44, 255, 256, 4096, 16384, 20000, 30000, 46341, 65535)
_WORDS = (
    *(b"0", b"1", b"-1", b"2", b"3", b"65535", b"65536", b"99999", b"1000000", b"2147483647", b"4294967295"),
    *(b"4294967296", b"9" * 20, b"9" * 400, b"1e9", b"1e999", b"-1e-999", b"0x10", b"NaN", b"Infinity", b"null"),
    *(b"true", b"[]", b"{}", b'""', b"()", b"(", b"'", b'"', b"\n", b"\r\n", b"\0", b"\x1b[2J", b"%s%n", b"\xff\xfe"),
    *(b"\xe2\x80\xae", b"#", b"'|O'", b"'<u2'", b"'>f8'", b"'<f4'", b"'<c8'", b"'|V2'", b"'<M8[s]'", b"True", b"../x"),
    *(b"(4, 4)", b"(4, 4, 3)", b"(0, 4)", b"(65536, 65536)", b"(4,)", b"(1, 1, 1, 1)", b"left", b"right", b"a" * 300),
    *(b"NIKON", b"SONY", b"Panasonic", b"OLYMPUS", b"Phase One", b"Hasselblad", b"Kodak", b"SAMSUNG", b"FUJIFILM"),
    *(b"PENTAX", b"Leaf", b"Minolta", b"SIGMA", b"Apple", b"Google", b"Canon EOS R5", b"Canon EOS 300D", b"HDR+"),
    *(b"[" * 2000, b"(" * 500, b'{"dualpix": {"half": "left", "disparity_gain": 1e400}}', b'{"dualpix": []}'),
)
_OPTIONS: dict[str, tuple[Any, ...]] = {
    "layout": ("superpixel", "mosaic", "green", "rgb"),
    "colour": ("camera", "srgb"),
    "swap": (True,),
    "focused_on": ("nearest", "farthest"),
    "equalise": (False,),
    "encoding": ("srgb", "linear"),
    "baseline": ("x", "y"),
}


@dataclass(frozen=True)
class Step:
    """One mutation of one file: by name and seed of its own, so that steps can be left out one by one."""

    file: str
    mutator: str
    seed: int


def mutated(case: Case, rng: random.Random) -> tuple[Case, list[Step]]:
    """A case with some steps applied, and with other options now and then; the steps to leave some out."""
    steps = random_steps(case, rng, {name: weight for name, (_, weight) in MUTATORS.items()})
    options = {**case.options, **_other_options(case, rng)}
    case = replace(case, options=options)
    return applied(case, steps), steps


def random_steps(case: Case, rng: random.Random, weights: Mapping[str, float]) -> list[Step]:
    """One to six steps; ``weights`` of the mutators by name."""
    steps = []
    for _ in range(min(1 + int(rng.expovariate(0.8)), _MAX_MUTATIONS)):
        name = rng.choice(sorted(case.files))
        mutator = rng.choices(list(weights), list(weights.values()))[0]
        steps.append(Step(name, mutator, rng.getrandbits(48)))
    return steps


EXTREMES = (0, 1, -1, -2, 1 << 31, (1 << 31) - 1, 65535, 16384)


def swept(case: Case) -> Iterator[Case]:
    """Every number of the case's files with every extreme value, one at a time."""
    for name, data in case.files.items():
        numbers = sorted(set(walk(data).numbers), key=lambda one: (one.offset, one.size))
        for one, value in itertools.product(numbers, EXTREMES):
            yield replace(case, files={**case.files, name: _with_crcs(_with_number(data, one, value))})


def applied(case: Case, steps: Sequence[Step]) -> Case:
    """The case after these steps."""
    files = dict(case.files)
    for step in steps:
        mutate = JSON_MUTATORS.get(step.mutator) or MUTATORS[step.mutator][0]
        rng = random.Random(step.seed)
        data = mutate(files[step.file], rng)[:_MAX_BYTES]
        files[step.file] = _with_crcs(data) if rng.random() < 0.7 else data
    return replace(case, files=files)


def _other_options(case: Case, rng: random.Random) -> dict[str, Any]:
    chosen = {name: rng.choice(values) for name, values in _OPTIONS.items() if rng.random() < 0.15}
    if "flat_field" in case.options or "shading" in case.options:
        chosen.pop("equalise", None)
    if case.options.get("dump") and rng.random() < 0.4:
        chosen["dump"] = _text_changed(case.options["dump"].encode(), rng).decode("utf-8", "replace")
    return chosen


# --- aimed at the structure ---------------------------------------------------------------------------------------


def _number(data: bytes, rng: random.Random) -> bytes:
    """Another value for a number of the file's structure."""
    numbers = walk(data).numbers
    if not numbers:
        return _word(data, rng)
    one = rng.choice(numbers)
    return _with_number(data, one, _other_value(data, one, rng, numbers))


def _other_value(data: bytes, one: Number, rng: random.Random, numbers: Sequence[Number]) -> int:
    value, bits = _read(data, one), 8 * one.size
    other = rng.choice(numbers)
    return rng.choice(
        (
            *(0, 1, 2, 3, rng.choice((4, 5, 7, 8, 12, 13, 16)), (1 << bits) - 1, (1 << bits) - 2, 1 << (bits - 1)),
            *((1 << (bits - 1)) - 1, value + 1, value - 1, value * 2, value // 2, value ^ 1 << rng.randrange(bits)),
            *(len(data), len(data) - rng.randrange(20), other.offset, _read(data, other)),
            *(rng.choice(_TIFF_NUMBERS), rng.choice(_PICTURE_SIZES), rng.getrandbits(bits), rng.randrange(32)),
        )
    )


def _number_swap(data: bytes, rng: random.Random) -> bytes:
    """Exchange two numbers of one size: offsets of strips, sizes of boxes."""
    numbers = walk(data).numbers
    if len(numbers) < 2:
        return _word(data, rng)
    one = rng.choice(numbers)
    other = rng.choice([n for n in numbers if n.size == one.size])
    first, second = _read(data, one), _read(data, other)
    return _with_number(_with_number(data, one, second), other, first)


def _piece(data: bytes, rng: random.Random) -> bytes:
    """Take out, repeat, move, overwrite or empty a box, chunk, segment, entry or strip."""
    pieces = walk(data).pieces
    if not pieces:
        return _chunk(data, rng)
    (start, stop), (to, end) = rng.choice(pieces), rng.choice(pieces)
    piece = data[start:stop]
    match rng.randrange(5):
        case 0:
            return data[:start] + data[stop:]
        case 1:
            return data[:stop] + piece + data[stop:]
        case 2:
            return data[:to] + piece + data[to:]
        case 3:
            return data[:to] + piece.ljust(end - to, b"\0")[: end - to] + data[end:]
        case _:
            return data[:start] + bytes([rng.choice((0, 255))]) * len(piece) + data[stop:]


def _boundary(data: bytes, rng: random.Random) -> bytes:
    """Cut the file at the edge of a piece, or a few bytes beside it."""
    edges = [edge for piece in walk(data).pieces for edge in piece]
    at = rng.choice(edges) + rng.choice((-4, -1, 0, 0, 1, 4)) if edges else rng.randrange(len(data) + 1)
    return data[: max(at, 0)]


def _text(data: bytes, rng: random.Random) -> bytes:
    """Change a text: a header, a name, a description. Of the same length half the time, so that the rest stays."""
    texts = walk(data).texts
    if not texts:
        return _flip(data, rng)
    start, stop = rng.choice(texts)
    changed = _text_changed(data[start:stop], rng)
    if rng.random() < 0.5:
        changed = changed[: stop - start].ljust(stop - start, b" ")
    return data[:start] + changed + data[stop:]


def _text_changed(text: bytes, rng: random.Random) -> bytes:
    words = list(re.finditer(rb"'[^']*'|\"[^\"]*\"|\([^)]*\)|[\w.+-]+|[\[\]{}:,]", text))
    if not words or rng.random() < 0.15:
        at = rng.randrange(len(text) + 1)
        return text[:at] + rng.choice(_WORDS) + text[at:]
    word = rng.choice(words)
    new = rng.choice((rng.choice(_WORDS), b"", word[0] * 2, rng.choice(words)[0], str(rng.randrange(70000)).encode()))
    return text[: word.start()] + new + text[word.end() :]


def _packed(data: bytes, rng: random.Random) -> bytes:
    """Mutate what lies behind a compression or a checksum, and make those right again."""
    if data[:2] == b"PK":
        return _repacked_zip(data, rng)
    if data[1:4] == b"PNG":
        return _repacked_png(data, rng)
    return _number(data, rng)


def _repacked_zip(data: bytes, rng: random.Random) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name)[:_MAX_BYTES] for name in archive.namelist()}
    except Exception:  # mutated before: any error of the library
        return _flip(data, rng)
    if not members:
        return data
    name = rng.choice(sorted(members))
    members[name] = rng.choice((_number, _text, _chunk, _flip, _cut))(members[name], rng)
    coding = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", coding) as archive:
        for member, body in members.items():
            # A fixed date: the same bytes from the same seed.
            archive.writestr(zipfile.ZipInfo(member), body, coding)
    return buffer.getvalue()


def _repacked_png(data: bytes, rng: random.Random) -> bytes:
    chunks = _png_chunks(data)
    if not chunks:
        return _flip(data, rng)
    index = rng.randrange(len(chunks))
    kind, body = chunks[index]
    if kind == b"IDAT":
        try:
            pixels = zlib.decompressobj().decompress(body, _MAX_BYTES)
        except zlib.error:
            pixels = body
        body = zlib.compress(rng.choice((_flip, _chunk, _cut))(pixels, rng))
    else:
        body = _number(body, rng) if body[:2] in (b"II", b"MM") else rng.choice((_word, _flip, _cut, _chunk))(body, rng)
    chunks[index] = (kind, body)
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks)), rng.choice(chunks))
    return data[:8] + b"".join(png_chunk(*chunk) for chunk in chunks)


def _with_crcs(data: bytes) -> bytes:
    """A PNG with the right CRC in each chunk, so that libpng looks at what is in it; other files as they are."""
    if data[1:4] != b"PNG":
        return data
    fixed, at = bytearray(data), 8
    while at + 12 <= len(data):
        end = at + 8 + struct.unpack_from(">I", data, at)[0]
        if end + 4 > len(data):
            break
        struct.pack_into(">I", fixed, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(fixed)


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at + 12 <= len(data) and len(chunks) < 64:
        length, kind = struct.unpack_from(">I4s", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with its CRC."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# --- JSON ---------------------------------------------------------------------------------------------------------


_RAW = "@raw@"
_EXTREME_VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 0.5, -0.0, 255, 1e-320, 1e308, -1e308, 2**31, 2**53 + 1, -(2**63), 2**64, 10**30),
    *(float("nan"), float("inf"), f"{_RAW}1e999{_RAW}", f"{_RAW}{'9' * 400}{_RAW}", f"{_RAW}{'9' * 5000}{_RAW}"),
    *(
        "",
        " ",
        "0",
        "nan",
        "a" * 300,
        "../x",
        "/etc/passwd",
        "x/../../y",
        "C:\\x",
        "a\0b",
        "\ud800",
        "\u202e",
        "\x1b[2J",
    ),
    *([], {}, [[]], {"": None}, [None], [0] * 1000, "\n", "é", "f32", "int64", "CON"),
)


def _json(data: bytes, rng: random.Random) -> bytes:
    """Another value somewhere in a document, or in one line of a file of lines."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    for document, put_back in (
        (data, lambda new: new),
        (lines[at], lambda new: b"\n".join([*lines[:at], new, *lines[at + 1 :]])),
    ):
        try:
            text = json.dumps(_changed(json.loads(document), rng))
        except (ValueError, RecursionError, OverflowError):  # no JSON, or too deep or too large by the steps before
            continue
        return put_back(text.replace(f'"{_RAW}', "").replace(f'{_RAW}"', "").encode())
    return _text(data, rng)


def _changed(value: Any, rng: random.Random) -> Any:
    """``value`` with one of its parts replaced, left out, repeated, renamed or wrapped."""
    places = list(_places(value))
    if not places:
        return _other_json(value, rng)
    holder, key = rng.choice(places)
    match rng.randrange(8):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice(("", "x" * 200, "format", "__class__", f"{key} "))] = holder.pop(key)
        case 2 if isinstance(holder, list):
            holder[key:key] = [holder[key]] * rng.choice((1, 2, 100))
        case 3:
            other, name = rng.choice(places)
            holder[key] = copy.deepcopy(other[name])
        case _:
            holder[key] = _other_json(holder[key], rng)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key or index) of every part."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from _places(value[key])


def _other_json(value: Any, rng: random.Random) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.4:
        return rng.choice((value + 1, -value, value * 1000, value / 3, str(value), float(value)))
    if rng.random() < 0.08:
        for _ in range(rng.choice((3, 70, 900))):
            value = [value] if rng.random() < 0.5 else {"a": value}
        return value
    return copy.deepcopy(rng.choice(_EXTREME_VALUES))


# --- undirected ---------------------------------------------------------------------------------------------------


def _flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return b"\0"
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data))
        changed[at] = rng.choice((changed[at] ^ 1 << rng.randrange(8), rng.randrange(256), 0, 255))
    return bytes(changed)


def _word(data: bytes, rng: random.Random) -> bytes:
    """An extreme number at an even place, mostly near the start."""
    if len(data) < 8:
        return _flip(data, rng)
    at = rng.randrange(min(len(data) - 7, rng.choice((64, 1024, len(data))))) & ~1
    one = Number(at, rng.choice((2, 4, 4, 8)), rng.choice("<>"))
    return _with_number(data, one, _other_value(data, one, rng, [one]))


def _chunk(data: bytes, rng: random.Random) -> bytes:
    """Take out, repeat, blank or insert some bytes."""
    start = rng.randrange(len(data) + 1)
    stop = min(start + rng.choice((1, 2, 4, 16, 256, 4096)), len(data))
    match rng.randrange(4):
        case 0:
            return data[:start] + data[stop:]
        case 1:
            return data[:stop] + data[start:stop] + data[stop:]
        case 2:
            return data[:start] + bytes(stop - start) + data[stop:]
        case _:
            return data[:start] + rng.randbytes(rng.choice((1, 2, 4, 64))) + data[start:]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _read(data: bytes, one: Number) -> int:
    return int.from_bytes(data[one.offset : one.offset + one.size], "little" if one.order == "<" else "big")


def _with_number(data: bytes, one: Number, value: int) -> bytes:
    value %= 1 << (8 * one.size)
    stored = value.to_bytes(one.size, "little" if one.order == "<" else "big")
    return data[: one.offset] + stored + data[one.offset + one.size :]


MUTATORS: dict[str, tuple[Mutator, float]] = {
    "number": (_number, 8),
    "number-swap": (_number_swap, 1),
    "piece": (_piece, 2.5),
    "boundary": (_boundary, 0.7),
    "text": (_text, 2.5),
    "packed": (_packed, 2),
    "flip": (_flip, 1.5),
    "word": (_word, 1.5),
    "chunk": (_chunk, 1),
    "cut": (_cut, 0.4),
}
"""By name, with how often each is taken."""

JSON_MUTATORS: dict[str, Mutator] = {"json": _json}
"""Those that the decoder's inputs do not get."""

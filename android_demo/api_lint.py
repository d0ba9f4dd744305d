"""Checks what compiled classes use of Android and Java against a database of the public API.

Convention: the database is ``android-platform-37.d.ts`` of the npm package ``@nativescript/types-android``: every
public class and member with the API level it came with. A member counts as the same by its name and number of
arguments, since the database knows one kind of number alone. A class of the app may use what is newer than the oldest
Android it is installed on only where it is named: such a class looks at the version of the phone first.

    python android_demo/api_lint.py DATABASE CLASSES... [--min-sdk 26] [--newer-in org/dualpix/demo/app/Compat]

Exit code 0 without findings, 1 with, 2 for bad input.
"""

from __future__ import annotations

import argparse
import re
import struct
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CHECKED = ("android/", "java/", "javax/", "dalvik/")
GAPS = (
    "java/lang/invoke/",
    "java/util/function/",
    "java/lang/Record",
    "java/lang/runtime/",
    "java/lang/MatchException",
)
"""Functional interfaces are incomplete in the database; what stands for lambdas and records is replaced by D8."""

_MODULE = re.compile(r"(?:declare|export) module ([\w$.]+) \{$")
_CLASS = re.compile(r"export (?:abstract )?(?:class|interface) ([\w$]+)(.*)\{\s*(\}?)$")
_MEMBER = re.compile(r"public (?:static )?(?:abstract )?([\w$]+)(\??)(<[^(]*>)?(\(.*\))?: (.*);$")
_CONSTRUCTOR = re.compile(r"public constructor\((.*)\);$")
_SINCE = re.compile(r"@since (\d+)")
_DEPRECATED = re.compile(r"[Dd]eprecated in API (\d+)")
_SUPER = re.compile(r"\b(?:extends|implements)\b|,(?![^<]*>)")
_FEWEST_CLASSES = 1000
_WHOLE = re.compile(r"-?\d+")


@dataclass(frozen=True)
class Member:
    """A method, constructor or field of the database."""

    arguments: int | None
    """None for a field, -1 for any number."""
    since: int
    deprecated: int
    value: int | None = None


@dataclass
class ApiClass:
    """A class of the database."""

    since: int = 0
    parents: list[str] = field(default_factory=list)
    members: dict[str, list[Member]] = field(default_factory=dict)


@dataclass(frozen=True, order=True)
class Use:
    """What a class file refers to."""

    owner: str
    name: str = ""
    descriptor: str = ""

    def __str__(self) -> str:
        return f"{self.owner.replace('/', '.')}{'.' if self.name else ''}{self.name}{self.descriptor}"


@dataclass(frozen=True, order=True)
class Finding:
    """Something that is wrong, and where."""

    kind: str
    use: str
    by: str


class LintError(Exception):
    """The input is none."""


def read_database(path: Path) -> dict[str, ApiClass]:
    """Name (``android.hardware.camera2.CaptureRequest.Builder``) to class.

    Raises:
        LintError: it is no such database.
    """
    reader = _Reader()
    for line in path.read_text(encoding="utf-8").splitlines():
        reader.take(line.strip())
    if len(reader.classes) < _FEWEST_CLASSES:
        raise LintError(f"'{path}' names {len(reader.classes)} classes; expected the API of Android")
    return reader.classes


class _Reader:
    """Follows the declarations line by line: blocks open and close at the ends of lines."""

    def __init__(self) -> None:
        self.classes: dict[str, ApiClass] = {}
        self._stack: list[tuple[str, ApiClass | None]] = []
        self._since = self._deprecated = 0
        self._comment = False

    def take(self, text: str) -> None:
        if self._comment or text.startswith("/**"):
            self._since = max(self._since, _number(_SINCE, text))
            self._deprecated = max(self._deprecated, _number(_DEPRECATED, text))
            self._comment = "*/" not in text
            return
        self._declaration(text)
        self._since = self._deprecated = 0

    def _declaration(self, text: str) -> None:
        owner = self._stack[-1][1] if self._stack else None
        if found := _MODULE.match(text):
            self._stack.append((found[1], None))
        elif found := _CLASS.match(text):
            self._class(found)
        elif text.endswith("{"):
            self._stack.append(("", None))
        elif text.startswith("}"):
            del self._stack[-1:]
        elif owner is not None and (member := _member(text, self._since, self._deprecated)):
            owner.members.setdefault(member[0], []).append(member[1])

    def _class(self, found: re.Match[str]) -> None:
        name = ".".join([part for part, _ in self._stack] + [found[1]])
        made = self.classes.setdefault(name, ApiClass(self._since))
        made.parents += [re.sub(r"<.*", "", parent).strip() for parent in _SUPER.split(found[2])]
        if not found[3]:
            self._stack.append((found[1], made))


def _number(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    return int(found[1]) if found else 0


def _member(text: str, since: int, deprecated: int) -> tuple[str, Member] | None:
    if found := _CONSTRUCTOR.match(text):
        return "<init>", Member(_count(found[1]), since, deprecated)
    if not (found := _MEMBER.match(text)):
        return None
    arguments = None if found[4] is None else _count(found[4][1:-1])
    value = int(found[5]) if arguments is None and _WHOLE.fullmatch(found[5]) else None
    return found[1], Member(arguments, since, deprecated, value)


def _count(arguments: str) -> int:
    if "..." in arguments:
        return -1
    depth, count = 0, 1 if arguments.strip() else 0
    for character in arguments.replace("=>", ""):
        depth += (character in "<([{") - (character in ">)]}")
        count += character == "," and depth == 0
    return count


def class_files(paths: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Name and content of the class files in folders and archives.

    Raises:
        LintError: a path is neither.
    """
    for path in paths:
        if path.is_dir():
            for file in sorted(path.rglob("*.class")):
                yield file.relative_to(path).with_suffix("").as_posix(), file.read_bytes()
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    if name.endswith(".class"):
                        yield name.removesuffix(".class"), archive.read(name)
        else:
            raise LintError(f"'{path}' is neither a folder of classes nor an archive of them")


def uses(data: bytes) -> set[Use]:
    """What the constant pool of a class file refers to.

    Raises:
        LintError: it is no class file.
    """
    if data[:4] != b"\xca\xfe\xba\xbe":
        raise LintError("not a class file")
    pool = _constants(data)
    text = {index: entry for index, entry in pool.items() if isinstance(entry, str)}
    out = set()
    for entry in pool.values():
        if isinstance(entry, str):
            continue
        tag, *values = entry
        if tag == 7 and not text[values[0]].startswith("["):
            out.add(Use(text[values[0]]))
        elif tag in (9, 10, 11):
            owner = text[_tuple(pool, values[0])[1]]
            _, name, descriptor = _tuple(pool, values[1])
            if not owner.startswith("["):
                out.add(Use(owner, text[name], text[descriptor]))
    return out


def _tuple(pool: dict[int, str | tuple[int, ...]], index: int) -> tuple[int, ...]:
    entry = pool[index]
    if isinstance(entry, str):
        raise LintError("a class file refers to a text where it should not")
    return entry


_SIZES = {3: ">I", 4: ">I", 5: ">Q", 6: ">Q", 7: ">H", 8: ">H", 9: ">HH", 10: ">HH", 11: ">HH", 12: ">HH", 15: ">BH",
          16: ">H", 17: ">HH", 18: ">HH", 19: ">H", 20: ">H"}  # fmt: skip


def _constants(data: bytes) -> dict[int, str | tuple[int, ...]]:
    (count,) = struct.unpack_from(">H", data, 8)
    pool: dict[int, str | tuple[int, ...]] = {}
    at, index = 10, 1
    while index < count:
        tag = data[at]
        if tag == 1:
            (length,) = struct.unpack_from(">H", data, at + 1)
            pool[index] = data[at + 3 : at + 3 + length].decode("utf-8", "replace")
            at += 3 + length
        else:
            pool[index] = (tag, *struct.unpack_from(_SIZES[tag], data, at + 1))
            at += 1 + struct.calcsize(_SIZES[tag])
        index += 2 if tag in (5, 6) else 1
    return pool


def check(
    database: dict[str, ApiClass], paths: Sequence[Path], min_sdk: int, newer_in: Sequence[str]
) -> tuple[list[Finding], int]:
    """What is wrong, and how many references were looked up.

    Args:
        database: of :func:`read_database`.
        paths: folders or archives of class files.
        min_sdk: the oldest API level.
        newer_in: classes, with those within them, that may use newer ones.
    """
    findings: set[Finding] = set()
    looked_up: set[Use] = set()
    for name, data in class_files(paths):
        guarded = any(name == allowed or name.startswith(allowed + "$") for allowed in newer_in)
        for use in uses(data):
            if not use.owner.startswith(CHECKED) or use.owner.startswith(GAPS):
                continue
            looked_up.add(use)
            found = _find(database, use)
            if found is None:
                findings.add(Finding("missing", str(use), name))
            elif found.since > min_sdk and not guarded:
                findings.add(Finding(f"since API {found.since}", str(use), name))
    return sorted(findings), len(looked_up)


def _find(database: dict[str, ApiClass], use: Use) -> Member | None:
    owner = re.sub(r"[/$]", ".", use.owner)
    if owner not in database:
        return None
    since = database[owner].since
    if not use.name:
        return Member(None, since, 0)
    arguments = _arguments(use.descriptor) if use.descriptor.startswith("(") else None
    found = _inherited(database, owner, use.name, arguments, set())
    if found is None and use.name == "<init>" and "<init>" not in database[owner].members:
        found = Member(None, 0, 0)  # the database leaves out constructors without arguments of some classes
    return None if found is None else Member(found.arguments, max(found.since, since), found.deprecated, found.value)


def _arguments(descriptor: str) -> int:
    return len(re.findall(r"\[*(?:L[^;]+;|[BCDFIJSZ])", descriptor[1 : descriptor.index(")")]))


def _inherited(
    database: dict[str, ApiClass], owner: str, name: str, arguments: int | None, seen: set[str]
) -> Member | None:
    if owner in seen or owner not in database:
        return None
    seen.add(owner)
    here = database[owner]
    fitting = [m for m in here.members.get(name, []) if m.arguments in (arguments, -1)]
    if fitting:
        return min(fitting, key=lambda member: member.since)
    if name == "<init>":
        return None
    for parent in (*here.parents, "java.lang.Object"):
        if found := _inherited(database, parent, name, arguments, seen):
            return found
    return None


def constants_of(data: bytes) -> dict[str, int]:
    """Whole static constants of a class file: fields with a ConstantValue.

    Raises:
        LintError: it is no class file.
    """
    if data[:4] != b"\xca\xfe\xba\xbe":
        raise LintError("not a class file")
    pool = _constants(data)
    at = _end_of_pool(data) + 6
    (interfaces,) = struct.unpack_from(">H", data, at)
    at += 2 + 2 * interfaces
    (fields,) = struct.unpack_from(">H", data, at)
    at += 2
    out: dict[str, int] = {}
    for _ in range(fields):
        _, name, _, attributes = struct.unpack_from(">HHHH", data, at)
        at += 8
        for _ in range(attributes):
            kind, length = struct.unpack_from(">HI", data, at)
            if pool[kind] == "ConstantValue":
                tag, *value = _tuple(pool, struct.unpack_from(">H", data, at + 6)[0])
                if tag == 3:
                    out[str(pool[name])] = value[0] - (value[0] >> 31 << 32)
            at += 6 + length
    return out


def _end_of_pool(data: bytes) -> int:
    (count,) = struct.unpack_from(">H", data, 8)
    at, index = 10, 1
    while index < count:
        tag = data[at]
        at += 3 + struct.unpack_from(">H", data, at + 1)[0] if tag == 1 else 1 + struct.calcsize(_SIZES[tag])
        index += 2 if tag in (5, 6) else 1
    return at


def check_constants(database: dict[str, ApiClass], paths: Sequence[Path]) -> tuple[list[Finding], int]:
    """Constants of stand-ins for Android's classes whose value is another than Android's, and how many there are."""
    findings, count = [], 0
    for name, data in class_files(paths):
        known = database.get(re.sub(r"[/$]", ".", name), ApiClass())
        for constant, value in constants_of(data).items():
            count += 1
            if value not in [member.value for member in known.members.get(constant, [])]:
                findings.append(Finding(f"is {value} here", f"{name}.{constant}", name))
    return findings, count


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit code."""
    parser = argparse.ArgumentParser(description="Check compiled classes against the public API of Android.")
    parser.add_argument("database", type=Path)
    parser.add_argument("classes", type=Path, nargs="+")
    parser.add_argument("--min-sdk", type=int, default=26)
    parser.add_argument("--newer-in", action="append", default=[])
    asked = parser.parse_args(arguments)
    try:
        findings, count = check(read_database(asked.database), asked.classes, asked.min_sdk, asked.newer_in)
    except (OSError, LintError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for finding in findings:
        print(f"{finding.kind}: {finding.use} (by {finding.by})")
    print(f"{count} references, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

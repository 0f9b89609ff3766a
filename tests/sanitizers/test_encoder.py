"""The C++ encoder under sanitizers for seconds; `scripts/security` does it for minutes. See `encoder.py`."""

import subprocess
from pathlib import Path

import pytest

from tools.sanitizers.encoder import (
    ADDRESS,
    INSTALL,
    THREAD,
    UNDEFINED,
    Build,
    compile_driver,
    compiler,
    patched_sources,
    run_driver,
)

SECONDS = 3
needs_host_compiler = pytest.mark.skipif(compiler(ADDRESS) is None, reason=INSTALL)
needs_thread_sanitizer = pytest.mark.skipif(compiler(THREAD) is None, reason=INSTALL)


def found(done: subprocess.CompletedProcess[str]) -> str:
    """What a run that had to find something says."""
    assert done.returncode != 0, "the driver found nothing"
    return done.stderr


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(UNDEFINED, id="undefined"),
        pytest.param(ADDRESS, id="address", marks=needs_host_compiler),
        pytest.param(THREAD, id="thread", marks=needs_thread_sanitizer),
    ],
)
def test_random_and_adversarial_input_gives_no_report(tmp_path: Path, build: Build) -> None:
    done = run_driver(compile_driver(build, tmp_path), seed=1, seconds=SECONDS)

    assert done.returncode == 0, done.stderr[-4000:]
    assert "rounds" in done.stdout


@needs_host_compiler
def test_a_piece_of_the_encoders_memory_that_is_one_short_is_found(tmp_path: Path) -> None:
    broken = {
        "encoder.cc": (
            "at.head = arena.take<float>(2 * shape.hidden)",
            "at.head = arena.take<float>(2 * shape.hidden - 1)",
        )
    }

    done = run_driver(compile_driver(ADDRESS, tmp_path, sources=patched_sources(tmp_path, broken)), seed=1, seconds=60)

    assert "AddressSanitizer: use-after-poison" in found(done)


@needs_host_compiler
def test_a_caller_array_read_one_beyond_its_end_is_found(tmp_path: Path) -> None:
    broken = {"encoder.cc": ("k < to.inputs; k++) sum += row[k];", "k <= to.inputs; k++) sum += row[k];")}

    done = run_driver(compile_driver(ADDRESS, tmp_path, sources=patched_sources(tmp_path, broken)), seed=1, seconds=60)

    assert "AddressSanitizer: heap-buffer-overflow" in found(done)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("uint32_t there = (1u << left)", "uint32_t there = (1u << (left + 31))", id="shift-too-wide"),
        pytest.param("!known(s->encoder->shape", "(count < 1 || !ids) && !known(s->encoder->shape", id="ids-unchecked"),
    ],
)
def test_the_projects_own_compiler_alone_finds_a_broken_encoder(tmp_path: Path, old: str, new: str) -> None:
    sources = patched_sources(tmp_path, {"encoder.cc": (old, new)})

    found(run_driver(compile_driver(UNDEFINED, tmp_path, sources=sources), seed=1, seconds=60))


def test_a_patch_that_no_longer_fits_the_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"encoder\.cc has 'no such line' 0 times"):
        patched_sources(tmp_path, {"encoder.cc": ("no such line", "")})

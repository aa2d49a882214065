#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""The installed headers, as other people's programs include them: each alone,
in every language they are said to be for, without a warning.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import nolog  # noqa: E402  pylint: disable=wrong-import-position

INCLUDE = pathlib.Path(__file__).resolve().parents[2] / "include"
HEADERS = sorted(p.relative_to(INCLUDE).as_posix() for p in INCLUDE.glob("nolog/*.h"))
WARN = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", f"-I{INCLUDE}")


def compiled(compiler, standard, language, text):
    """What the compiler says of a program of these lines."""
    with tempfile.TemporaryDirectory() as d:
        path = pathlib.Path(d) / f"program.{language}"
        path.write_text(text)
        done = subprocess.run([compiler, f"-std={standard}", *WARN, str(path)],
                              capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def each_header_alone(compilers, language, standards):
    found = [c for c in compilers if shutil.which(c)]
    if not found:
        nolog.skip(f"needs {' or '.join(compilers)}")
    assert len(HEADERS) >= 3, HEADERS
    for compiler in found:
        for standard in standards:
            for header in HEADERS:
                # Twice: it guards itself.
                status, err = compiled(compiler, standard, language, f"#include <{header}>\n" * 2)
                assert status == 0, (compiler, standard, header, err)


def test_each_header_compiles_alone_in_c():
    each_header_alone(("gcc", "clang"), "c", ("c11", "c17", "gnu17"))


def test_each_header_compiles_alone_in_cplusplus():
    each_header_alone(("g++", "clang++"), "cpp", ("c++17", "c++20"))


def test_an_older_c_is_told_what_is_needed():
    if not shutil.which("gcc"):
        nolog.skip("needs gcc")
    for header in HEADERS:
        status, err = compiled("gcc", "c99", "c", f"#include <{header}>\n")
        assert status != 0 and "needs C11 or later" in err, (header, err)


if __name__ == "__main__":
    nolog.main()

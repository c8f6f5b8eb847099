"""The names by which a compiler or a cache would be found in an image; no engine is needed."""

from __future__ import annotations

import pytest

from tests.container.unwanted import UNWANTED


@pytest.mark.parametrize(
    "path",
    [
        *("usr/bin/gcc", "usr/bin/x86_64-linux-gnu-gcc-12", "usr/bin/cc", "usr/bin/c++", "usr/bin/g++-12"),
        *(
            "usr/lib/gcc/x86_64-linux-gnu/12/cc1",
            "usr/lib/gcc/x86_64-linux-gnu/12/cc1plus",
            "usr/bin/clang-14",
        ),
        *("usr/bin/ld", "usr/bin/x86_64-linux-gnu-ld.bfd", "usr/bin/as", "usr/bin/make", "usr/bin/git"),
        *("var/cache/apt/pkgcache.bin", "var/lib/apt/lists/deb_InRelease", "home/me/.cache/pip/http/1"),
        *("root/.config/pip/pip.conf", "opt/ptychopinn/venv/bin/pip3.11", "opt/ptychopinn/a/torch.whl"),
    ],
)
def test_it_is_unwanted(path: str) -> None:
    assert UNWANTED.fullmatch(path)


@pytest.mark.parametrize(
    "path",
    ["usr/bin/python3.11", "usr/bin/pip3", "lib64/ld-linux-x86-64.so.2", "etc/ld.so.conf", "usr/bin/asc"],
)
def test_it_may_stay(path: str) -> None:
    assert not UNWANTED.fullmatch(path)

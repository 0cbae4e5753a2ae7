"""The build of a wheel: with a compiled core where that can be, and without it elsewhere.

    pip install .                                    compiled where there is a C compiler
    FUSESWAP_CORE=interpreted pip install .          never
    FUSESWAP_CORE=compiled pip install .             or not at all
    pip install --config-settings core=interpreted . the same as an option

It is setuptools' own build, with the extensions that mypyc makes of the modules in ``modules.py``.
Where they can't be made, one sentence says why, and the wheel is one of Python alone.  An editable
install is never compiled: its sources change.

Nothing of fuseswap imports this; pip runs it from the source tree.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import setuptools
from setuptools.build_meta import (
    _BuildMetaBackend,
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
)

from fuseswap.core.modules import MODULES

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

VARIABLE = "FUSESWAP_CORE"
_COMPILER = "mypy>=1.18"  # mypyc comes with it
_GROUP = "fuseswap_core"

# The strict check of the sources is `scripts/check`'s.  Here numbers of pages and segments are
# plain ones, and packages that a build has no need of may be missing.
_OPTIONS = """\
[mypy]
ignore_missing_imports = True
follow_imports = silent
always_true = COMPILED
disable_error_code = arg-type,assignment,misc,return-value
"""

Settings = Mapping[str, Any] | None


class CannotCompile(Exception):
    """Why there is no compiled core, for a person."""


def _build(extensions: list[setuptools.Extension], scratch: str = "") -> Any:
    """setuptools' build, of a package with ``extensions``; in ``scratch``, or where it does."""
    options = {"build": {"build_base": scratch}} if scratch else {}

    def run_setup(setup_script: str = "setup.py") -> None:
        """There is no such script."""
        setuptools.setup(ext_modules=extensions, options=options)

    build = _BuildMetaBackend()
    build.run_setup = run_setup
    return build


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """What pip is to install before the build: mypy, where the core can be compiled."""
    plain: list[str] = _build([]).get_requires_for_build_wheel(None)
    wanted = _wanted(config_settings)
    return plain if wanted == "interpreted" or _what_lacks() else [*plain, _COMPILER]


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: Settings = None
) -> str:
    """The name and version of the wheel, whatever is compiled."""
    return str(_build([]).prepare_metadata_for_build_wheel(metadata_directory, None))


def build_wheel(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """The wheel: compiled, or of Python alone; raises `CannotCompile` where that is no choice."""
    wanted = _wanted(config_settings)
    if wanted != "interpreted":
        try:
            return _build_compiled(wheel_directory, metadata_directory)
        except CannotCompile as exc:
            if wanted == "compiled":
                raise
            print(f"fuseswap runs interpreted, since {exc}", file=sys.stderr)
    return str(_build([]).build_wheel(wheel_directory, None, metadata_directory))


def _build_compiled(wheel_directory: str, metadata_directory: str | None) -> str:
    if lacks := _what_lacks():
        raise CannotCompile(lacks)
    with tempfile.TemporaryDirectory() as scratch:
        build = _build(_extensions(Path(scratch)), scratch)
        try:
            return str(build.build_wheel(wheel_directory, None, metadata_directory))
        except (Exception, SystemExit) as exc:
            raise CannotCompile(f"the core does not compile: {exc}") from exc


def _extensions(scratch: Path) -> list[setuptools.Extension]:
    """The modules as C, in ``scratch``."""
    try:
        from mypyc.build import mypycify
    except ImportError as exc:
        raise CannotCompile("there is no mypy to compile the core with") from exc
    options = scratch / "mypy.ini"
    options.write_text(_OPTIONS)
    sources = [f"{name.replace('.', '/')}.py" for name in MODULES]
    try:
        found: list[setuptools.Extension] = mypycify(
            [f"--config-file={options}", f"--cache-dir={scratch / 'cache'}", *sources],
            opt_level="1",
            debug_level="0",
            target_dir=str(scratch),
            group_name=_GROUP,
        )
    except (Exception, SystemExit) as exc:
        raise CannotCompile(f"mypy does not take the core: {exc}") from exc
    for extension in found:
        extension.extra_link_args = ["-Wl,--strip-all"]  # the worker's memory is locked
    return found


def _wanted(config_settings: Settings) -> str:
    """``auto``, ``compiled`` or ``interpreted``."""
    wanted = str((config_settings or {}).get("core") or os.environ.get(VARIABLE) or "auto")
    if wanted not in ("auto", "compiled", "interpreted"):
        raise SystemExit(f"core '{wanted}' is none of auto, compiled, interpreted")
    return wanted


def _what_lacks() -> str:
    """Why nothing can be compiled here; "" where it can."""
    words = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if not shutil.which(words[0]):
        return f"there is no C compiler ({words[0]})"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "the headers of Python are not installed (python3-dev)"
    return ""

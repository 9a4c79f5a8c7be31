"""The project's environment on the machine: which files describe it, and the command that makes it there."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devsync.ports import DevsyncError, Misuse

OWN_FOLDER = ".devsync"
"""devsync's folder in the project on the machine; nothing of it is mirrored."""

CONDA_FILES = ("environment.yml", "environment.yaml")

# $1 is the file for conda, or nothing; $2 where a virtual environment goes; the rest is what is installed
# there. Everything that the tools say goes to standard error; the line that activates is all of the output.
_MAKE = r"""
exec 3>&1 1>&2
file=$1 place=$2 conda= uv= python=
shift 2
stop() { printf 'devsync: %s\n' "$1"; exit 1; }
first() { for found in "$@"; do command -v "$found" >/dev/null 2>&1 && return; done; found=; return 1; }
if [ -n "$file" ] && first conda "$CONDA_EXE" /anaconda*/bin/conda /opt/*conda*/bin/conda \
  "$HOME"/*conda3/bin/conda "$HOME"/*forge*/bin/conda mamba
then
  place=.devsync/conda
  printf '%s, by %s, into %s\n' "$file" "$found" "$place"
  export CONDA_ALWAYS_YES=true
  if [ -d "$place/conda-meta" ]; then "$found" env update --prune --prefix "./$place" --file "$file"
  else "$found" env create --prefix "./$place" --file "$file"; fi || stop "$found has failed"
  printf 'conda activate ./%s\n' "$place" >&3
  exit 0
fi
[ $# -gt 0 ] || stop "$file needs conda, and there is none on the machine"
first uv "$HOME/.local/bin/uv" "$HOME/.cargo/bin/uv" && uv=$found
first python3 python && python=$found
[ -n "$uv$python" ] || stop "there is neither uv nor Python on the machine"
printf '%s, by %s, into %s\n' "$*" "${uv:-pip}" "$place"
if ! "$place/bin/python" -c '' 2>/dev/null; then
  [ ! -e "$place/pyvenv.cfg" ] || rm -rf -- "$place"
  if [ -n "$uv" ]; then "$uv" venv --quiet "$place"; else "$python" -m venv "$place"; fi ||
    stop "the virtual environment $place cannot be made"
fi
if [ -n "$uv" ]; then "$uv" pip install --python "$place/bin/python" "$@"
else
  "$place/bin/python" -m pip --version >/dev/null 2>&1 || "$place/bin/python" -m ensurepip >/dev/null
  "$place/bin/python" -m pip install --disable-pip-version-check "$@"
fi || stop "not everything could be installed"
printf '. ./%s/bin/activate\n' "$place" >&3
"""


@dataclass(frozen=True)
class Description:
    """What a project says of its environment: a file for conda, what pip and uv are to install, or both."""

    conda: str | None
    installed: Sequence[str]


def describe(root: Path, wanted: str | None = None) -> Description:
    """Look at the files of the project, or at one alone, by its path in the project.

    requirements.txt goes before pyproject.toml. Raises Misuse or DevsyncError if nothing is described.
    """
    if wanted is not None and not (root / wanted).is_file():
        raise Misuse(f"there is no {wanted} in the project")
    names = [wanted] if wanted else [*CONDA_FILES, "requirements.txt", "pyproject.toml"]
    there = [name for name in names if (root / name).is_file()]
    conda = next((name for name in there if name.endswith((".yml", ".yaml"))), None)
    for name in there:
        installed = () if name == conda else _of(root, name)
        if installed:
            return Description(conda, installed)
    if conda is None:
        raise DevsyncError(
            "nothing says which packages the project needs",
            hint="write a requirements.txt, or an environment.yml, or [project] into pyproject.toml",
        )
    return Description(conda, ())


def _of(root: Path, name: str) -> tuple[str, ...]:
    """What a file has to install: of pyproject.toml the project, if it can be built, else what it needs."""
    if not name.endswith(".toml"):
        return ("-r", name)
    try:
        document = tomllib.loads((root / name).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DevsyncError(f"{name} is no TOML: {error}") from None
    if "build-system" in document:
        return ("-e", str(Path(name).parent))
    needed = document.get("project", {}).get("dependencies", [])
    if not isinstance(needed, list) or any(not isinstance(one, str) or one[:1] == "-" for one in needed):
        raise DevsyncError(f"project.dependencies in {name} is no list of requirements")
    return tuple(needed)


def words(description: Description, *, mirrored: bool) -> list[str]:
    """The command that makes the environment; what it prints activates it, as a line for `[run] setup`.

    `mirrored`: whether `.venv` in the project would be. It is put where nothing is, then.
    """
    place = f"{OWN_FOLDER}/venv" if mirrored else ".venv"
    return ["sh", "-c", _MAKE, "devsync-env", description.conda or "", place, *description.installed]

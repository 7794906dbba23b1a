"""Install the lowest versions that pyproject.toml allows into a temporary environment, and try each feature there.

    python .ci/floors.py                    # every floor
    python .ci/floors.py torch==2.13.0      # another version of a package, if its floor cannot be installed here

Needs the network. Exits with a code other than 0 if the floors cannot be installed together, or if a feature fails.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GROUPS = (("plot", "diffusers", "text", "video", "perceptual"), ("hf", "serve"))
"""Extras that share an environment. The others need higher versions of packages that all depend on."""
REQUIREMENT = re.compile(r'"([\w-]+)>=([\w.]+)"')


def read_floors(project: str, extras: tuple[str, ...]) -> dict[str, str]:
    """Return the lowest version of each package of the dependencies and of some extras.

    Args:
        project: the text of pyproject.toml.
        extras: if they name a package again, their version counts.
    """
    lists = [project.partition(f"\n{name} = [")[2].partition("]")[0] for name in ("dependencies", *extras)]
    return dict(REQUIREMENT.findall("".join(lists)))


def main(changes: list[str]) -> None:
    """Try each group of extras. Exits with 1 if one fails."""
    changed = dict(change.split("==") for change in changes if change.count("==") == 1)
    if len(changed) < len(changes):
        sys.exit(f"expected NAME==VERSION, not {' '.join(changes)}")
    project = (ROOT / "pyproject.toml").read_text()
    failed = [extras for extras in GROUPS if not works(extras, read_floors(project, extras) | changed)]
    sys.exit(1 if failed else 0)


def works(extras: tuple[str, ...], floors: dict[str, str]) -> bool:
    """Return whether nextscale with some extras can be installed with these versions, and its features work."""
    lines = [f"{name}=={version}" for name, version in floors.items()]
    print(f"Python {sys.version.split()[0]}, {' '.join(lines)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="floors-") as folder:
        python, constraints = Path(folder, "venv", "bin", "python"), Path(folder, "floors.txt")
        constraints.write_text("\n".join(lines))
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
        install = [python, "-m", "pip", "install", "-q", "-c", constraints, f"{ROOT}[{','.join(extras)}]"]
        smoke = [python, ROOT / ".ci" / "smoke.py", *extras]
        return all(subprocess.run(command, cwd=folder).returncode == 0 for command in (install, smoke))


if __name__ == "__main__":
    main(sys.argv[1:])

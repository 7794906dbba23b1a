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
EXTRAS = ("hf", "plot", "serve", "diffusers")
REQUIREMENT = re.compile(r'"([\w-]+)>=([\w.]+)"')


def read_floors(project: str, extras: tuple[str, ...] = EXTRAS) -> dict[str, str]:
    """Return the lowest version of each package of the dependencies and of some extras.

    Args:
        project: the text of pyproject.toml.
    """
    lists = [project.partition(f"\n{name} = [")[2].partition("]")[0] for name in ("dependencies", *extras)]
    return dict(REQUIREMENT.findall("".join(lists)))


def main(changes: list[str]) -> None:
    floors = read_floors((ROOT / "pyproject.toml").read_text())
    for change in changes:
        name, _, version = change.partition("==")
        if name not in floors or not version:
            sys.exit(f"expected NAME==VERSION with a name of {', '.join(floors)}, not {change!r}")
        floors[name] = version
    lines = [f"{name}=={version}" for name, version in floors.items()]
    print(f"floors with Python {sys.version.split()[0]}: {' '.join(lines)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="floors-") as folder:
        python, constraints = Path(folder, "venv", "bin", "python"), Path(folder, "floors.txt")
        constraints.write_text("\n".join(lines))
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
        install = [python, "-m", "pip", "install", "-q", "-c", constraints, f"{ROOT}[{','.join(EXTRAS)}]"]
        for command in (install, [python, ROOT / ".ci" / "smoke.py"]):
            code = subprocess.run(command, cwd=folder).returncode
            if code:
                sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])

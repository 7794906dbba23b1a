"""Measure how many scenes are rendered per second on one core.

python benchmarks/scene_rendering.py emoji-sprites-96.tar.xz
"""

from __future__ import annotations

import argparse
import time

from nextscale.data.scenes.dataset import SceneDataset
from nextscale.data.scenes.sprites import open_sprites


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sprites", help="folder or .tar archive of emoji sprites")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--count", type=int, default=3000, help="scenes per measurement")
    options = parser.parse_args()
    start = time.process_time()
    scenes = SceneDataset(open_sprites(options.sprites), (options.size, options.size))
    print(f"opened in {time.process_time() - start:.1f} s")
    for epoch, name in enumerate(("first", "second", "third", "fourth")):
        start = time.process_time()
        for i in range(options.count):
            scenes[epoch, i]
        seconds = time.process_time() - start
        print(f"{name} {options.count} scenes: {options.count / seconds:.0f} per second of processor time")


if __name__ == "__main__":
    main()

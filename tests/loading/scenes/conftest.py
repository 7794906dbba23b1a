from pathlib import Path

import pytest
from tiny_scenes import write_sprites

from nextscale.data.scenes.sprites import Sprites, open_sprites


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_sprites(tmp_path / "sprites")


@pytest.fixture
def sprites(folder: Path) -> Sprites:
    return open_sprites(folder)

"""Two towers: vectors of images and captions, and how often they find each other."""

import pytest
import torch

from nextscale.conditioning.words_config import WordsConfig
from nextscale.errors import InputError
from nextscale.evaluation import two_towers
from nextscale.evaluation.two_towers import Retrieval, TowersConfig, TwoTowers, load_towers, retrieval, write_card
from nextscale.io.fingerprint import weights_fingerprint
from nextscale.io.module_folder import save_module

CONFIG = TowersConfig(WordsConfig(("a", "cat", "dog"), width=8, heads=2, max_tokens=6), (16, 16), (4, 6), 5)


def make_towers() -> TwoTowers:
    return TwoTowers(CONFIG).init_weights(torch.Generator().manual_seed(0)).eval()


def test_vectors_have_length_one_and_captions_do_not_depend_on_each_other():
    towers = make_towers()
    images, words = torch.rand(2, 3, 16, 16), towers.words.ids(["a dog", "a cat a dog"])
    with torch.no_grad():
        vectors, texts = towers.images(images), towers.texts(words)
        assert torch.allclose(torch.cat((vectors, texts)).norm(dim=1), torch.ones(4))
        assert torch.allclose(towers.texts(towers.words.ids(["a dog"])), texts[:1], atol=1e-6)
        assert torch.allclose(towers(images, words), 10 * vectors @ texts.T, atol=1e-5)
        assert towers.images(torch.rand(1, 3, 40, 20)).shape == (1, 5)


def test_retrieval_counts_own_captions_in_groups(monkeypatch):
    monkeypatch.setattr(two_towers, "CANDIDATES", 3)
    images = torch.eye(7)
    assert retrieval(images, images, list("abcdefg")) == Retrieval(1.0, 3, 6)
    texts = images[[1, 0, 2, 3, 4, 5, 6]]  # the first two are swapped
    assert retrieval(images, texts, list("abcdefg")) == Retrieval(4 / 6, 3, 6)
    assert retrieval(images, texts, ["A  dog", "a dog", *"cdefg"]).accuracy == 1
    assert str(Retrieval(0.5, 3, 6)) == "50.0% of 6 images find their caption among 3"
    with pytest.raises(InputError, match="at least 2 images with captions, not 1"):
        retrieval(images[:1], texts[:1], ["a"])


def test_saved_towers_are_the_same(tmp_path):
    towers = make_towers()
    save_module(tmp_path / "towers", CONFIG, towers)
    with pytest.raises(InputError, match=r"has no towers\.json"):
        load_towers(tmp_path / "towers")
    write_card(tmp_path / "towers", Retrieval(0.25, 100, 400))
    loaded, real = load_towers(tmp_path / "towers")
    assert loaded.config == CONFIG and real == Retrieval(0.25, 100, 400)
    assert weights_fingerprint(loaded) == weights_fingerprint(towers)
    with pytest.raises(InputError, match="no folder"):
        load_towers(tmp_path / "none")
    with pytest.raises(InputError, match=r"of 4 widths need sides of at least 16 pixels, not \(8, 8\)"):
        TowersConfig(CONFIG.words, (8, 8))

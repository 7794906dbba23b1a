"""Features of a custom classifier."""

from __future__ import annotations

import pytest
import torch
from tiny import refused
from torch import Tensor, nn

from nextscale.evaluation.features import ClassifierExtractor, FeatureExtractor
from nextscale.io.fingerprint import weights_fingerprint

SIZE = (6, 8)


class Flat(nn.Module):
    """A linear classifier of pixels."""

    def __init__(self, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(3, 5, generator=generator))
        self.drop = nn.Dropout(0.5)

    def features(self, images: Tensor) -> Tensor:
        return self.drop(images.mean((2, 3)))

    def logits(self, features: Tensor) -> Tensor:
        return features @ self.weight


def random_images(n: int = 4) -> Tensor:
    return torch.randint(0, 256, (n, 3, *SIZE), generator=torch.Generator().manual_seed(1)).byte()


def test_features_and_probabilities():
    extractor: FeatureExtractor = ClassifierExtractor("flat", Flat())
    x = random_images()
    features = extractor(x)
    pool = x.float().mean((2, 3)) / 127.5 - 1
    torch.testing.assert_close(features.pool, pool)
    torch.testing.assert_close(features.probabilities, (pool @ Flat().weight).softmax(1).detach())
    assert features.spatial is None and not features.pool.requires_grad


def test_the_same_every_time():
    flat = Flat().train()
    extractor = ClassifierExtractor("flat", flat)
    assert torch.equal(extractor(random_images()).pool, extractor(random_images()).pool)


def test_a_fingerprint_tells_weights_apart():
    assert weights_fingerprint(Flat(0)) == weights_fingerprint(Flat(0)) != weights_fingerprint(Flat(1))
    assert ClassifierExtractor("flat", Flat(1)).fingerprint == weights_fingerprint(Flat(1))
    assert weights_fingerprint(Flat().bfloat16()) != weights_fingerprint(Flat())


def test_images_of_another_size():
    extractor = ClassifierExtractor("flat", Flat(), SIZE)
    extractor(random_images())
    with refused("flat", "6 x 8", "8 x 6"):
        extractor(random_images().mT.contiguous())


@pytest.mark.parametrize("x", [torch.zeros(2, 3, *SIZE), torch.zeros(0, 3, *SIZE).byte(), torch.zeros(3, *SIZE).byte()])
def test_what_are_no_images(x):
    with refused("uint8", tuple(x.shape)):
        ClassifierExtractor("flat", Flat())(x)


def test_what_is_known_of_a_classifier():
    known = ClassifierExtractor("flat", Flat(), class_names=list("abcde"), accuracy=0.5).to("cpu")
    assert known.class_names == tuple("abcde") and known.accuracy == 0.5
    known(random_images())
    unknown = ClassifierExtractor("flat", Flat())
    assert unknown.class_names == () and unknown.accuracy is None


def test_names_and_accuracy_that_do_not_fit():
    with refused("flat", "5 logits", "3 names"):
        ClassifierExtractor("flat", Flat(), class_names="abc")(random_images())
    for accuracy in (-0.1, 80, float("nan")):
        with refused("flat", accuracy):
            ClassifierExtractor("flat", Flat(), accuracy=accuracy)


def test_a_network_without_features():
    with refused("Linear", "no method features"):
        ClassifierExtractor("linear", nn.Linear(1, 1))

"""DiffAugment changes real and reconstructed images equally, for any division of the batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nextscale.data.loader import BatchSlice
from nextscale.training.critics.augment import Augmentation, augment, cut, random_augmentation, recolour, shift

CPU = torch.device("cpu")
MIDDLE = torch.tensor([[0.5, 0.5]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(count: int = 4, h: int = 16, w: int = 24, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, h, w, generator=seeded(seed)) * 2 - 1


def drawn(count: int = 4, seed: int = 0) -> Augmentation:
    return random_augmentation(BatchSlice(0, count, count), seeded(seed), CPU)


def test_a_image_is_changed_alike_whatever_stands_beside_it():
    how, real, fake = drawn(), random_images(), random_images(seed=2)
    fake[2] = real[2]
    assert torch.equal(augment(real, how)[2], augment(fake, how)[2])
    for i in range(4):
        alone = Augmentation(*(part[i : i + 1] for part in how))
        torch.testing.assert_close(augment(real[i : i + 1], alone), augment(real, how)[i : i + 1])


def test_each_image_is_changed_in_its_own_way():
    same = random_images(1).expand(4, -1, -1, -1)
    changed = augment(same, drawn())
    assert changed.shape == same.shape
    assert all(not torch.equal(changed[i], changed[j]) for i in range(4) for j in range(i))


def test_how_depends_on_the_generator_alone():
    torch.manual_seed(0)
    first = drawn()
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(first, drawn(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, drawn(seed=1), strict=True))
    assert [tuple(part.shape) for part in first] == [(4, 3), (4, 2), (4, 2)]
    assert all(part.min() >= 0 and part.max() < 1 for part in first)


@pytest.mark.parametrize("parts", [2, 4])
def test_how_does_not_depend_on_the_division_of_the_batch(parts):
    count = 4 // parts
    places = [BatchSlice(i * count, count, 4) for i in range(parts)]
    divided = [random_augmentation(place, seeded(), CPU) for place in places]
    for whole, *of_parts in zip(drawn(), *divided, strict=True):
        assert torch.equal(torch.cat(of_parts), whole)


def test_gradients_are_those_of_the_formula():
    how = Augmentation(*(part.double() for part in drawn(2)))
    images = random_images(2, 4, 5).double().requires_grad_()
    torch.autograd.gradcheck(lambda x: augment(x, how), images)
    augment(images, how).sum().backward()
    assert images.grad is not None and images.grad.flatten(1).any(1).all()


def test_the_middle_of_each_colour_change_is_none():
    images = random_images()
    torch.testing.assert_close(recolour(images, torch.full((4, 3), 0.5)), images)


def test_brightness_saturation_contrast():
    images = random_images()
    flat = (1, 2, 3)
    brighter = recolour(images, torch.tensor([[0.75, 0.5, 0.5]]).expand(4, 3))
    torch.testing.assert_close(brighter, images + 0.25)
    grey = recolour(images, torch.tensor([[0.5, 0.0, 0.5]]).expand(4, 3))
    torch.testing.assert_close(grey, images.mean(1, keepdim=True).expand_as(images))
    dull = recolour(images, torch.tensor([[0.5, 0.5, 0.0]]).expand(4, 3))
    torch.testing.assert_close(dull.mean(flat), images.mean(flat))
    torch.testing.assert_close(dull.std(flat), images.std(flat) / 2)


def test_the_middle_shift_is_none():
    assert torch.equal(shift(random_images(), MIDDLE.expand(4, 2)), random_images())


@pytest.mark.parametrize(("by", "moved"), [((0.0, 0.5), (-2, 0)), ((0.999, 0.0), (2, -3)), ((0.5, 0.999), (0, 3))])
def test_images_move_by_an_eighth_at_most_and_zeros_come_in(by, moved):
    images = random_images(1)
    expected = torch.zeros_like(images)
    (down, right), (h, w) = moved, images.shape[-2:]
    for row in range(h):
        for column in range(w):
            if 0 <= row - down < h and 0 <= column - right < w:
                expected[..., row, column] = images[..., row - down, column - right]
    assert torch.equal(shift(images, torch.tensor([by])), expected)


def test_every_shift_is_equally_likely():
    by = torch.rand(9000, 2, generator=seeded())
    line = torch.arange(8.0).view(1, 1, 8, 1).expand(9000, 3, 8, 8) + 1
    moved = shift(line, by)[:, 0, 4, 4]
    counts = torch.tensor([(moved == value).sum() for value in (4, 5, 6)])
    assert (counts / counts.sum()).tolist() == pytest.approx([1 / 3] * 3, abs=0.02)


@pytest.mark.parametrize(("h", "w"), [(16, 16), (8, 24), (32, 10)])
def test_a_hole_in_the_middle_is_half_as_high_and_half_as_wide(h, w):
    holes = cut(torch.ones(1, 3, h, w), MIDDLE)[0] == 0
    assert holes.any(1)[0].sum() == w // 2 and holes.any(2)[0].sum() == h // 2
    assert holes.sum() == 3 * (h // 2) * (w // 2)


def test_holes_lie_anywhere_even_beyond_the_edge():
    where = torch.rand(2000, 2, generator=seeded())
    holes = (cut(torch.ones(2000, 3, 16, 16), where) == 0)[:, 0]
    sizes = holes.flatten(1).sum(1)
    assert sizes.min() >= 16 and sizes.max() == 64
    assert (holes.float().mean(0) > 0.05).all()


def test_the_rest_of_a_image_with_a_hole_stays():
    images = random_images()
    changed = cut(images, drawn().hole)
    assert ((changed == images) | (changed == 0)).all() and (changed != images).flatten(1).any(1).all()

"""The KV cache."""

from __future__ import annotations

import torch
from tiny import SCHEDULES

import nextscale as ns
from nextscale.scales.schedule import Visit
from nextscale.transformer.cache import KVCache, plan_cache

CPU = torch.device("cpu")


def visits(*sees: tuple[int, ...]) -> tuple[Visit, ...]:
    return tuple(Visit(k, (1, 1, 1), seen) for k, seen in enumerate(sees))


def test_for_var_the_scales_lie_one_behind_the_other_and_the_last_is_not_kept():
    for schedule in (*SCHEDULES.values(), ns.ScaleSchedule.named("256")):
        *plans, last = plan_cache(schedule.visits, schedule.tokens_per_scale)
        for plan, where in zip(plans, schedule.slices, strict=False):
            assert plan.write == (where.start, where.stop) and plan.read == ((0, where.stop),)
        start = schedule.slices[-1].start
        assert last.write is None and last.read == (((0, start),) if start else ())


def test_scales_line_up_in_every_layer():
    plans = plan_cache(visits((), (0,), (0, 1), (0, 1, 2)), (1, 2, 3, 1))
    cache = KVCache(plans, 2, 3, 4, 8, CPU, torch.float32)
    keys, values = torch.randn(2, 3, 4, 6, 8), torch.randn(2, 3, 4, 6, 8)
    for visit, (start, end) in enumerate(((0, 1), (1, 3), (3, 6))):
        for i in range(2):
            k, v = cache.layer(i, visit).extend(keys[i, :, :, start:end], values[i, :, :, start:end])
            assert torch.equal(k, keys[i, :, :, :end]) and torch.equal(v, values[i, :, :, :end])


def test_the_last_scale_is_seen_but_not_kept():
    keys, values = torch.randn(2, 1, 2, 3, 6, 4).unbind(0)
    cache = KVCache(plan_cache(visits((), (0,)), (4, 2)), 1, 2, 3, 4, CPU, torch.float32)
    cache.layer(0, 0).extend(keys[0, :, :, :4], values[0, :, :, :4])
    k, v = cache.layer(0, 1).extend(keys[0, :, :, 4:], values[0, :, :, 4:])
    assert torch.equal(k, keys[0]) and torch.equal(v, values[0])
    assert cache.keys.shape == (1, 2, 3, 4, 4)


def test_nothing_is_copied_when_it_grows():
    cache = KVCache(
        plan_cache(visits((), (0,), (0, 1), (0, 1, 2), (0, 1, 2, 3)), (1,) * 5), 1, 1, 1, 2, CPU, torch.float32
    )
    for visit in range(4):
        k, v = cache.layer(0, visit).extend(*torch.ones(2, 1, 1, 1, 2))
        assert k.data_ptr() == cache.keys.data_ptr() and v.data_ptr() == cache.values.data_ptr()


def test_a_visit_reads_what_it_sees_and_what_is_seen_no_more_makes_room():
    sees = ((), (0,), (1,), (0, 2), (3,), (1, 4))
    lengths = (2, 3, 2, 1, 2, 1)
    plans = plan_cache(visits(*sees), lengths)
    cache = KVCache(plans, 1, 1, 1, 1, CPU, torch.float32)
    assert cache.keys.shape[3] < sum(lengths[:-1])
    for k, (seen, length) in enumerate(zip(sees, lengths, strict=True)):
        keys = torch.full((1, 1, length, 1), float(k))
        found, values = cache.layer(0, k).extend(keys, -keys)
        expected = [float(j) for j in (*seen, k) for _ in range(lengths[j])]
        assert sorted(found.flatten().tolist()) == expected and torch.equal(values, -found)
    assert plans[2].write is not None and plans[4].write == (0, 2)  # where scale 0 was


def test_half_precision_stays_what_it_is():
    cache = KVCache(plan_cache(visits((), (0,)), (2, 2)), 1, 1, 1, 4, CPU, torch.bfloat16)
    for visit in range(2):
        k, v = cache.layer(0, visit).extend(torch.ones(1, 1, 2, 4), torch.ones(1, 1, 2, 4).bfloat16())
        assert k.dtype == v.dtype == torch.bfloat16

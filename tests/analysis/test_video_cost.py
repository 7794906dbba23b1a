"""Operations and memory of video models."""

from __future__ import annotations

import pytest
import torch
from tiny_star import make_model, make_schedule, make_text, make_tokenizer
from torch.utils.flop_counter import FlopCounterMode

import nextscale as ns
from nextscale.acceleration.precision import Precision
from nextscale.analysis.flops import count_flops
from nextscale.analysis.memory import GB, check_memory, estimate_memory
from nextscale.errors import NotEnoughMemory
from nextscale.families.infinity_star import PUBLISHED


def counted(run) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


@pytest.mark.long
def test_counts_are_those_of_a_whole_run():
    """Visits of the same kind and pairs of latent frames are counted once."""
    schedule = make_schedule(6)  # decoded as 1, 2, 2 and 1 latent frames
    tokenizer, model = make_tokenizer().to("meta"), make_model().to("meta")
    cost = count_flops(tokenizer.config, model.config, schedule, 5)

    def sample() -> None:
        condition, cache = model.condition(make_text(5).to("meta")), model.make_cache(schedule, 1)
        for visit in schedule.visits:
            looks = torch.empty(1, visit.num_tokens, 64, device="meta")
            model.logits(model.forward_scale(visit, looks if visit.index else None, condition, cache), visit)

    latents = torch.empty(1, 64, 6, 2, 3, device="meta")
    with torch.no_grad():
        assert cost.sampling == pytest.approx(counted(sample), rel=1e-6)
    assert cost.decoder == pytest.approx(counted(lambda: list(tokenizer.decode_chunks(latents))), rel=1e-6)
    assert cost.tokenizer_parameters * 1e6 == pytest.approx(sum(p.numel() for p in tokenizer.parameters()))
    assert cost.transformer_parameters * 1e6 == pytest.approx(sum(p.numel() for p in model.parameters()))


@pytest.mark.long
def test_the_official_models_cost_what_was_counted_elsewhere():
    """PFLOP with guidance: 5.7 of linear layers and 3.1 of attention. TFLOP of decoder and encoder."""
    published = PUBLISHED["480p"]
    cost = count_flops(published.tokenizer, published.model, prompt_tokens=100)
    assert 2 * cost.sampling / 1e6 == pytest.approx(8.8, abs=0.05)
    assert cost.decoder / 1e3 == pytest.approx(148, abs=0.5) and cost.encoder / 1e3 == pytest.approx(138, abs=0.5)


def estimate(budget: str, seconds: int, **options):
    published, schedule = PUBLISHED["480p"], ns.ScaleSchedule.spacetime(budget, 9 / 16, seconds)
    where = Precision(torch.bfloat16), torch.device("cuda")
    return estimate_memory(published.tokenizer, published.model, *where, schedule=schedule, **options)


def test_the_cache_holds_what_later_visits_see():
    for budget, seconds, expected in (("0.40M", 5, 0.47), ("0.40M", 10, 9.85), ("0.90M", 5, 1.06), ("0.40M", 0, 0)):
        assert estimate(budget, seconds).cache / GB == pytest.approx(expected, abs=0.01)


def test_decoding_does_not_depend_on_the_duration():
    five, ten = (estimate("0.40M", seconds, offload=True).decoding for seconds in (5, 10))
    assert ten - five == 80 * 3 * 480 * 848, "the finished frames, one byte for each number"


def test_calls_that_need_too_much_are_refused():
    needed = estimate("0.40M", 10, num_images=2)
    words = r"0\.40M pixels and 10 s with 2 videos need about .* a smaller --budget or fewer --seconds or fewer videos"
    with pytest.raises(NotEnoughMemory, match=words):
        check_memory(needed, int(20 * GB), ns.ScaleSchedule.spacetime("0.40M", 9 / 16, 10), 2)

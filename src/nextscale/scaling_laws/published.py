"""The scaling laws in the VAR paper (arXiv 2404.02905, figures 5 and 6): class-conditional ImageNet at 256 pixels.

N is in billions, C in PFLOP. The paper does not state the unit of its test loss, which is not nats: at d16's 0.302
billion parameters, its law of all scales gives 1.06, while the official training log ends at 6.05 nats. Compare
exponents rather than beta, and with care.
"""

from __future__ import annotations

PUBLISHED = {
    ("last_scale_loss", "parameters"): (-0.23, 2.0),
    ("loss", "parameters"): (-0.20, 2.5),
    ("last_scale_loss", "compute"): (-0.13, 2.2e-5),
    ("loss", "compute"): (-0.16, 1.5e-5),
}
"""Maps (metric, "parameters" or "compute") to (alpha, beta)."""

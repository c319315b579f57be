"""Every optimizer beside what it must do: PyTorch's own, or the paper written down."""

import torch

from pock_tvm.optimizers import SGD, Adafactor, Adam, AdamW, Lion, RMSProp

RATE = 0.01


class ReferenceLion:
    """Chen et al. 2023, algorithm 2."""

    def __init__(self, parameters, rate, beta1, beta2, decay, *, vectors=True):
        self.parameters, self.rate = parameters, rate
        self.decay = [decay if vectors or p.ndim > 1 else 0.0 for p in parameters]
        self.beta1, self.beta2 = beta1, beta2
        self.momenta = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self):
        for p, m, decay in zip(self.parameters, self.momenta, self.decay, strict=True):
            c = self.beta1 * m + (1 - self.beta1) * p.grad
            p -= self.rate * (torch.sign(c) + decay * p)
            m.copy_(self.beta2 * m + (1 - self.beta2) * p.grad)


class ReferenceAdafactor:
    """Shazeer & Stern 2018, algorithms 4 and 5, with a rate from outside and no RMS(w)."""

    def __init__(self, parameters, rate, threshold):
        self.parameters, self.rate, self.threshold = parameters, rate, threshold
        self.t, self.rows, self.columns = 0, {}, {}

    @torch.no_grad()
    def step(self):
        self.t += 1
        beta = 1 - self.t**-0.8
        for k, p in enumerate(self.parameters):
            square = p.grad**2
            if p.ndim < 2:
                v = self.rows[k] = beta * self.rows.get(k, 0) + (1 - beta) * square
            else:
                # sums, as in the paper, where PyTorch has means
                r = self.rows[k] = beta * self.rows.get(k, 0) + (1 - beta) * square.sum(-1)
                c = self.columns[k] = beta * self.columns.get(k, 0) + (1 - beta) * square.sum(-2)
                v = r[..., :, None] * c[..., None, :] / r.sum(-1)[..., None, None]
            u = p.grad / v.sqrt()
            u = u / max(1.0, u.square().mean().sqrt().item() / self.threshold)
            p -= self.rate * u


CASES = {
    "sgd": (SGD(), lambda p: torch.optim.SGD(p, RATE)),
    "weight decay": (SGD(weight_decay=0.1), lambda p: torch.optim.SGD(p, RATE, weight_decay=0.1)),
    "momentum": (
        SGD(momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, RATE, 0.9, weight_decay=0.1),
    ),
    "nesterov": (
        SGD(momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, RATE, 0.9, nesterov=True, weight_decay=0.1),
    ),
    "adam": (Adam(), lambda p: torch.optim.Adam(p, RATE)),
    "adam, options": (
        Adam(beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, RATE, (0.8, 0.95), 1e-6, 0.1),
    ),
    "adamw": (
        AdamW(beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, RATE, (0.8, 0.95), 1e-6, 0.1),
    ),
    "lion": (
        Lion(beta1=0.8, beta2=0.95, weight_decay=0.1),
        lambda p: ReferenceLion(p, RATE, 0.8, 0.95, 0.1),
    ),
    "rmsprop": (RMSProp(), lambda p: torch.optim.RMSprop(p, RATE)),
    "rmsprop, options": (
        RMSProp(alpha=0.9, eps=1e-6, momentum=0.5, weight_decay=0.1),
        lambda p: torch.optim.RMSprop(p, RATE, 0.9, 1e-6, 0.1, 0.5),
    ),
    "rmsprop, centered": (
        RMSProp(alpha=0.9, eps=1e-2, centered=True),
        lambda p: torch.optim.RMSprop(p, RATE, 0.9, 1e-2, centered=True),
    ),
    "rmsprop, centered, momentum": (
        RMSProp(alpha=0.9, eps=1e-2, momentum=0.5, centered=True),
        lambda p: torch.optim.RMSprop(p, RATE, 0.9, 1e-2, momentum=0.5, centered=True),
    ),
    "adafactor": (Adafactor(), lambda p: torch.optim.Adafactor(p, RATE)),
    "adafactor, options": (
        Adafactor(weight_decay=0.1, decay_rate=-0.5, eps1=1e-3, eps2=2.0, clip_threshold=1.5),
        lambda p: torch.optim.Adafactor(p, RATE, -0.5, (1e-3, 2.0), 1.5, 0.1),
    ),
    "adafactor, the rate given": (
        Adafactor(relative_step=False, scale_parameter=False, clip_threshold=0.7),
        lambda p: ReferenceAdafactor(p, RATE, 0.7),
    ),
}

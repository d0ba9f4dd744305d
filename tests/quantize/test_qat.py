from __future__ import annotations

import pytest
import torch
from tests.support.tiny_net import scene, tiny_net
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.ptq import quantise_static
from dualpix.quantize.qat import fine_tune
from dualpix.quantize.search.losses import output_loss


class FewCodes(nn.Module):
    """Beside one large weight that meets zeros alone, the others of a channel have about nine codes a side."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.Conv2d(3, 12, 3, padding=1), *(nn.Conv2d(12, 12, 3, padding=1) for _ in "ab")])
        self.head = nn.Conv2d(12, 1, 3, padding=1)
        with torch.no_grad():
            for stage in self.stages:
                stage.weight[:, 0] *= 14.0  # of an input that is never anything but zero
                stage.weight[0], stage.bias[0] = 0.0, 0.0

    def forward(self, x: Tensor) -> Tensor:
        x = x * x.new_tensor([0.0, 1.0, 1.0]).view(1, 3, 1, 1)
        for stage in self.stages:
            x = torch.relu(stage(x))
        y: Tensor = self.head(x)
        return y


def _int8_loss(module: nn.Module, teacher: nn.Module, calibration: list[Inputs], samples: list[Inputs]) -> float:
    loss = output_loss(teacher, samples)
    with torch.no_grad():
        graph = quantise_static(module, calibration)
        return loss(lambda x: graph(*x))


def test_training_helps_where_rounding_of_weights_is_what_is_lost() -> None:
    torch.manual_seed(0)
    net = FewCodes().eval()
    before = {name: p.clone() for name, p in net.named_parameters()}
    data: list[Inputs] = [(torch.rand(1, 3, 24, 32),) for _ in range(20)]
    calibration, training, held_back = data[:4], data[4:16], data[16:]
    seen: list[int] = []
    tuned = fine_tune(net, calibration, training, steps=120, on_step=lambda done, total, loss: seen.append(done))
    assert seen == list(range(1, 121)) and len(tuned.losses) == 120
    plain = _int8_loss(net, net, calibration, held_back)
    trained = _int8_loss(tuned.module, net, calibration, held_back)
    assert trained < 0.85 * plain, "on data that neither calibration nor training saw"
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters()), "the network itself is unchanged"
    assert not tuned.module.training and not any(p.requires_grad for p in tuned.module.parameters())


def test_a_siamese_network_with_batch_norm_is_trained_as_a_whole() -> None:
    net, samples = tiny_net(), [scene() for _ in range(4)]
    tuned = fine_tune(net, samples[:2], samples[2:], steps=4, learning_rate=1e-3)
    with torch.no_grad():
        moved = output_loss(net, samples)(lambda x: tuned.module(*x))
    assert 0 < moved < 0.1
    assert not any(isinstance(m, nn.BatchNorm2d) for m in tuned.module.modules())
    assert fine_tune(net, samples[:2], samples[2:], steps=4, learning_rate=1e-3).losses == tuned.losses, "reproducible"


def test_refusals() -> None:
    net, inputs = tiny_net(), scene()
    for training, steps in (([], 5), ([inputs], 0)):
        with pytest.raises(DualpixError, match="to train"):
            fine_tune(net, [inputs], training, steps=steps)
    broken = tuple(t * torch.nan for t in inputs)
    with pytest.raises(DualpixError, match="the loss is nan in step 1"):
        fine_tune(net, [inputs], [broken], steps=8)

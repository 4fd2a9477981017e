"""The network and its backbones: shapes, folding, what each part may see, what it may be built of."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from hisir_edge.engine.export import folded_net, onnx_from_net
from hisir_edge.errors import InputError
from hisir_edge.net.backbones import backbone_from_name, default_width
from hisir_edge.net.hisir_net import DeployedNet, HisirNet, centred
from hisir_edge.net.losses import losses_from_output
from hisir_edge.net.position import DEVIATION_GAIN
from hisir_edge.net.sir_gate import LEAST_DEVIATION_LEVELS, MOST_UNUSUAL, unusual
from hisir_edge.registry import BACKBONES

PLAIN = {
    "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Conv", "DepthToSpace", "Div",
    "GlobalAveragePool", "Mul", "ReduceMax", "ReduceMean", "Relu", "Resize", "Shape", "Slice", "Softplus", "Split",
    "Sub", "Abs", "Neg", "Sigmoid", "Gather", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity",
}  # fmt: skip


def trained_a_little(backbone: str, without: tuple[str, ...] = ()) -> HisirNet:
    """Batch norms with statistics of their own, so that folding has something to fold."""
    torch.manual_seed(1)
    net = HisirNet(backbone, 16, without).train()
    for _ in range(3):
        net(torch.rand(2, 3, 64, 96) * 255, torch.rand(2, 4, 64, 96) * 255)
    return net.eval()


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_shapes_and_default_width(name):
    net = backbone_from_name(name, 7, 16)
    assert net(torch.rand(1, 7, 64, 96)).shape == (1, 16, 64 // net.out_stride, 96 // net.out_stride)
    assert default_width(name) >= 16
    out = HisirNet(name, 16).eval()(torch.rand(2, 3, 64, 96), torch.rand(2, 4, 64, 96))
    assert out.reconstruction.shape == (2, 3, 64, 96)
    assert out.logits.shape == (2, 1, 64, 96)


@pytest.mark.parametrize("name", sorted(BACKBONES))
@torch.no_grad()
def test_folding_changes_nothing(name):
    net = trained_a_little(name)
    tile, cue = torch.rand(2, 3, 64, 96) * 255, torch.rand(2, 4, 64, 96) * 255
    one, two = net(tile, cue), folded_net(net)(tile, cue)
    assert torch.allclose(one.logits, two.logits, atol=1e-4)
    assert torch.allclose(one.reconstruction, two.reconstruction, atol=1e-4)


@pytest.mark.parametrize("name", sorted(BACKBONES))
@torch.no_grad()
def test_what_is_far_from_the_training_gives_no_more_than_its_share(name):
    """Features a thousand times as high may give a thousand times the result, not its square, block after block."""
    net = backbone_from_name(name, 7, 16).train()
    for _ in range(3):
        net(torch.rand(2, 7, 64, 96))
    net.eval()
    near, far = net(torch.rand(2, 7, 64, 96)).abs().max(), net(1e3 * torch.rand(2, 7, 64, 96)).abs().max()
    assert far <= 3e3 * near


@torch.no_grad()
def test_a_folded_rep_network_is_plain_convolutions():
    from hisir_edge.net.backbones.rep import RepConv

    net = trained_a_little("rep")
    count = sum(isinstance(m, RepConv) for m in net.modules())
    folded = folded_net(net)
    assert count > 10
    assert not any(isinstance(m, RepConv) for m in folded.modules())
    assert any(isinstance(m, RepConv) for m in net.modules()), "the original is left as it was"


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_the_onnx_has_plain_operators_and_computes_the_same(name, tmp_path):
    import onnxruntime

    net = trained_a_little(name)
    onnx_from_net(net, 64, tmp_path / "m.onnx")
    operators = {node.op_type for node in onnx.load(str(tmp_path / "m.onnx")).graph.node}
    assert operators <= PLAIN, f"not so plain: {operators - PLAIN}"
    rng = np.random.default_rng(0)
    tile = rng.integers(0, 256, (3, 3, 64, 64), np.uint8)
    cue = rng.integers(0, 256, (3, 4, 64, 64), np.uint8)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    score, misfit = session.run(None, {"tile": tile, "cue": cue})
    with torch.no_grad():
        expected = DeployedNet(net).eval()(torch.from_numpy(tile), torch.from_numpy(cue))
    assert np.allclose(score, expected[0].numpy(), atol=1e-3)
    assert np.allclose(misfit, expected[1].numpy(), atol=1e-3)


@torch.no_grad()
def test_without_the_cue_the_network_does_not_see_it():
    net = trained_a_little("rep", ("cue",))
    tile = torch.rand(1, 3, 64, 64) * 255
    one, two = net(tile, torch.zeros(1, 4, 64, 64)), net(tile, torch.full((1, 4, 64, 64), 255.0))
    assert torch.equal(one.logits, two.logits)
    seeing = trained_a_little("rep")
    assert not torch.equal(
        seeing(tile, torch.zeros(1, 4, 64, 64)).logits, seeing(tile, torch.full((1, 4, 64, 64), 255.0)).logits
    )


@torch.no_grad()
def test_without_the_gate_the_logit_is_the_reconstruction_error():
    net = trained_a_little("rep", ("gate",))
    tile, cue = torch.rand(1, 3, 64, 64) * 255, torch.rand(1, 4, 64, 64) * 255
    out = net(tile, cue)
    error = (out.reconstruction - centred(tile)).abs().mean(1)
    flat, far = out.logits.flatten().argmin(), error.flatten().argmax()
    assert out.logits.flatten()[far] > out.logits.flatten()[flat]


def test_an_unknown_part_or_backbone_is_refused_by_name():
    with pytest.raises(InputError, match="cue, gate"):
        HisirNet("rep", 16, ("rops",))
    with pytest.raises(InputError, match="nafnet, rep, unet"):
        backbone_from_name("resnet", 7, 16)


@pytest.mark.parametrize(("levels", "deviation"), [(0, 0), (10, 1), (10, 20), (3, 60), (250, 2)])
def test_unusual_is_the_distance_to_the_mean_in_deviations_of_the_good_boards(levels, deviation):
    mean, tile = torch.full((1, 3, 2, 2), 2.0), torch.full((1, 3, 2, 2), 2.0)
    tile[:, 1] += levels  # one channel is enough
    cue = torch.cat((mean, torch.full((1, 1, 2, 2), float(deviation * DEVIATION_GAIN))), 1)
    from_mean = centred(tile) - centred(cue[:, :3])
    measured = (unusual(from_mean, centred(cue[:, 3:])) + 0.5) * MOST_UNUSUAL
    wanted = min(levels / (deviation + LEAST_DEVIATION_LEVELS), MOST_UNUSUAL)
    assert torch.allclose(measured, torch.full((1, 1, 2, 2), wanted), atol=1e-4)


def test_a_pixel_that_weighs_more_costs_more():
    torch.manual_seed(0)
    tile = torch.rand(1, 3, 64, 64)
    mask, weight = torch.zeros(1, 1, 64, 64), torch.ones(1, 1, 64, 64)
    mask[..., 8:16, 8:16] = 1
    out = HisirNet("unet", 16)(tile * 255, torch.rand(1, 4, 64, 64) * 255)
    plain = losses_from_output(out, tile - 0.5, tile - 0.5, mask, weight)
    heavy = losses_from_output(out, tile - 0.5, tile - 0.5, mask, weight + 3 * mask)
    assert heavy.gate > 1.1 * plain.gate
    assert heavy.dice < plain.dice, "the dice loss counts hits by weight, too"
    assert heavy.restore == plain.restore

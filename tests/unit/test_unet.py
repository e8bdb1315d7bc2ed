"""The plain U-Net and the weights that nnU-Net v2 stores for it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg import models
from medseg.engine import need
from tests import published, tiny

OPTIONS = {"features": (4, 8), "deep_supervision": False}
SETTINGS = ["model.features=[4,8]", "model.deep_supervision=false", *published.PREPARE]


def stored(path: Path, network: torch.nn.Module) -> Path:
    """As nnU-Net v2 stores it: modules under two names, the encoder once more inside the decoder."""
    state = dict(network.state_dict())
    for name, tensor in network.state_dict().items():
        for place, part in enumerate((".conv.", ".norm.")):
            state[name.replace(part, f".all_modules.{place}.")] = tensor
    state |= {f"decoder.{name}": tensor for name, tensor in state.items() if name.startswith("encoder.")}
    return published.nnunet_v2(path, state)


def bring_in(network: torch.nn.Module, folder: Path) -> tiny.Said:
    file, labels = stored(folder / "checkpoint_final.pth", network), published.labels(folder)
    return published.bring_in(file, "unet", "--labels", labels, settings=SETTINGS)


def test_a_checkpoint_of_nnunet_predicts_what_its_network_says(tmp_path):
    torch.manual_seed(0)
    network = models.build("unet", in_channels=1, out_channels=3, **OPTIONS).eval()
    said = bring_in(network, tmp_path)
    assert said.code == 0, said.err
    assert "missing 0\nreshaped 0\nunexpected 0\n" in said.err
    image, _ = tiny.phantom(0, (32, 32, 32))
    scan = tiny.nifti(tmp_path / "scan.nii.gz", image, np.diag([1.5, 1.5, 2, 1]))  # axes towards R, A, S
    assert tiny.medseg_command("predict", tmp_path / "run", scan, tmp_path / "out", "--device", "cpu").code == 0
    values = image.astype(np.float32)
    with torch.inference_mode():
        by_hand = network(torch.from_numpy((values - values.mean()) / values.std())[None, None]).argmax(1)[0].numpy()
    assert len(np.unique(by_hand)) == 3
    assert np.array_equal(np.asarray(nib.load(tmp_path / "out" / "scan.nii.gz").dataobj), by_hand)


def test_strides_show_in_the_shapes_and_are_refused(tmp_path):
    network = models.build("unet", in_channels=1, out_channels=3, **OPTIONS, strides=((2, 2, 1),))
    text = published.refused(bring_in(network, tmp_path), tmp_path)
    assert "decoder.transpconvs.0.weight [8, 4, 2, 2, 1] for [8, 4, 2, 2, 2]" in text


def test_a_network_without_deep_supervision_takes_the_same_weights():
    torch.manual_seed(0)
    several = models.build("unet", in_channels=1, out_channels=3, features=(4, 8, 8)).eval()
    single = models.build("unet", in_channels=1, out_channels=3, features=(4, 8, 8), deep_supervision=False).eval()
    single.load_state_dict(several.state_dict())
    x = torch.randn(1, 1, 8, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(single(x), several(x)[0], rtol=0, atol=0)


def test_transposed_convolutions_begin_with_he_weights():
    network = models.build("unet", in_channels=1, out_channels=2, features=(32, 64))
    up = network.decoder["transpconvs"][0]
    fan = 32 * 2**3  # as torch counts it for a transposed convolution
    assert up.bias.abs().max() == 0
    assert abs(up.weight.std().item() / (2 / fan) ** 0.5 - 1) < 0.05


def test_convolutions_of_each_stage_are_as_many_as_said():
    network = models.build("unet", in_channels=1, out_channels=2, features=(4, 4, 4), convs=(1, 3, 2), decoder_convs=1)
    assert [len(stage[0].convs) for stage in network.encoder["stages"]] == [1, 3, 2]
    assert [len(stage.convs) for stage in network.decoder["stages"]] == [1, 1]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("deep", [True, False])
def test_without_gradients_the_answer_is_the_same_in_less_memory(layout, deep):
    torch.manual_seed(0)
    network = models.build("unet", in_channels=2, out_channels=3, features=(4, 8, 8), deep_supervision=deep).eval()
    network = network.to(memory_format=layout)
    x = torch.randn(2, 2, 8, 8, 8).contiguous(memory_format=layout)
    before = x.clone()
    with_gradients = network(x)
    with torch.no_grad():
        without = network(x)
    for one, other in zip(with_gradients if deep else [with_gradients], without if deep else [without], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert torch.equal(x, before)


class Alive(need._Live):
    """The most bytes of maps at once, without what convolutions take besides."""

    most = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = super().__torch_function__(func, types, args, kwargs)
        self.most = max(self.most, self._now)
        return out


def test_the_largest_maps_that_are_alive_are_three():
    """Room for the skip connection, which is two of them, and what comes from below or is made of it. The coarser map
    that is enlarged is a quarter of one."""
    network = models.build("unet", in_channels=1, out_channels=2, features=(8, 16), deep_supervision=False).eval()
    alive = Alive()
    with torch.no_grad(), alive:
        network(torch.zeros(1, 1, 32, 32, 32))
    largest = 8 * 32**3 * 4
    assert 3 * largest <= alive.most < 3.5 * largest

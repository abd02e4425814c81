from typing import get_args

import pytest
import torch

from napari_t1t2.config import ModelConfig, PresetName, preset
from napari_t1t2.model import cpu_layers
from napari_t1t2.model.cpu_layers import Double, Down, SliceNorm, arrange
from napari_t1t2.model.networks import OPEN, Discriminator, ToneCurve, UNetGenerator


@pytest.mark.parametrize("name", get_args(PresetName))
def test_a_presets_generator_keeps_the_shape(name):
    model = preset(name).model
    side = model.size or 2 * model.multiple
    image = torch.randn(2, 1 + model.depth, side, side + model.multiple * (not model.size))
    with torch.inference_mode():
        assert UNetGenerator(model)(image).shape == image[:, :1].shape


def test_depth_tells_pixels_of_one_brightness_apart():
    torch.manual_seed(0)
    generator = UNetGenerator(ModelConfig(channels=4, levels=2, depth=True, tone_curve=False))
    shallow, deep = (torch.cat([torch.zeros(1, 1, 16, 16), torch.full((1, 1, 16, 16), d)], 1) for d in (0.05, 0.9))
    with torch.inference_mode():
        assert not torch.allclose(generator(shallow), generator(deep))
        judge = Discriminator(4, coarse=4, normed=False, depth=True)
        wide = [torch.nn.functional.interpolate(x, (64, 64)) for x in (shallow, deep)]
        assert all(not torch.allclose(a, b) for a, b in zip(judge(wide[0]), judge(wide[1]), strict=True))


@pytest.mark.parametrize("upsample", ["resize", "transposed"])
@pytest.mark.parametrize(("levels", "side"), [(1, 6), (3, 8), (6, 64)])
def test_a_single_pixel_at_the_bottom_can_be_trained(upsample, levels, side):
    generator = UNetGenerator(ModelConfig(channels=4, levels=levels, upsample=upsample, depth=False)).train()
    image = torch.randn(1, 1, side, side)
    generator(image).mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in generator.parameters())


@pytest.mark.parametrize(
    ("layer", "side"), [(Down(128, 129, 4, 2, 1), 8), (Down(128, 129, 4, 1, 1), 5), (Double(128, 129, 4, 2, 1), 3)]
)
def test_a_tiny_map_multiplied_is_the_map_convolved(layer, side, monkeypatch):
    def run():
        torch.manual_seed(0)
        x = torch.randn(2, 128, side, side + layer.stride[0], requires_grad=True)
        layer.zero_grad()
        y = layer(x)
        (y * torch.randn(y.shape)).sum().backward()
        return y, x.grad, layer.weight.grad, layer.bias.grad

    multiplied = run()
    monkeypatch.setattr(cpu_layers, "TINY", 0)
    torch.testing.assert_close(multiplied, run(), rtol=1e-3, atol=1e-4)


def test_normalising_does_not_depend_on_the_order_of_the_memory():
    x = 5 + 3 * torch.randn(3, 6, 8, 10)
    last = x.to(memory_format=torch.channels_last)
    made = SliceNorm(6)(last)
    torch.testing.assert_close(made, torch.nn.InstanceNorm2d(6)(x))
    assert made.is_contiguous(memory_format=torch.channels_last)


def test_arranging_changes_no_result():
    torch.manual_seed(0)
    generator = UNetGenerator(ModelConfig(channels=16, levels=3, depth=True))
    x = torch.randn(2, 2, 32, 40)
    with torch.inference_mode():
        before = generator(x)
        torch.testing.assert_close(arrange(generator)(x), before)


def test_the_output_lies_within_the_range_of_the_images():
    with torch.inference_mode():
        made = UNetGenerator(ModelConfig(channels=4, levels=2, depth=False))(1e4 * torch.randn(2, 1, 32, 32))
    assert -1 <= made.min() < made.max() <= 1


def test_a_slice_is_translated_alike_alone_and_in_a_batch():
    generator = UNetGenerator(ModelConfig(channels=4, levels=3, depth=False))
    images = torch.randn(3, 1, 32, 40)
    with torch.inference_mode():
        alone = torch.cat([generator(image[None]) for image in images])
        torch.testing.assert_close(generator(images), alone)


def test_the_fine_discriminator_judges_patches_not_the_whole():
    image = torch.randn(1, 1, 128, 128)
    changed = image.clone()
    changed[..., :16, :16] += 1
    judge = Discriminator(4, coarse=1, normed=True).fine
    without_statistics(judge)
    with torch.inference_mode():
        differs = (judge(image) != judge(changed))[0, 0]
    assert differs[0, 0]
    assert not differs[-1, -1]


def test_the_coarse_discriminator_sees_the_whole_head():
    image = torch.randn(1, 1, 128, 128)
    changed = image.clone()
    changed[..., :32, :32] += 1
    judge = Discriminator(4, coarse=4, normed=True)
    without_statistics(judge.whole)
    with torch.inference_mode():
        assert (judge(image)[1] != judge(changed)[1])[0, 0, :4, :4].all()


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("side", [24, 32, 217])
def test_the_smallest_slices_can_still_be_judged(side, normed):
    scores = Discriminator(4, coarse=4, normed=normed)(torch.randn(1, 1, side, side))
    assert len(scores) == 2 and all(score.isfinite().all() for score in scores)


def test_discriminators_without_norm_notice_a_change_of_brightness():
    image = torch.rand(1, 1, 64, 64)
    scores = {}
    for normed in (False, True):
        torch.manual_seed(0)
        judge = Discriminator(4, coarse=1, normed=normed)
        with torch.inference_mode():
            bright, dark = judge(image)[0], judge(image / 2)[0]
        scores[normed] = (bright - dark).abs().mean() / bright.std()
    assert scores[False] > 3 * scores[True]


@pytest.mark.parametrize("falling", [False, True])
def test_a_tone_curve_begins_as_a_line_and_leaves_air_alone(falling):
    curve = ToneCurve()
    curve.start(falling=falling)
    x = torch.linspace(-1, 1, 33).view(1, 1, 1, -1)
    with torch.inference_mode():
        y = curve(x).flatten()
    assert torch.tanh(y[:3]).max() < -0.99
    tissue = y[6:].diff()
    assert (tissue < 0).all() if falling else (tissue > 0).all()


def test_a_fresh_generator_is_its_tone_curve_with_the_gate_open():
    generator = UNetGenerator(ModelConfig(channels=4, levels=2, depth=False))
    image = torch.rand(1, 1, 16, 16) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(
            generator(image), torch.tanh(generator.tone(image) * torch.sigmoid(torch.tensor(OPEN)))
        )


def without_statistics(network: torch.nn.Module) -> None:
    """Instance norm looks at the whole map; without it what is left shows the receptive field."""
    for index, module in enumerate(network.children()):
        if isinstance(module, torch.nn.InstanceNorm2d):
            network[index] = torch.nn.Identity()
        else:
            without_statistics(module)

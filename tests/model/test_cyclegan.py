from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_t1t2.events import Progress
from napari_t1t2.model.cyclegan import CycleGAN, frozen
from napari_t1t2.model.losses import (
    ImagePool,
    around_head,
    cross_entropy,
    forgiving_l1,
    intrusion,
    least_squares,
    self_similarity,
    structure,
)
from napari_t1t2.runs.training import train


@pytest.fixture
def gan(config) -> CycleGAN:
    torch.manual_seed(0)
    return CycleGAN(config)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.rand(2, 1, 32, 32) * 2 - 1, torch.rand(2, 1, 32, 32) * 2 - 1


def gradients(*networks: torch.nn.Module) -> list[torch.Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for n in networks for p in n.parameters()]


def weights(*networks: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for n in networks for p in n.parameters()]


def same(a: list, b: list) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_generator_step_leaves_the_discriminators_without_gradient(gan, batch):
    seen = []
    gan.generator_adam.register_step_pre_hook(lambda *_: seen.extend(gradients(gan.disc_t1, gan.disc_t2)))
    gan.step(*batch, np.random.default_rng(0))
    assert seen == [None] * len(seen) != []


def test_the_discriminator_step_leaves_the_generators_gradients_alone(gan, batch):
    seen = []
    for adam in (gan.generator_adam, gan.discriminator_adam):
        adam.register_step_pre_hook(lambda *_: seen.append(gradients(gan.t1_to_t2, gan.t2_to_t1)))
    gan.step(*batch, np.random.default_rng(0))
    assert same(*seen)


def test_each_optimizer_moves_its_own_networks_only(gan, batch):
    generators, judges = (gan.t1_to_t2, gan.t2_to_t1), (gan.disc_t1, gan.disc_t2)
    before, between = (weights(*generators), weights(*judges)), []
    gan.generator_adam.register_step_post_hook(lambda *_: between.extend([weights(*generators), weights(*judges)]))
    gan.step(*batch, np.random.default_rng(0))
    assert not same(before[0], between[0])
    assert same(before[1], between[1])
    assert same(between[0], weights(*generators))
    assert not same(between[1], weights(*judges))


def test_a_step_improves_every_network(gan, batch):
    before = {name: weights(network) for name, network in gan.named_children()}
    gan.step(*batch, np.random.default_rng(0))
    assert [name for name, network in gan.named_children() if same(before[name], weights(network))] == []


def test_frozen_networks_thaw_after_an_error_too(gan):
    with pytest.raises(KeyError), frozen(gan.disc_t1):
        raise KeyError
    assert all(p.requires_grad for p in gan.disc_t1.parameters())


def test_one_forward_for_translation_and_identity_equals_two(gan, batch):
    t1, t2 = batch
    made = gan.translate(t1, t2)
    torch.testing.assert_close(made.fake_t2, gan.t1_to_t2(t1))
    torch.testing.assert_close(made.same_t2, gan.t1_to_t2(t2))
    torch.testing.assert_close(made.fake_t1, gan.t2_to_t1(t2))
    torch.testing.assert_close(made.same_t1, gan.t2_to_t1(t1))
    torch.testing.assert_close(made.back_t1, gan.t2_to_t1(made.fake_t2))
    torch.testing.assert_close(made.back_t2, gan.t1_to_t2(made.fake_t1))


def test_without_identity_weight_the_loss_is_neither_computed_nor_reported(config, batch):
    gan = CycleGAN(replace(config, identity_weight=0))
    assert gan.translate(*batch).same_t1 is None
    assert gan.step(*batch, np.random.default_rng(0)).keys() == {"adversarial", "cycle", "structure", "discriminators"}


def test_generators_that_change_nothing_have_no_cycle_and_no_identity_loss(gan, batch):
    gan.t1_to_t2 = gan.t2_to_t1 = torch.nn.Identity()
    losses = gan.generator_losses(*batch, gan.translate(*batch))
    assert losses["cycle"] == losses["identity"] == losses["structure"] == 0 < losses["adversarial"]


def test_weights_of_the_losses_are_in_the_losses(config, batch):
    torch.manual_seed(0)
    one = CycleGAN(replace(config, cycle_weight=1, identity_weight=1))
    torch.manual_seed(0)
    more = CycleGAN(replace(config, cycle_weight=3, identity_weight=2))
    small, large = (gan.generator_losses(*batch, gan.translate(*batch)) for gan in (one, more))
    torch.testing.assert_close(large["cycle"], 3 * small["cycle"])
    torch.testing.assert_close(large["identity"], 2 * small["identity"])


@pytest.mark.parametrize("judge", [least_squares, cross_entropy])
def test_a_right_verdict_costs_less_than_a_wrong_one(judge):
    sure_it_is_real = torch.ones(1, 1, 3, 3)
    assert judge(sure_it_is_real, 1) < judge(sure_it_is_real, 0)


def test_the_pool_gives_back_past_slices():
    pool, rng = ImagePool(3), np.random.default_rng(0)
    given = [pool.swap(torch.full((1, 1, 2, 2), float(i)), rng)[0, 0, 0, 0].item() for i in range(40)]
    assert given[:3] == [0, 1, 2]
    past = [i for i, value in enumerate(given) if value < i]
    assert 10 < len(past) < 30
    assert all(value <= i for i, value in enumerate(given))
    assert pool.images.shape == (3, 1, 2, 2)


def test_the_pool_neither_loses_nor_doubles_a_slice():
    pool, rng = ImagePool(4), np.random.default_rng(0)
    given = torch.cat([pool.swap(torch.arange(i, i + 5.0).view(5, 1, 1, 1), rng) for i in range(0, 50, 5)])
    late = given.flatten()[4:].tolist() + pool.images.flatten().tolist()
    assert sorted(late) == list(range(50))


def test_a_pool_of_none_gives_what_it_gets():
    fresh = torch.rand(2, 1, 2, 2)
    assert ImagePool(0).swap(fresh, np.random.default_rng(0)) is fresh


def test_structure_compares_no_pixel_with_the_opposite_edge_of_the_crop():
    crop = torch.zeros(1, 1, 32, 32)
    crop[..., 12:20, 12:20] = 0.8
    edged = crop.clone()
    edged[..., :1] = 0.9  # a bright column on the left is no neighbour of what lies on the right
    right = np.s_[..., 20:]
    torch.testing.assert_close(self_similarity(edged)[right], self_similarity(crop)[right])


def test_the_structure_alone_can_be_learned(config):
    alone = {"adversarial_weight": 0.0, "cycle_weight": 0.0, "identity_weight": 0.0, "structure_weight": 1.0}
    reports = [e for e in train(replace(config, **alone)) if isinstance(e, Progress)]
    assert all(report.losses["structure"] > 0 for report in reports)


def ball(radius, brightness, side=64):
    """A disc of tissue in air with a ventricle as dark as air, (1, 1, side, side)."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    tissue = (np.hypot(y, x) < radius) & (np.hypot(y, x - 0.1) > 0.15)
    return torch.from_numpy(np.where(tissue, brightness, -1).astype(np.float32))[None, None]


def test_what_is_drawn_in_the_air_around_a_head_costs_and_what_is_drawn_inside_does_not():
    source = ball(0.7, 0.3)
    assert intrusion(torch.where(ball(0.7, 1) > 0, -0.2, source), source) == 0
    assert intrusion(torch.where(around_head(source) > 0, -1.0, 1.0), source) == 0
    assert intrusion(source + 0.05 * torch.rand(source.shape), source) == 0  # the noise of a scan
    ring = torch.where((ball(0.85, 1) > 0) & (ball(0.75, 1) < 0), 1.0, source)
    assert intrusion(ring, source) > 0.1


def test_the_air_around_a_head_is_neither_its_ventricles_nor_made_less_by_noise():
    noise = 0.02 * torch.randn((1, 1, 64, 64), generator=torch.Generator().manual_seed(0)).abs()
    for head in (ball(0.7, 0.3), (ball(0.7, 0.3) + noise).clamp(-1, 1)):
        air = around_head(head)[0, 0]
        assert air[0].all() and air[:, 0].all() and not air[28:36, 28:40].any()
        half = around_head(head[..., 34:])[0, 0]  # the crop's edge leads out of the ventricle
        assert not half[30:34, :3].any() and half[:, -1].all()
    assert around_head(torch.full((1, 1, 32, 32), -1.0)).all()


def test_structure_minds_a_shift_and_not_the_brightness():
    torch.manual_seed(0)
    head = torch.nn.functional.avg_pool2d(torch.rand(1, 1, 36, 36), 5, 1) * 2 - 1
    assert structure(-head, head) < 1e-6
    assert structure(0.5 * head - 0.2, head) < 0.01
    assert structure(head.roll(2, -1), head) > 0.1
    blank = torch.zeros_like(head, requires_grad=True)
    structure(blank, head).backward()
    assert torch.isfinite(blank.grad).all()


def test_the_paired_loss_forgives_what_registration_leaves_but_not_more():
    real = torch.rand(1, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    off = [float(forgiving_l1(real.roll((0, shift), (2, 3)), real)) for shift in (0, 1, 2, 4)]
    assert off[0] == off[1] == off[2] == 0 < off[3]
    assert float(forgiving_l1(real + 0.5, real)) == pytest.approx(0.5, rel=0.4)

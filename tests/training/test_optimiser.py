"""The optimiser against torch's own Muon and AdamW; its groups and its rate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from foodbox.config import TrainSettings
from foodbox.detectors import DETECTORS
from foodbox.detectors.base import BACKBONE, OUTPUT_WEIGHTS
from foodbox.detectors.retinanet import LIGHT, RetinaNet, RetinaNetSettings
from foodbox.errors import UsageError
from foodbox.training.optimiser import Muon, make_optimiser, orthogonal, set_rate
from foodbox.training.run_folder import load_optimiser, optimiser_tensors

SHAPES = [(64, 64), (16, 144), (144, 16)]


def test_orthogonal_keeps_directions_and_evens_out_lengths() -> None:
    """U S V' becomes nearly U V': as good as the five steps of its author are, for matrices of all shapes at once."""
    torch.manual_seed(0)
    matrices = [torch.randn(shape) * size for size in (1e-4, 1.0, 1e4) for shape in SHAPES]
    for matrix, found in zip(matrices, orthogonal(matrices), strict=True):
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        turned = left.mT @ found @ right.mT
        lengths = turned.diagonal()
        assert 0.5 < lengths[: len(matrix) // 2].min() < lengths.max() < 1.3
        assert (turned - lengths.diag()).abs().max() < 0.05


def moved(optimiser: torch.optim.Optimizer, weight: nn.Parameter, gradients: list[Tensor]) -> Tensor:
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimiser.step()
    return weight.detach()


@pytest.mark.parametrize("shape", SHAPES)
def test_matrices_move_as_by_torchs_muon(shape: tuple[int, int]) -> None:
    """Whose steps are a fifth as long, and whose iteration is in bfloat16."""
    torch.manual_seed(0)
    start, gradients = torch.randn(shape), [torch.randn(shape) for _ in range(4)]
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    group = {"params": [ours], "matrices": True}
    found = moved(Muon([group], lr=0.02, weight_decay=0.1), ours, gradients)
    torchs = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
    expected = moved(torchs, theirs, gradients)
    assert (found - start).abs().mean() > 0.02
    torch.testing.assert_close(found, expected, rtol=0, atol=6e-3)


def test_a_kernel_moves_as_the_matrix_that_it_is() -> None:
    """Whatever the order of its numbers in memory, and however many others of its shape there are."""
    torch.manual_seed(0)
    flat = nn.Parameter(torch.randn(16, 72))
    kernels = [nn.Parameter(flat.detach().view(16, 8, 3, 3).clone()) for _ in range(2)]
    kernels[1].data = kernels[1].data.to(memory_format=torch.channels_last)
    gradient = torch.randn(16, 72)
    for weight in (flat, *kernels):
        weight.grad = gradient.view(weight.shape).clone()
    Muon([{"params": [flat, *kernels], "matrices": True}], lr=0.1).step()
    for kernel in kernels:
        torch.testing.assert_close(kernel.detach().flatten(1), flat.detach(), rtol=0, atol=5e-3)


def test_all_else_moves_as_by_adamw() -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(8, 4), [torch.randn(8, 4) for _ in range(4)]
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    found = moved(Muon([{"params": [ours], "matrices": False}], lr=0.02), ours, gradients)
    assert torch.equal(found, moved(torch.optim.AdamW([theirs], lr=0.02), theirs, gradients))


def test_a_matrix_without_gradient_stays() -> None:
    weight = nn.Parameter(torch.ones(4, 4))
    Muon([{"params": [weight], "matrices": True}], lr=1.0).step()
    assert torch.equal(weight, torch.ones(4, 4))


@pytest.mark.parametrize("name", DETECTORS)
def test_muon_moves_what_lies_between_the_backbone_and_the_outputs(name: str) -> None:
    """An output's shape follows the number of classes, or it has a box's four numbers."""
    kind = DETECTORS[name]
    few, many = (
        kind(names, kind.Settings(**next(iter(kind.presets.values())))) for names in (["a", "b"], ["a", "b", "c"])
    )
    changed = {n for (n, a), b in zip(few.named_parameters(), many.parameters(), strict=True) if a.shape != b.shape}
    names = {id(parameter): name for name, parameter in few.named_parameters()}
    by_muon = {
        names[id(parameter)]
        for group in make_optimiser(few, TrainSettings()).param_groups
        for parameter in group["params"]
        if group["matrices"]
    }
    assert by_muon
    assert not by_muon & changed
    assert {n for n in changed if n.endswith("weight")} <= {n for n in names.values() if OUTPUT_WEIGHTS.search(n)}
    assert not [n for n in by_muon if n.startswith(BACKBONE) or "box" in n.split(".")[-2]]


def test_rates() -> None:
    """The rate rises over the warm-up, falls to a hundredth, and goes on after a stop as if there had been none."""
    torch.manual_seed(0)
    detector = RetinaNet(["a"], RetinaNetSettings(**LIGHT))
    settings = TrainSettings(learning_rate=1.0, backbone_rate=0.1, warmup=0.1)

    def rates(done: int, until: int) -> list[float]:
        optimiser = make_optimiser(detector, settings)
        found = []
        for step in range(done, until):
            set_rate(optimiser, settings, (step + 1) / 100)
            found.append(max(group["lr"] for group in optimiser.param_groups))
        return found

    whole = rates(0, 100)
    assert whole[0] == pytest.approx(0.1)
    assert max(whole) == pytest.approx(1.0)
    assert whole.index(max(whole)) in (9, 10)
    assert whole[-1] == pytest.approx(0.01, abs=2e-3)
    assert rates(40, 100) == pytest.approx(whole[40:])


def test_a_rate_in_a_tensor_is_that_of_its_time() -> None:
    """As a GPU has it, whose recorded steps know the tensor and not what it holds."""
    torch.manual_seed(0)
    numbers, tensors = (RetinaNet(["a"], RetinaNetSettings(**LIGHT)) for _ in range(2))
    tensors.load_state_dict(numbers.state_dict())
    start = numbers.box_tower.output.weight.detach().clone()
    settings = TrainSettings(warmup=0.5)
    optimisers = [make_optimiser(detector, settings) for detector in (numbers, tensors)]
    rates = []
    for group in optimisers[1].param_groups:
        group["lr"] = torch.tensor(group["lr"])
        rates.append(group["lr"])
    for done in (0.2, 0.5, 0.9):
        for detector, optimiser in zip((numbers, tensors), optimisers, strict=True):
            torch.manual_seed(1)
            for parameter in detector.parameters():
                parameter.grad = torch.randn_like(parameter) if parameter.requires_grad else None
            set_rate(optimiser, settings, done)
            optimiser.step()
    assert all(group["lr"] is rate for group, rate in zip(optimisers[1].param_groups, rates, strict=True))
    assert not torch.allclose(start, numbers.box_tower.output.weight)
    for one, other in zip(numbers.parameters(), tensors.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({}, 1e-3),
        ({"freeze": "backbone"}, 2e-3),
        ({"freeze": "C4"}, 2e-3),
        ({"freeze": "backbone", "learning_rate": 0.5}, 0.5),
    ],
)
def test_what_learns_without_its_backbone_has_a_higher_rate(settings: dict[str, Any], rate: float) -> None:
    optimiser = make_optimiser(RetinaNet(["a"], RetinaNetSettings(**LIGHT)), TrainSettings(**settings))
    assert max(group["lr"] for group in optimiser.param_groups) == rate


def test_optimiser_groups() -> None:
    """Frozen weights are not moved; the backbone has its lower rate; norms and biases do not decay."""
    detector = RetinaNet(["a"], RetinaNetSettings(**LIGHT))
    settings = TrainSettings(learning_rate=1.0, backbone_rate=0.1, weight_decay=0.5)
    names = {id(parameter): name for name, parameter in detector.named_parameters()}
    seen = set()
    for group in make_optimiser(detector, settings).param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.add(name)
            assert group["lr"] == (0.1 if name.startswith("backbone.") else 1.0)
            assert group["weight_decay"] == (0.0 if parameter.ndim == 1 else 0.5)
    assert seen == {name for name, parameter in detector.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith("backbone.body.conv_stem") for name in seen)


def test_another_optimisers_memory_is_refused_in_a_sentence() -> None:
    """As of a run that an earlier version began, whose parameters stood in another order."""
    optimiser = Muon([{"params": [nn.Parameter(torch.ones(4, 4))], "matrices": True}])
    with pytest.raises(UsageError, match=r"cannot be resumed: another version .*--weights"):
        load_optimiser(optimiser, {"optimiser.0.exp_avg": torch.ones(3, 4)})


def test_what_it_remembers_is_found_again() -> None:
    torch.manual_seed(0)
    gradients = [torch.randn(4, 6) for _ in range(4)]

    def fresh() -> tuple[Muon, nn.Parameter, nn.Parameter]:
        weights = nn.Parameter(torch.ones(4, 6)), nn.Parameter(torch.ones(4, 6))
        groups = [
            {"params": [weight], "matrices": matrix} for weight, matrix in zip(weights, (True, False), strict=True)
        ]
        return Muon(groups, lr=0.1), *weights

    def steps(optimiser: Muon, weights: tuple[nn.Parameter, ...], gradients: list[Tensor]) -> None:
        for gradient in gradients:
            for weight in weights:
                weight.grad = gradient.clone()
            optimiser.step()

    first, *weights = fresh()
    steps(first, tuple(weights), gradients[:2])
    second, *others = fresh()
    load_optimiser(second, {name: tensor.clone() for name, tensor in optimiser_tensors(first).items()})
    for weight, other in zip(weights, others, strict=True):
        other.data.copy_(weight.data)
    steps(first, tuple(weights), gradients[2:])
    steps(second, tuple(others), gradients[2:])
    for weight, other in zip(weights, others, strict=True):
        assert torch.equal(weight, other)


def test_a_backbone_from_nothing_has_the_full_rate() -> None:
    assert TrainSettings().backbone_share == 0.3
    assert TrainSettings(weights="none").backbone_share == 1
    assert TrainSettings(weights="none", backbone_rate=0.1).backbone_share == 0.1


def test_muon_moves_no_depthwise_kernels() -> None:
    """They have one input channel each, and no matrix."""
    kind = DETECTORS["ssd"]
    groups = make_optimiser(kind(["a"], kind.Settings(**kind.presets["light"])), TrainSettings()).param_groups
    assert min(min(p.shape[:2]) for group in groups if group["matrices"] for p in group["params"]) > 1

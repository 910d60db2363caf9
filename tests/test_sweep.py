"""The sweep against a plain reading of the activations, image by image and channel by channel."""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core_helpers import held_in_circles
from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.taps import LOGITS
from netloupe.studies.responses import Responses
from netloupe.sweep import blocks, engine
from netloupe.sweep.accumulator import Accumulator, Listener, make
from netloupe.sweep.blocks import DataSet
from netloupe.sweep.classes import ClassMeans
from netloupe.sweep.engine import sweep
from netloupe.sweep.maps import Maps
from netloupe.sweep.peaks import Peaks
from netloupe.sweep.top import Strongest
from netloupe.sweep.vectors import Features, Predictions
from sweep_helpers import (
    SIDE,
    all_accumulators,
    assert_equal_results,
    flat_results,
    outputs,
    plain_peaks,
    plain_top,
    source_of,
    tiny_images,
    tiny_network,
)
from watch_helpers import Recorder


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def test_what_a_shard_held_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only once the garbage collector comes: that is after more shards than memory holds."""
    monkeypatch.setattr(engine, "BLOCKS", 2)
    net, source = tiny_network(), source_of(noise(200))
    held = held_in_circles(lambda: sweep(net, source, all_accumulators()))
    assert not {"Tensor", "Block", "Pass", "Strongest"} & {*held}


def test_an_output_goes_once_the_last_layer_that_hands_it_on_was_read() -> None:
    held: dict[str, weakref.ref[Tensor]] = {}
    alive: dict[str, list[str]] = {}

    class Asking(Listener):
        def reads(self, layers: Sequence[str], labeled: bool) -> Sequence[str]:
            return layers

        def update(self, layer: str, maps: Maps) -> None:
            held[layer] = weakref.ref(maps.output)
            alive[layer] = [name for name, output in held.items() if output() is not None]

    same = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Identity(), nn.Identity(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten())
    net = Network(same, InputSpec(size=(SIDE, SIDE)))
    data = DataSet(net, tiny_images(4))
    run = engine.Pass(net, data, list(net.layers), [Asking()], True)
    for block in data.blocks(0, 4, 32):
        run(block)
    assert alive["2"] == ["0", "1", "2"], "the same tensor"
    assert alive["4"] == ["3", "4"]


@pytest.mark.parametrize("batch_size", [1, 7, 32])
@pytest.mark.parametrize("count", [53, 64, 5])
def test_top_patches_match_a_plain_sort(batch_size: int, count: int) -> None:
    net, images, k = tiny_network(), tiny_images(count), 9
    top = Strongest(k)
    report = sweep(net, images, {"top": top}, batch_size=batch_size)
    assert (report.images, report.resumed, report.skipped) == (count, 0, ())
    expected = outputs(net, images)
    assert list(top.result()) == list(net.layers)
    for layer, found in top.result().items():
        values, ids, positions = plain_top(expected[layer], k)
        np.testing.assert_array_equal(found.values, values, err_msg=layer)
        np.testing.assert_array_equal(found.images, ids, err_msg=layer)
        np.testing.assert_array_equal(found.positions, positions, err_msg=layer)
    constant = top.result()["relu1"]
    known = min(k, count)
    assert constant.images[1].tolist() == [*range(known), *[-1] * (k - known)]  # dead: all equal, so the first images
    assert constant.values[2, 0] == 3
    assert len(np.unique(expected["block"])) > 20


@pytest.mark.parametrize(("k", "most"), [(9, 2), (4, 1), (20, 3)])
def test_of_pieces_of_one_photograph_only_the_strongest_count(k: int, most: int) -> None:
    net, pixels = tiny_network(), noise(90)
    photographs = [i % 7 for i in range(90)]
    ranking, varied = Strongest(90), Strongest(k, per_photograph=most)
    source = source_of(pixels, photographs=photographs)
    sweep(net, source, {"ranking": ranking, "varied": varied}, batch_size=7)
    differ = 0
    for layer, found in varied.result().items():
        values, ids, positions = ranking.result()[layer]
        for c in range(len(ids)):
            chosen: list[int] = []
            for rank, i in enumerate(ids[c].tolist()):
                if sum(photographs[int(ids[c, r])] == photographs[i] for r in chosen) < most:
                    chosen.append(rank)
            chosen = chosen[:k]
            filled = len(chosen)
            assert found.images[c, :filled].tolist() == ids[c, chosen].tolist()
            np.testing.assert_array_equal(found.positions[c, :filled], positions[c, chosen])
            np.testing.assert_array_equal(found.values[c, :filled], values[c, chosen])
            assert (found.images[c, filled:] == -1).all()
            differ += found.images[c].tolist() != ids[c, :k].tolist()
    assert differ > 10


def test_moments_range_and_class_means_match_plain_numpy() -> None:
    net, pixels = tiny_network(), noise(45)
    labels = [None if i % 5 == 0 else i % 4 for i in range(45)]
    peaks, classes = Peaks(), ClassMeans()
    sweep(net, source_of(pixels, labels), {"peaks": peaks, "classes": classes})
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    for layer, maps in outputs(net, images.contiguous()).items():
        if layer == LOGITS:
            continue
        plain = plain_peaks(maps).astype(np.float64)
        found = peaks.result()[layer]
        assert found.count == 45
        np.testing.assert_allclose(found.mean, plain.mean(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.variance, plain.var(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.minimum, plain.min(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.maximum, plain.max(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(found.active, (plain > 0).mean(0))
        np.testing.assert_array_equal(found.dead, plain.max(0) <= 0)
        assert (found.counts.sum(1) == 45).all()
        means, counts = classes.result()[layer]
        assert counts.tolist() == [sum(label == c for label in labels) for c in range(4)]
        for c in range(4):
            chosen = plain[[i for i, label in enumerate(labels) if label == c]]
            np.testing.assert_allclose(means[c], chosen.mean(0), rtol=1e-5, atol=1e-5)
    assert peaks.result()["relu1"].dead.tolist()[:3] == [False, True, False]


def test_class_means_follow_the_predictions_where_images_have_no_labels() -> None:
    net, images = tiny_network(), tiny_images()
    classes = ClassMeans()
    sweep(net, images, {"classes": classes}, layers=["block"])
    expected = outputs(net, images)
    predicted = expected[LOGITS].argmax(1)
    assert len(set(predicted.tolist())) > 1
    assert list(classes.result()) == ["block"]
    means, counts = classes.result()["block"]
    assert len(counts) == 7
    for c in range(7):
        chosen = plain_peaks(expected["block"])[predicted == c].astype(np.float64)
        assert counts[c] == len(chosen)
        np.testing.assert_allclose(means[c], chosen.mean(0) if len(chosen) else [np.nan] * 5, rtol=1e-12)


def test_features_and_predictions_match_the_network() -> None:
    net, images = tiny_network(), tiny_images(20)
    features, predictions = Features("block"), Predictions()
    sweep(net, images, {"f": features, "p": predictions})
    expected = outputs(net, images)
    ids, vectors = features.result()
    assert ids.tolist() == list(range(20))
    np.testing.assert_allclose(vectors, expected["block"].mean((2, 3)), rtol=1e-6)
    found = predictions.result()
    assert found.classes.shape == (20, 5)
    for i in range(20):
        logits = expected[LOGITS][i].astype(np.float64)
        order = sorted(range(7), key=lambda c: (-logits[c], c))[:5]
        assert found.classes[i].tolist() == order
        shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        np.testing.assert_allclose(found.probabilities[i], shares[order], rtol=1e-6, atol=1e-30)


def test_any_batch_size_gives_the_same_bits() -> None:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Conv2d(3, 24, 5), nn.ReLU(), nn.Conv2d(24, 40, 3), nn.Flatten(), nn.Linear(160, 10))
    net = Network(module, InputSpec(size=(SIDE, SIDE)))
    source = source_of(noise(53), broken=[4, 17, 18])
    found = []
    for batch_size in (1, 7, 32, 100):
        accumulators = {**all_accumulators(), "features": Features("2")}
        sweep(net, source, accumulators, batch_size=batch_size)
        found.append(flat_results(accumulators))
    for other in found[1:]:
        assert_equal_results(found[0], other)


def test_repeated_images_tie_exactly_and_the_smaller_id_wins() -> None:
    torch.manual_seed(5)
    net = Network(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3)), InputSpec(size=(SIDE, SIDE)))
    images = torch.rand(11, 3, SIDE, SIDE).repeat(4, 1, 1, 1)
    top = Strongest(4)
    sweep(net, images, {"top": top}, layers=["0", "2"])
    for found in top.result().values():
        values, ids = found.values.numpy(), found.images.numpy()
        assert (values == values[:, :1]).all()
        assert (np.diff(ids, axis=1) == 11).all()


def halves(seed: int) -> tuple[dict, dict]:
    """What a whole data set gives at once, and what two halves of shuffled batches give when merged."""
    net, images = tiny_network(), tiny_images(60)
    whole = all_accumulators()
    sweep(net, images, whole)
    parts = [all_accumulators(), all_accumulators()]
    order = np.random.default_rng(seed).permutation(60)
    maps = net.activations(images, [*net.layers, LOGITS])
    for part, ids in zip(parts, np.split(order, 2), strict=True):
        wanted = {name: a.reads(list(net.layers), False) for name, a in part.items()}
        for batch in np.array_split(ids, 4):
            for layer, output in maps.items():
                seen = Maps(output[torch.from_numpy(batch)], batch, np.full(len(batch), -1))
                for name, accumulator in part.items():
                    if layer in wanted[name]:
                        accumulator.update(layer, seen)
            for accumulator in part.values():
                accumulator.end_batch()
    first, second = parts if seed % 2 else parts[::-1]
    for name, accumulator in first.items():
        accumulator.merge(second[name])
    return flat_results(whole), flat_results(first)


@pytest.mark.parametrize("seed", range(4))
def test_merged_halves_in_any_order_equal_the_whole(seed: int) -> None:
    whole, merged = halves(seed)
    assert_equal_results(whole, merged, tolerance=1e-9)


def test_merging_into_an_empty_accumulator_copies() -> None:
    net, images = tiny_network(), tiny_images(20)
    whole, empty = all_accumulators(), all_accumulators()
    sweep(net, images, whole)
    for name, accumulator in empty.items():
        accumulator.merge(whole[name])
        accumulator.merge(all_accumulators()[name])
    assert_equal_results(flat_results(whole), flat_results(empty))


def test_accumulators_that_differ_are_not_merged() -> None:
    net, images = tiny_network(), tiny_images(4)
    with pytest.raises(InputError, match="can't be merged"):
        Strongest(3).merge(Strongest(4))
    with pytest.raises(InputError, match="can't be merged"):
        Features("fc").merge(Features("block"))
    one, other = Peaks(), Peaks()
    sweep(net, images, {"a": one}, layers=["conv1"])
    sweep(net, images, {"a": other}, layers=["fc"])
    with pytest.raises(InputError, match=r"\['conv1'\] can't be merged with \['fc'\]"):
        one.merge(other)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_a_sweep_is_the_ordered_merge_of_its_shards(monkeypatch: pytest.MonkeyPatch, order: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Conv2d(3, 24, 5), nn.ReLU(), nn.Conv2d(24, 40, 3), nn.Flatten(), nn.Linear(160, 10))
    net = Network(module, InputSpec(size=(SIDE, SIDE)))
    source = source_of(noise(53), broken=[4, 17, 18])
    monkeypatch.setattr(blocks, "_BLOCK", {"cpu": 4})
    monkeypatch.setattr(engine, "BLOCKS", 4)
    accumulators = {**all_accumulators(), "features": Features("2"), "responses": Responses(3, seed=5)}
    whole = {name: make(json.loads(json.dumps(a.spec()))) for name, a in accumulators.items()}
    sweep(net, source, whole)
    shards: dict[int, dict[str, Accumulator]] = {}
    for number in order:  # each read by itself, in whatever order, from what can be sent to another process
        shards[number] = {name: make(json.loads(json.dumps(a.spec()))) for name, a in accumulators.items()}
        data = DataSet(net, source)
        run = engine.Pass(net, data, list(net.layers), list(shards[number].values()), True)
        for block in data.blocks(16 * number, min(16 * (number + 1), len(data)), 7):
            run(block)
    merged = {name: make(a.spec()) for name, a in accumulators.items()}
    for number in sorted(shards):
        for name, accumulator in merged.items():
            sent = make(accumulator.spec())
            sent.load(shards[number][name].state())
            accumulator.merge(sent)
    assert_equal_results(flat_results(whole), flat_results(merged))
    monkeypatch.undo()
    unsharded = {name: a.fresh() for name, a in accumulators.items()}
    monkeypatch.setattr(blocks, "_BLOCK", {"cpu": 4})
    sweep(net, source, unsharded)
    assert_equal_results(flat_results(unsharded), flat_results(whole), tolerance=1e-9)


@pytest.mark.parametrize("per_photograph", [None, 1, 2])
def test_later_shards_pass_over_what_earlier_ones_beat(
    monkeypatch: pytest.MonkeyPatch, per_photograph: int | None
) -> None:
    net, count = tiny_network(), 90
    pixels = (tiny_images(count) * 16).numpy().round().astype(np.uint8).transpose(0, 2, 3, 1) * 15
    source = source_of(pixels, photographs=[i % 11 for i in range(count)])  # with many ties
    once, in_shards = (Strongest(4, per_photograph=per_photograph) for _ in range(2))
    sweep(net, source, {"top": once})
    looked: list[int] = []
    places = Maps.places

    def counted(self: Maps, which: np.ndarray) -> np.ndarray:
        looked[-1] += len(which)
        return places(self, which)

    monkeypatch.setattr(blocks, "_BLOCK", {"cpu": 4})
    monkeypatch.setattr(engine, "BLOCKS", 2)
    monkeypatch.setattr(Maps, "places", counted)
    looked.append(0)
    sweep(net, source, {"top": in_shards})
    assert_equal_results(flat_results({"top": once}), flat_results({"top": in_shards}))
    looked.append(0)
    monkeypatch.setattr(Strongest, "sequel", Strongest.fresh)
    sweep(net, source, {"top": Strongest(4, per_photograph=per_photograph)})
    assert looked[0] < 0.6 * looked[1], "they look at as much as shards that know of no other"


def test_asking_what_is_read_changes_nothing() -> None:
    net, images = tiny_network(), tiny_images(20)
    asked, plain = all_accumulators(), all_accumulators()
    for labeled in (True, False, True):
        assert {name: a.reads(["fc"], labeled) for name, a in asked.items()}
    sweep(net, images, plain)
    run = engine.Pass(net, DataSet(net, images), list(net.layers), list(asked.values()), True)
    for accumulator in asked.values():
        accumulator.reads(["fc"], True)
    for block in DataSet(net, images).blocks(0, len(images), 32):
        run(block)
    assert_equal_results(flat_results(plain), flat_results(asked))


def test_a_non_finite_activation_is_an_error_that_names_it() -> None:
    net = tiny_network()
    images = tiny_images(20)
    with torch.no_grad():
        net.module.block[0].weight[3] = 3e38
    with pytest.raises(NetworkError, match=r"tiny: activation -?(inf|nan) in layer 'block.0', channel 3, for image 0"):
        sweep(net, images, {"top": Strongest()})
    assert not any(m._forward_hooks for m in net.module.modules())
    with torch.no_grad():
        net.module.block[0].weight[3] = 0
        net.module.fc.bias[6] = float("nan")
    with pytest.raises(NetworkError, match="activation nan in the answer, number 6"):
        sweep(net, images, {"predictions": Predictions()})
    assert sweep(net, images, {"top": Strongest()}, layers=["conv1"]).images == 20


class NoLogits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


def test_logits_are_needed_only_by_those_who_read_them() -> None:
    net, images = Network(NoLogits(), InputSpec(size=(SIDE, SIDE))), tiny_images(3)
    assert sweep(net, images, {"top": Strongest(), "peaks": Peaks()}).images == 3
    with pytest.raises(NetworkError, match="no logits"):
        sweep(net, images, {"predictions": Predictions()})


def test_broken_images_are_left_out_and_named() -> None:
    net, pixels, broken = tiny_network(), noise(40), [0, 16, 17, 39]
    accumulators = all_accumulators()
    watch = Recorder()
    report = sweep(net, source_of(pixels, broken=broken), accumulators, watch=watch)
    assert report.images == 36
    assert [(s.id, s.name, s.reason) for s in report.skipped] == [
        (i, f"image-{i}.png", f"image-{i}.png: not an image") for i in broken
    ]
    assert watch.told[-1] == ("images", 40, 40)
    good = [i for i in range(40) if i not in broken]
    assert accumulators["features"].result().ids.tolist() == good
    assert accumulators["peaks"].result()["conv1"].count == 36
    whole = Strongest(40)
    sweep(net, source_of(pixels, broken=broken), {"top": whole}, layers=["conv1"])
    assert sorted(whole.result()["conv1"].images[0].tolist()) == [-1] * 4 + good


def test_nothing_readable_gives_empty_results() -> None:
    accumulators = all_accumulators()
    report = sweep(tiny_network(), source_of(noise(3), broken=[0, 1, 2]), accumulators)
    assert report.images == 0
    assert len(report.skipped) == 3
    assert [len(accumulators[name].result()) for name in ("patches", "peaks", "classes")] == [0, 0, 0]
    assert len(accumulators["features"].result().ids) == len(accumulators["predictions"].result().ids) == 0


def test_a_network_is_left_as_it_was() -> None:
    net = tiny_network()
    net.module.train()
    sweep(net, tiny_images(5), all_accumulators())
    assert all(m.training for m in net.module.modules())
    assert not any(m._forward_hooks for m in net.module.modules())


def test_bad_arguments() -> None:
    net, images = tiny_network(), tiny_images(3)
    with pytest.raises(UnknownName, match="did you mean 'conv1'"):
        sweep(net, images, {"top": Strongest()}, layers=["conv"])
    with pytest.raises(InputError, match="batch size 0"):
        sweep(net, images, {"top": Strongest()}, batch_size=0)
    with pytest.raises(InputError, match="k is 0"):
        Strongest(0)
    with pytest.raises(InputError, match="accepted: \\[0, 1\\]"):
        sweep(net, images * 255, {"top": Strongest()})
    with pytest.raises(InputError, match="of shape"):
        sweep(net, images[:, :1], {"top": Strongest()})

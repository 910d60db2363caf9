"""Explanations: the maps are the methods', the figures of trust are what they say, and the page shows all of it."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from atlas_helpers import tiny_network, write_photos
from netloupe import objectives as obj
from netloupe.analysis.explain.evidence import Curves, ExplainedBy
from netloupe.analysis.explain.measure import explain
from netloupe.analysis.explain.record import Explanation
from netloupe.analysis.explain.target import find_target
from netloupe.analysis.explain.task import Explain
from netloupe.analysis.explain.words import likeness, on_curves, on_random, on_rival, score
from netloupe.analysis.fidelity import area, deletion, insertion, randomized
from netloupe.analysis.methods import METHODS
from netloupe.cli import app as cli
from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.data.images import load_image

PHOTO = np.full((48, 64, 3), 120, dtype=np.uint8)

OF_ATTENTION = {"last_attention", "rollout", "relevance", "legrad"}
OTHERS = [name for name in METHODS if name not in OF_ATTENTION]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    folder = write_photos(tmp_path_factory.mktemp("photos"), 1)
    return load_image(folder / "p00.png", (24, 32))


@pytest.fixture(scope="module")
def whole(image: Tensor) -> Explanation:
    """Every method, of the most probable class of a tiny network."""
    return explain(tiny_network(), image)


def test_every_method_is_there_with_its_own_attribution(whole: Explanation, image: Tensor) -> None:
    net = tiny_network()
    top = int(net(image[None]).argmax())
    assert [*whole.maps, *whole.skipped] == list(METHODS)
    assert set(whole.skipped) == OF_ATTENTION
    for name in whole.maps:
        method = METHODS[name]
        raw = method.attribution(net, image[None], obj.logit(top)).detach()
        assert float(raw.abs().max()) > 0
        assert np.allclose(whole[name].attribution, raw[0], atol=1e-6)
        assert np.allclose(whole[name].importance, method.importance(raw)[0], atol=1e-6)
        y, x = whole[name].peak or (-1, -1)
        assert whole[name].importance[y, x] == whole[name].importance.max()


def test_predictions_come_best_first(whole: Explanation, image: Tensor) -> None:
    expected = tiny_network()(image[None])[0].softmax(0).detach().numpy()
    assert [one.index for one in whole.predictions] == list(np.argsort(-expected))
    assert [one.probability for one in whole.predictions] == pytest.approx(sorted(expected, reverse=True))
    assert whole.target.title == whole.predictions[0].label
    assert whole.target.rival_title == whole.predictions[1].label


def test_the_figures_of_trust_are_what_they_say(whole: Explanation, image: Tensor) -> None:
    net = tiny_network()
    top, second = (one.index for one in whole.predictions[:2])
    random = randomized(net, seed=0)
    for name in ("gradient", "occlusion"):
        method, own = METHODS[name], np.abs(whole[name].importance).ravel()
        for network, index, found in (
            (net, second, whole[name].class_likeness),
            (random, top, whole[name].random_likeness),
        ):
            other = method.importance(method.attribution(network, image[None], obj.logit(index)))
            assert found == pytest.approx(spearmanr(own, other.abs().flatten()).statistic, abs=1e-6)
            assert found is not None
            assert abs(found) < 0.999
        importance = torch.from_numpy(whole[name].importance)[None]
        curves = whole[name].curves
        assert curves is not None
        for way, curve, size in zip(
            (deletion, insertion), (curves.deletion, curves.insertion), curves.areas, strict=True
        ):
            expected = way(net, image[None], obj.probability(top), importance)
            assert np.allclose(curve, expected[0], atol=1e-6)
            assert size == pytest.approx(float(area(expected)), abs=1e-6)


def test_a_random_order_stands_beside(whole: Explanation, image: Tensor) -> None:
    net, top = tiny_network(), whole.predictions[0].index
    expected = deletion(net, image[None], obj.probability(top), torch.zeros(1, 24, 32))
    assert np.allclose(whole.by_chance.deletion, expected[0], atol=1e-6)


def test_the_seed_draws_the_random_weights(image: Tensor) -> None:
    first, again, other = (
        explain(tiny_network(), image, methods=["gradient"], seed=seed)["gradient"].random_likeness
        for seed in (1, 1, 2)
    )
    assert first == again != other


# --- what is explained


@pytest.mark.parametrize(
    ("given", "title", "rival", "kind"),
    [
        ("class:dog", "dog", obj.logit, "class"),
        (obj.probability("dog"), "dog", obj.probability, "class"),
        (obj.logit(1), "dog", obj.logit, "class"),
    ],
)
def test_the_rival_of_a_class(given: Any, title: str, rival: Any, kind: str, image: Tensor) -> None:
    net = tiny_network()
    order = [i for i in net(image[None])[0].argsort(descending=True).tolist() if i != 1]
    found = find_target(net, image[None], given)
    assert (found.title, found.kind) == (title, kind)
    assert repr(found.rival) == repr(rival(order[0]))
    assert found.rival_title == net.head.label(order[0])
    expected = float(net(image[None]).softmax(1)[0, 1].detach())
    assert float(net.read(image[None], found.curve).detach()) == pytest.approx(expected)


@pytest.mark.parametrize("given", ["conv2:5", "conv2:5@3,4", obj.neuron("conv2", 5), obj.channel("conv2", 5)])
def test_the_rival_of_a_unit_is_the_strongest_other_channel_there(given: Any, image: Tensor) -> None:
    net = tiny_network()
    maps = net.activations(image[None], ["conv2"])["conv2"][0]
    text = repr(obj.as_objective(given))
    if text.startswith("channel"):
        values, place = maps.mean((1, 2)), ""
    else:
        y, x = (3, 4) if "3, 4" in text else (maps.shape[1] // 2, maps.shape[2] // 2)
        values, place = maps[:, y, x], f"@{y},{x}"
    order = [i for i in values.argsort(descending=True).tolist() if i != 5]
    found = find_target(net, image[None], given)
    assert (found.title, found.rival_title) == (f"conv2:5{place}", f"conv2:{order[0]}{place}")
    assert found.kind == "unit"
    assert found.curve is found.objective
    assert found.rival is not None
    assert float(net.read(image[None], found.rival).detach()) == pytest.approx(float(values[order[0]]), abs=1e-6)


def test_the_strongest_unit_is_not_its_own_rival(image: Tensor) -> None:
    net = tiny_network()
    order = net.activations(image[None], ["conv2"])["conv2"][0].mean((1, 2)).argsort(descending=True).tolist()
    assert find_target(net, image[None], f"conv2:{order[0]}").rival_title == f"conv2:{order[1]}"


def test_the_likeness_of_a_neuron_is_over_what_it_sees(image: Tensor) -> None:
    net, at = tiny_network(), "conv1:0@6,9"  # sees 5x5 px: 4 to 9 down, 7 to 12 across
    found = explain(net, image, at, ["integrated_gradients"])
    assert found.target.sees == (4, 7, 9, 12)
    method, rival = METHODS["integrated_gradients"], found.target.rival
    assert rival is not None
    one, other = (method.importance(method.attribution(net, image[None], o))[0].abs() for o in (obj.unit(at), rival))
    outside = one.clone()
    outside[4:9, 7:12] = 0
    assert not outside.any()  # so over the whole image the maps would be alike by their zeros
    expected = spearmanr(one[4:9, 7:12].flatten(), other[4:9, 7:12].flatten()).statistic
    assert found["integrated_gradients"].class_likeness == pytest.approx(expected, abs=1e-6)
    assert abs(expected) < 0.9 < spearmanr(one.flatten(), other.flatten()).statistic


def test_a_sum_of_objectives_has_no_rival(image: Tensor) -> None:
    found = explain(tiny_network(), image, obj.logit("dog") - 0.5 * obj.logit("cat"), ["gradient"])
    assert found.target.kind == "objective"
    assert found["gradient"].class_likeness is None
    assert found.summary()["rival"] is None
    assert on_rival(found["gradient"], found.target).startswith("No other class")
    assert found.pictures()["explain"].ndim == 3


def test_a_single_class_or_channel_has_no_rival() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 1))
    net = Network(module, InputSpec((8, 8)), head="classes")
    image = torch.rand(1, 3, 8, 8)
    assert find_target(net, image, None).rival is None
    assert find_target(net, image, "0:0").rival is None


def test_a_dead_unit_is_zero_everywhere(image: Tensor, tmp_path: Path) -> None:
    found = explain(tiny_network(), image, "conv1:2", ["gradient", "integrated_gradients"])
    for one in found.maps.values():
        assert one.zero
        assert (one.class_likeness, one.random_likeness, one.curves, one.peak) == (None, None, None, None)
    assert found.object is None
    assert "0 everywhere" in found.no_object
    found.save(tmp_path)
    page = (tmp_path / "explain.html").read_text()
    assert "Zero everywhere" in page
    assert "no pixel stands out" in page
    assert not (tmp_path / "object-mask.npy").exists()


# --- networks that a method can't explain


def without_relu() -> Network:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return Network(body, InputSpec((16, 16)), name="smooth")


def test_methods_that_cannot_explain_the_network_are_left_out_and_named() -> None:
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = explain(without_relu(), image)
    assert set(found.skipped) == {"guided_backprop", "deconvnet", "guided_grad_cam"} | OF_ATTENTION
    assert set(found.maps) == set(METHODS) - set(found.skipped)
    assert "finds no ReLU" in found.documents()["explain.html"]
    assert found.summary()["skipped"]["deconvnet"] == found.skipped["deconvnet"]


def test_a_method_asked_for_that_cannot_explain_the_network_is_an_error() -> None:
    with pytest.raises(NetworkError, match="finds no ReLU"):
        explain(without_relu(), torch.rand(3, 16, 16), methods=["gradient", "guided_backprop"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"methods": ["gradcam"]}, UnknownName, "no method 'gradcam'; did you mean 'grad_cam'"),
        ({"methods": []}, InputError, "no method given"),
        ({"objective": "class:dgo"}, UnknownName, "did you mean 'dog'"),
        ({"objective": "conv9:1"}, UnknownName, "did you mean 'conv"),
        ({"objective": "conv2:70"}, UnknownName, "accepted: 0 to 69"),
        ({"objective": "conv2:5@99,0"}, UnknownName, r"no position \(99, 0\)"),
        ({"objective": 5}, InputError, "objective 5"),
        ({"image": torch.rand(2, 3, 24, 32)}, InputError, "2 images"),
        ({"image": torch.rand(24, 32)}, InputError, "accepted"),
        ({"image": torch.full((3, 24, 32), 9.0)}, InputError, "accepted"),
        ({"steps": 0}, InputError, "steps 0"),
    ],
)
def test_mistakes(change: dict[str, Any], error: type[Exception], message: str, image: Tensor) -> None:
    with pytest.raises(error, match=message):
        explain(tiny_network(), **({"image": image, "methods": ["gradient"]} | change))


def test_every_method_can_be_asked_for() -> None:
    assert Explain.setting("methods").choices == tuple(METHODS)


def test_a_method_that_was_not_asked_for(image: Tensor) -> None:
    found = explain(tiny_network(), image, methods=["gradient"])
    with pytest.raises(UnknownName, match="no method 'occlusion'"):
        found["occlusion"]


# --- words


def one_with(
    class_likeness: float | None = 0.1, random_likeness: float | None = 0.1, deletion: Any = None
) -> ExplainedBy:
    curves = None if deletion is None else Curves(np.array(deletion), np.array(deletion[::-1]))
    importance = np.eye(4, dtype=np.float32)
    return ExplainedBy(METHODS["gradient"], importance, importance, class_likeness, random_likeness, curves)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.97, "Nearly the same map for cat: it does not tell the two classes apart"),
        (0.7, "Much the same map for cat: it hardly tells the two classes apart"),
        (0.5, "Partly the same map for cat"),
        (0.1, "A different map for cat"),
        (-0.9, "A different map for cat"),
        (None, "Can't be compared: for cat it gives no map"),
    ],
)
def test_words_on_the_rival(value: float | None, words: str, image: Tensor) -> None:
    target = find_target(tiny_network(), image[None], "class:dog")
    found = on_rival(one_with(class_likeness=value), target)
    assert found.replace(target.rival_title, "cat") == f"{words}."


@pytest.mark.parametrize(
    ("value", "words"), [(0.8, "Much the same"), (0.5, "Partly"), (0.1, "different"), (None, "no map")]
)
def test_words_on_random_weights(value: float | None, words: str) -> None:
    assert words in on_random(one_with(random_likeness=value))


def test_words_on_curves() -> None:
    chance = Curves(np.array([1.0, 0.5, 0.0]), np.array([0.0, 0.5, 1.0]))
    assert (
        on_curves(one_with(deletion=[1.0, 0.0, 0.0]), chance)
        == "Better than pixels in a random order at deletion only."
    )
    assert "No better" in on_curves(one_with(deletion=[1.0, 0.5, 0.0]), chance)
    assert "at insertion only" in on_curves(one_with(deletion=[1.0, 0.9, 0.0]), chance)
    assert "no order" in on_curves(one_with(), chance)
    assert (likeness(0.987), likeness(None), score(0.12345), score(1234.56)) == ("0.99", "none", "0.123", "1235")


# --- what is written


class Page(HTMLParser):
    """Tags that are open, every picture, and all addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)
        if tag == "img":
            self.pictures.append(given)
        self.addresses += [value for key, value in given.items() if key in ("src", "href") and value is not None]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(whole: Explanation) -> None:
    text = whole.documents()["explain.html"]
    page = Page(text)
    assert page.open == []
    assert all(address.startswith("data:") for address in page.addresses)
    assert not re.search(r"https?:|<script|@import", text)
    assert set(re.findall(r"url\((data:)?", text)) == {"data:"}
    assert len(page.pictures) == 2 + 2 + sum(3 if one.attribution.ndim == 3 else 2 for one in whole.maps.values())
    assert (
        sum(picture["alt"] != "" for picture in page.pictures) == len(page.pictures) - 2
    )  # the color bars say nothing
    for method in (METHODS[name] for name in OTHERS):
        assert f"<h2>{method.title}</h2>" in text
    for one in whole.maps.values():
        assert likeness(one.class_likeness) in text


def test_labels_are_text_not_markup(image: Tensor) -> None:
    text = explain(tiny_network(), image, "class:2", ["gradient"]).documents()["explain.html"]
    assert "&lt;b&gt;&#39;owl&#39;&lt;/b&gt;" in text
    assert "<b>" not in text


def test_saving_writes_the_figure_the_page_the_arrays_and_the_manifest(whole: Explanation, tmp_path: Path) -> None:
    names = [path.name for path in whole.save(tmp_path)]
    assert names[0] == "explain.png"
    assert names[-2:] == ["explain.html", "manifest.json"]
    for name in OTHERS:
        assert np.array_equal(np.load(tmp_path / f"{name}.npy"), whole[name].attribution)
    assert np.load(tmp_path / "object-mask.npy").dtype == bool
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["summary"]["methods"].keys() == set(OTHERS)
    assert manifest["summary"]["objective"] == "logit(1)"
    assert manifest["files"] == names[:-1]


def test_the_photograph_may_be_larger_than_the_input(image: Tensor) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    found = explain(tiny_network(), image, methods=["gradient"], photo=photo)
    assert found.object is None or found.object.mask.shape == (96, 128)
    assert found["gradient"].importance.shape == (24, 32)


def test_networks_for_gray_images() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    found = explain(Network(module, InputSpec((20, 20), channels=1)), torch.rand(1, 20, 20))
    assert [*found.maps, *found.skipped] == list(METHODS)
    assert found["gradient"].attribution.shape == (1, 20, 20)
    assert Page(found.documents()["explain.html"]).open == []


# --- the command


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "tiny.py").write_text(
        "from torch import nn\n\ndef tiny():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), "
        "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))\n"
    )
    write_photos(tmp_path, 1)
    model = ["--model", f"{tmp_path / 'tiny.py'}:tiny", "--size", "16", "--device", "cpu"]
    return ["explain", str(tmp_path / "p00.png"), *model]


def test_the_command_prints_a_table(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command, "--class", "1"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[0] == "explained: 1"
    assert [line.split()[0] for line in out.splitlines()[4:]] == [
        *OTHERS, "random", "grad_cam", "guided_grad_cam", "left",
    ]  # fmt: skip


def test_the_command_writes_and_prints_json(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        *command,
        "--unit",
        "0:2",
        "-m",
        "gradient, occlusion",
        "-m",
        "smooth_grad",
        "--json",
        "-o",
        tmp_path / "out",
    ]
    assert cli.main([str(part) for part in given]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["target"] == "0:2"
    assert list(found["methods"]) == ["gradient", "occlusion", "smooth_grad"]
    assert sorted(found["files"]) == sorted(str(path) for path in (tmp_path / "out").iterdir())
    assert str(tmp_path / "out" / "explain.html") in found["files"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--class", "1", "--unit", "0:2"], "--class and --unit were given (accepted: one of"),
        (["--objective", "l2()", "--unit", "0:2"], "--unit and --objective were given (accepted: one of"),
        (["--objective", "logit(1) - lgit(2)"], "no objective 'lgit'; did you mean 'logit'?"),
        (["--objective", "logit(9)"], "no class 9 (accepted: 0 to 2)"),
        (["-m", "gradient,gradcam"], "did you mean 'grad_cam'?"),
        (["-m", ""], "no method"),
        (["--class", "9"], "no class 9 (accepted: 0 to 2)"),
        (["--unit", "0:9"], "accepted: 0 to 3"),
        (["--unit", "conv:1"], "no layer 'conv'"),
    ],
)
def test_mistakes_on_the_command_line(
    given: list[str], message: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, *given]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_images_with_transparency_or_one_channel(command: list[str], tmp_path: Path) -> None:
    from PIL import Image

    values = np.random.default_rng(0).integers(0, 256, (20, 24, 4), dtype=np.uint8)
    for name, picture in (("clear", Image.fromarray(values)), ("gray", Image.fromarray(values[..., 0]))):
        picture.save(tmp_path / f"{name}.png")
        assert cli.main([command[0], str(tmp_path / f"{name}.png"), *command[2:], "-m", "gradient"]) == 0


def test_the_page_fits_a_phone_and_shows_the_photograph_beneath(whole: Explanation, tmp_path: Path) -> None:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("Chromium or its driver is not installed")
    whole.save(tmp_path)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        papers = set()
        for scheme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            metrics = {"width": 390, "height": 740, "deviceScaleFactor": 1, "mobile": True}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            browser.get(f"file://{tmp_path / 'explain.html'}")
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
            papers.add(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
        assert len(papers) == 2
        beneath = "return getComputedStyle(document.querySelector('.peek')).backgroundImage"
        assert browser.execute_script(beneath).startswith('url("data:image/jpeg')
        assert browser.execute_script("return [...document.images].every(image => image.naturalWidth > 0)")
    finally:
        browser.quit()

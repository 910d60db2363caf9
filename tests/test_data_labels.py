"""The digits, and whether the labels of a source are the classes of a network."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from netloupe.core.errors import InputError
from netloupe.data.labels import check_same, class_names, of_network, required
from netloupe.data.open import open_source
from netloupe.data.sources import ImageSource


def source(labels: list[int | None] | None, classes: list[str] | None = None) -> ImageSource:
    return ImageSource("made", [str(i) for i in range(3)], lambda i: pytest.fail("no image is opened"), labels, classes)


def test_digits_are_those_of_scikit_learn() -> None:
    found, data = open_source("digits"), load_digits()
    assert len(found) == len(data.images) == 1797
    assert [found.label(i) for i in range(len(found))] == data.target.tolist()
    for i in (0, 7, 1796):
        image = np.asarray(found.open(i))
        assert image.shape == (32, 32)
        np.testing.assert_allclose(image[1::4, 2::4] * (16 / 255), data.images[i], atol=16 / 255)
        assert image.max() == 255 * data.images[i].max() // 16
        assert found.names[i].endswith(f"-{data.target[i]}")


def test_class_names() -> None:
    assert class_names(source(None)) is None
    assert class_names(source([None, None, None])) is None
    assert class_names(source([0, 2, None])) == ["0", "1", "2"]
    assert class_names(source([0, 0, 1], ["cat", "dog"])) == ["cat", "dog"]


def test_labels_of_a_network() -> None:
    assert of_network(source([0, 1, 1], ["cat", "dog"]), ["cat", "dog"])
    assert not of_network(source([0, 1, 1], ["dog", "cat"]), ["cat", "dog"])
    assert not of_network(source([0, 0, 1], ["cat", "dog"]), ["cat", "dog", "koala"])
    assert of_network(source([0, 2, None]), ["cat", "dog", "koala"])  # by its word
    assert not of_network(source([0, 3, None]), ["cat", "dog", "koala"])
    assert not of_network(source(None), ["cat", "dog"])


def test_labels_can_be_required() -> None:
    assert required(source([1, 0, 1], ["cat", "dog"]), "an audit") == ["cat", "dog"]
    with pytest.raises(InputError, match="'made' has no labels, which an audit needs"):
        required(source(None), "an audit")


def test_classes_of_two_sources_are_the_same_by_name_or_index() -> None:
    one = source([0, 1], ["cat", "dog"])
    check_same(one, source([0, 1], ["cat", "1"]))
    check_same(one, source([0, 1]))
    with pytest.raises(InputError, match="class 1 is 'dog' in 'made', but '0' in 'made'"):
        check_same(one, source([0, 1], ["cat", "0"]))

"""What is in the image, and what isn't."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.figures import Figures
from tests.support.image import VIRTUAL_ENVIRONMENT, Image, ImageStore, megabytes


@pytest.fixture(scope="module")
def files(images: ImageStore, image: Image) -> Iterator[Path]:
    """The image's root folder."""
    with images.files(image.name) as files:
        yield files


def test_it_weighs_no_more_than_we_say(images: ImageStore, image: Image, files: Path, figures: Figures) -> None:
    environment = files / VIRTUAL_ENVIRONMENT
    figures.add("the image, unpacked", megabytes(files), "MB")
    figures.add("  of that the virtual environment", megabytes(environment), "MB")
    figures.add("  of that compiled code", megabytes(environment / "pycache"), "MB")
    figures.add("the image as it is pulled", megabytes(image.archive), "MB")
    assert megabytes(files) < 260
    assert megabytes(image.archive) < 80


def test_it_runs_as_nobody_in_particular_and_ends_by_sigterm(images: ImageStore, image: Image) -> None:
    settings = json.loads(images.configuration(image.name))["config"]

    assert settings["User"] == "65532:65532"
    assert settings["StopSignal"] == "SIGTERM"
    assert settings["Labels"]["org.opencontainers.image.version"] == image.tag


def test_nothing_of_this_machine_is_in_it(images: ImageStore, image: Image, files: Path) -> None:
    settings = json.loads(images.configuration(image.name))["config"]

    assert not any("PIP" in variable for variable in settings["Env"])
    assert list((files / "root").rglob("*pip*")) == []


def test_the_virtual_environment_has_no_pip_no_build_tool_and_no_tests(files: Path) -> None:
    environment = files / VIRTUAL_ENVIRONMENT
    (packages,) = environment.glob("lib/python3*/site-packages")

    assert not {path.name for path in packages.iterdir()} & {"pip", "setuptools", "wheel", "hatchling"}
    assert not any(path.is_dir() for path in packages.rglob("tests"))
    assert not any(packages.rglob("__pycache__"))

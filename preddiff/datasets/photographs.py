"""Photographs that come with scikit-image and scikit-learn: files and a sheet of them."""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

import pandas as pd
from PIL import ImageOps
from pydantic import Field, field_validator, model_validator

from preddiff.datasets.base import DATASETS, DatasetSettings
from preddiff.datasets.imagenet import imagenet_classes
from preddiff.datasets.images import ImageSet
from preddiff.datasets.pictures import opened
from preddiff.errors import InputError
from preddiff.settings.base import Settings
from preddiff.storage.files import write_atomically
from preddiff.storage.writers import write_tsv

_INSTALL = "pip install -e '.[demo]'"
_SHEET, _CLASSES = "photographs.tsv", "classes.txt"
_LOSSLESS = ".png"

PhotographName = Literal["chelsea", "coffee", "rocket", "astronaut", "china", "flower"]
_NAMES: tuple[PhotographName, ...] = get_args(PhotographName)


@dataclass(frozen=True)
class Photograph:
    """A photograph of a Python package.

    Attributes
    ----------
    package : str
        Name that the package is imported by.
    file : str
        Path within the package.
    label : str
        Class of ImageNet that shows the same, or the nearest; "" if there is none.
    licence, author : str
    """

    package: str
    file: str
    label: str
    licence: str
    author: str


_SKLEARN = "datasets/images"
PHOTOGRAPHS: dict[PhotographName, Photograph] = {
    "chelsea": Photograph("skimage", "data/chelsea.png", "tabby", "CC0", "Stefan van der Walt"),
    "coffee": Photograph("skimage", "data/coffee.png", "espresso", "CC0", "Rachel Michetti"),
    "rocket": Photograph("skimage", "data/rocket.jpg", "missile", "public domain", "SpaceX"),
    "astronaut": Photograph("skimage", "data/astronaut.png", "", "public domain", "NASA"),
    "china": Photograph(
        "sklearn", f"{_SKLEARN}/china.jpg", "palace", "CC BY 2.0", "danielbuechele, Flickr"
    ),
    "flower": Photograph("sklearn", f"{_SKLEARN}/flower.jpg", "", "CC BY 2.0", "vultilion, Flickr"),
}


class PhotographSettings(Settings):
    """Photographs that come with scikit-image and scikit-learn (`preddiff photographs`)."""

    names: Annotated[list[PhotographName], Field(min_length=1)] = Field(
        list(_NAMES),
        description="which ones: chelsea (a cat), coffee, rocket, astronaut, china "
        "(a pavilion), flower; default: all",
    )
    views: Literal["whole", "parts"] = Field(
        "whole",
        description="whole: each photograph as it is; parts: the squares at both ends of its "
        "longer side, each as it is and mirrored, as images that patches are taken from",
    )

    @field_validator("names")
    @classmethod
    def _different(cls, names: list[PhotographName]) -> list[PhotographName]:
        if len(set(names)) < len(names):
            raise ValueError("all names must differ")
        return names


@DATASETS.register
class PhotographSet(DatasetSettings):
    """Photographs that come with scikit-image and scikit-learn, with classes of ImageNet."""

    source: ClassVar[str] = "photographs"
    command: ClassVar[str] = "prepare-images"
    table_command: ClassVar[str | None] = "photographs"
    table_path: ClassVar[str] = f"photographs/{{dataset}}/{_SHEET}"
    dimensions: ClassVar[int] = 2
    needs_geometry: ClassVar[bool] = True

    photographs: PhotographSettings = Field(description="which photographs; {} for all, whole")

    @model_validator(mode="after")
    def _installed(self) -> "PhotographSet":
        problem = _problem(self.photographs.names)
        if problem is not None:
            raise ValueError(problem)
        return self

    @property
    def channels(self) -> int:
        """Red, green and blue."""
        return 3

    @property
    def table_settings(self) -> Settings:
        """Names and views."""
        return self.photographs

    def preparation_with(self, table: Path) -> Settings:
        """Images of the sheet, with the classes of ImageNet."""
        return ImageSet(images=table, classes=table.with_name(_CLASSES))

    def number_of_items(self) -> int:
        """Number of photographs, or of their parts."""
        return len(self.photographs.names) * len(_views(self.photographs.views))


def write_photographs(folder: Path, settings: PhotographSettings) -> Path:
    """Write photographs, a sheet of them, and the names of ImageNet's classes.

    Parameters
    ----------
    folder : Path
    settings : PhotographSettings

    Returns
    -------
    Path
        The sheet, with the columns file, class, licence and author; written last.

    Raises
    ------
    InputError
        If a package is not installed, or has no such photograph.
    """
    problem = _problem(settings.names)
    if problem is not None:
        raise InputError(problem)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in settings.names:
        one = PHOTOGRAPHS[name]
        source = _path(one)
        for view in _views(settings.views):
            file = f"{name}{view.suffix}{_LOSSLESS if view.suffix else source.suffix}"
            _write(source, view, folder / file)
            about = {"class": one.label, "licence": one.licence, "author": one.author}
            rows.append({"file": file, **about})
    with write_atomically(folder / _CLASSES) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in imagenet_classes()))
    sheet = folder / _SHEET
    write_tsv(pd.DataFrame(rows), sheet)
    return sheet


@dataclass(frozen=True)
class _View:
    """A part of a photograph.

    Attributes
    ----------
    suffix : str
        What its name ends in; "" for the whole photograph.
    at_end : bool
        Whether the square is at the right or lower end of the longer side.
    mirrored : bool
        Whether left and right are exchanged.
    """

    suffix: str = ""
    at_end: bool = False
    mirrored: bool = False


def _views(views: Literal["whole", "parts"]) -> tuple[_View, ...]:
    if views == "whole":
        return (_View(),)
    return (
        _View("-first"),
        _View("-first-mirrored", mirrored=True),
        _View("-last", at_end=True),
        _View("-last-mirrored", at_end=True, mirrored=True),
    )


def _write(source: Path, view: _View, path: Path) -> None:
    with opened(source) as image, write_atomically(path) as temporary:
        if not view.suffix:
            shutil.copyfile(source, temporary)
            return
        side = min(image.size)
        left, upper = (n - side if view.at_end else 0 for n in image.size)
        part = image.convert("RGB").crop((left, upper, left + side, upper + side))
        if view.mirrored:
            part = ImageOps.mirror(part)
        part.save(temporary, format="PNG")


def _problem(names: list[PhotographName]) -> str | None:
    """Say which package of some photographs is missing; None if there are all."""
    packages = dict.fromkeys(PHOTOGRAPHS[name].package for name in names)
    missing = [one for one in packages if importlib.util.find_spec(one) is None]
    if not missing:
        return None
    return f"photographs come with {missing[0]}, which is not installed: run {_INSTALL}"


def _path(photograph: Photograph) -> Path:
    # The package is found, not imported, which would take seconds.
    found = importlib.util.find_spec(photograph.package)
    folders = [] if found is None else list(found.submodule_search_locations or [])
    for folder in folders:
        path = Path(folder) / photograph.file
        if path.is_file():
            return path
    raise InputError(
        f"{photograph.package} has no file {photograph.file} in this version: run {_INSTALL} with "
        "`--upgrade`, or leave the photograph out of `names`"
    )

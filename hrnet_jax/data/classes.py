"""What the outputs of a classifier mean: identifiers (of folders, of WordNet) and words."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path

IMAGENET_1K = "imagenet-1k"
_FILE = Path(__file__).with_name("imagenet_classes.tsv")


@functools.cache
def imagenet_words() -> dict[str, str]:
    """{WordNet identifier: words} of the 1000 ImageNet classes, in the order of the outputs."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines if not line.startswith("#"))


def model_classes(metadata: Mapping) -> list[str] | None:
    """Identifiers of a model's outputs, by its metadata; None where they are not known.

    metadata["classes"] is "imagenet-1k" or a list of identifiers.

    Raises:
      HRNetError: it names another number of classes than the network has.
    """
    classes = metadata.get("classes")
    if classes is None:
        return None
    if classes == IMAGENET_1K:
        classes = list(imagenet_words())
    count = metadata["model"]["num_classes"]
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise HRNetError("the metadata's classes are neither 'imagenet-1k' nor a list of names")
    if len(classes) != count:
        raise HRNetError(f"the metadata names {len(classes)} classes: the network has {count}")
    return classes


def words(identifier: str) -> str:
    """The words of a WordNet identifier that ImageNet has; any other name as it is."""
    return imagenet_words().get(identifier, identifier)


def read_names(path: str | Path) -> list[str]:
    """Names of the classes from a text file: one a line, in the order of the outputs.

    Raises:
      HRNetError: unreadable, empty, or with an empty line.
    """
    try:
        names = [line.strip() for line in as_path(path).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise HRNetError(f"cannot read the class names of {path}: {error}") from error
    if not names or not all(names):
        raise HRNetError(f"{path}: give one class name a line, none of them empty")
    return names


def map_labels(found: Sequence[str], known: Sequence[str] | None, count: int, where: str):
    """The output of the network for each class that a data set has.

    By name where the network has all of them (any subset of ImageNet, say); in their order where
    there are as many as outputs.

    Args:
      found: identifiers of the data set's classes.
      known: those of the network's outputs, if known.
      count: the number of outputs.
      where: what to call the data set in an error.

    Raises:
      HRNetError: neither holds.
    """
    if known is not None and set(found) <= set(known):
        places = {name: place for place, name in enumerate(known)}
        return [places[name] for name in found]
    if len(found) == count:
        return list(range(count))
    strange = next(name for name in found if name not in (known or ()))
    raise HRNetError(
        f"{where} has {len(found)} classes and the network {count}, of which none is {strange!r}"
    )

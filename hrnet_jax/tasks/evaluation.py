"""Scoring a checkpoint on a data set: what `hrnet_jax.evaluate` does for each task."""

import dataclasses
import functools

from tqdm import tqdm

import hrnet_jax
from hrnet_jax.checkpoints import load
from hrnet_jax.config import plain
from hrnet_jax.data.classes import model_classes
from hrnet_jax.data.pictures import open_split as open_pictures
from hrnet_jax.data.preprocessing import Preprocessing
from hrnet_jax.data.sources import describe_split, open_split
from hrnet_jax.devices import Devices, is_first_process
from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation.boxes import describe_boxes, with_boxes
from hrnet_jax.evaluation.classification import (
    PictureRun,
    classify_pictures,
    write_pictures,
)
from hrnet_jax.evaluation.landmarks import Averaging, predict_averaged
from hrnet_jax.evaluation.report import write_report
from hrnet_jax.evaluation.scoring import Run, write_results
from hrnet_jax.files import as_path
from hrnet_jax.inference.detector import make_detector
from hrnet_jax.inference.forward import make_classify, make_forward
from hrnet_jax.models import describe_model, model_head, model_names
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import get_scheme
from hrnet_jax.tasks.landmarks import build_model
from hrnet_jax.tasks.settings import compute_dtype

LANDMARKS_ONLY = {  # and what they are where nobody asks for anything
    "flip_test": None,
    "flip_offset": None,
    "scales": (1.0,),
    "normaliser": None,
    "auc": "trapezoid",
    "box": "landmarks",
    "box_jitter": 0.0,
    "detector": "haar",
}


def evaluate_landmarks(
    config,
    checkpoint,
    *,
    split,
    protocol,
    output,
    flip_test,
    flip_offset,
    scales,
    normaliser,
    auc,
    box,
    box_jitter,
    detector,
    parts,
    allow_import,
) -> Run | None:
    """`hrnet_jax.evaluate` of a landmark network."""
    devices = Devices()
    loaded = load(checkpoint, compute_dtype(config), parts=parts, allow_import=allow_import)
    scheme = get_scheme(config.scheme)
    check_model(checkpoint, loaded.metadata["model"], describe_model(build_model(config, scheme)))
    stored = loaded.metadata["protocol"] if protocol == "checkpoint" else None
    # A config's own texts may be imported, those of a file not.
    allow = tuple(allow_import) if stored else True
    protocol = Protocol.from_dict(stored or plain(config.protocol), allow=allow)
    if flip_test is not None:
        protocol = dataclasses.replace(protocol, flip_test=flip_test)
    records = with_boxes(
        open_split(config.data, scheme, split),
        box,
        box_jitter,
        config.seed,
        make_detector(detector) if box == "detector" else None,
        progress=functools.partial(tqdm, desc="detecting", unit="picture"),
    )
    if flip_offset == "checkpoint":
        averaging = Averaging(tuple(scales), flip_share=loaded.flip_offset)
    else:
        averaging = Averaging(tuple(scales), flip_offset)
    predictions = predict_averaged(
        averaging,
        scheme,
        make_forward(loaded.model, protocol, scheme),
        devices.replicate(loaded.variables),
        records,
        protocol,
        config.eval.batch_size,
        config.data.workers,
        progress=functools.partial(tqdm, unit="batch", disable=not is_first_process()),
        devices=devices,
    )
    if not is_first_process():
        return None
    metadata = {
        "protocol": protocol.to_dict(),
        "model": loaded.metadata["model"],
        "dtype": config.model.dtype,
        "split": describe_split(config.data, split),
        "checkpoint": str(checkpoint),
        "box": describe_boxes(records, box, box_jitter, config.seed, detector),
    }
    if averaging != Averaging():
        metadata["averaged"] = dataclasses.asdict(averaging)
    run = write_results(output, records, predictions, scheme, metadata, normaliser, auc)
    if output is not None:
        write_report([run], as_path(output) / "report.html")
    return run


def evaluate_classifier(
    config, checkpoint, *, split, protocol, output, parts, allow_import, **others
) -> PictureRun:
    """`hrnet_jax.evaluate` of a classifier; `others` are about landmarks and must be unset."""
    if given := [key for key, value in others.items() if value != LANDMARKS_ONLY[key]]:
        options = " and ".join("--" + key.replace("_", "-") for key in given)
        raise HRNetError(f"{options}: for landmarks only; the config tells classes")
    loaded = load(checkpoint, parts=parts, allow_import=allow_import)
    model = loaded.metadata["model"]
    wanted = {"name": config.model.name, "num_classes": config.model.num_classes}
    check_model(checkpoint, model, wanted, " and --config.model.num_classes")
    stored = loaded.metadata["protocol"] if protocol == "checkpoint" else None
    preprocessing = Preprocessing.from_dict(stored or plain(config.preprocessing))
    known = model_classes(loaded.metadata)
    pictures = open_pictures(config.data, split, known, model["num_classes"])
    size = config.eval.batch_size
    found = classify_pictures(
        make_classify(loaded.model),
        loaded.variables,
        pictures,
        preprocessing,
        size,
        config.data.workers,
        functools.partial(tqdm, total=-(-len(pictures) // size), unit="batch"),
    )
    metadata = {
        "protocol": preprocessing.to_dict(),
        "model": model,
        "split": f"{config.data.source} {config.data[split]}",
        "checkpoint": str(checkpoint),
        "version": hrnet_jax.__version__,
    }
    run = PictureRun(found, known or [str(k) for k in range(model["num_classes"])], metadata)
    if output is not None:
        write_pictures(output, run)
    return run


def check_model(checkpoint, model: dict, wanted: dict, more: str = "") -> None:
    """HRNetError unless a checkpoint's network is of the kind that the config asks for.

    How it is initialised and normalised is the checkpoint's.
    """
    model, wanted = (_kind(description) for description in (model, wanted))
    if model != wanted:
        raise HRNetError(
            f"{checkpoint} holds {model}; the config asks for {wanted}: use its own config, or set "
            f"--config.model.name{more}"
        )


def _kind(description):
    """What of a network's description tells what it is for; its head where that is not its own."""
    kind = {key: description.get(key) for key in ("name", "num_landmarks", "num_classes", "head")}
    if kind["name"] in model_names() and kind["head"] == model_head(kind["name"]):
        kind["head"] = None
    return {key: value for key, value in kind.items() if value is not None}

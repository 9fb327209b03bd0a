"""`hrnet-jax predict`: find landmarks in pictures and draw them; or tell what pictures show."""

import dataclasses
import json
import sys
from pathlib import Path

from hrnet_jax.cli.parser import Parser, place
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path, describe_error

EPILOG = """\
examples:
  hrnet-jax predict photo.jpg
  hrnet-jax predict photos/*.jpg --checkpoint=runs/wflw --detector=yunet.onnx --output=faces
  hrnet-jax predict photo.jpg --box=120,80,310,290 --box=400,95,560,270
  hrnet-jax predict photo.jpg --checkpoint=models/imagenet_w18

writes NAME_landmarks.jpg (.png for other than JPEG files) for each picture and landmarks.json to
--output. Coordinates are continuous image pixels, (x, y): pixel k covers k to k + 1. A classifier
(hrnet_*_imagenet) writes NAME_classes.jpg and classes.json: the five likeliest classes.
"""


def main(argv: list[str]) -> int:
    parser = Parser(
        "hrnet-jax predict",
        "Find facial landmarks in pictures and draw them; with a classifier, name what they show.",
        EPILOG,
    )
    parser.add_argument("images", type=place, nargs="+", metavar="IMAGE", help="picture files")
    parser.add_argument(
        "--checkpoint",
        type=place,
        metavar="DIR",
        help="a workdir, a converted or a released model (default: the small network inside)",
    )
    parser.add_argument(
        "--output", type=place, default="predictions", metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--box",
        action="append",
        metavar="X0,Y0,X1,Y1",
        help="tight box round a face's landmarks (brows to chin), pixels; may be repeated; for a "
        "single picture",
    )
    parser.add_argument(
        "--detector", type=place, metavar="haar|MODEL.onnx", help="haar (default), or a YuNet model"
    )
    parser.add_argument(
        "--min-score",
        type=float,
        metavar="S",
        help="drop detected faces whose mean landmark score is below (default: 0.65; lower it for "
        "networks with flatter heatmaps)",
    )
    parser.add_argument(
        "--aligned", action="store_true", help="also write each face turned upright, 112 x 112"
    )
    parser.add_argument(
        "--aligned-flip",
        action="store_true",
        help="average with the mirrored face's points, moved by the flip offset that the "
        "checkpoint stores: a little more exact, twice the time",
    )
    parser.add_argument(
        "--names",
        type=place,
        metavar="FILE",
        help="of a classifier: the classes' names, one a line",
    )
    parser.add_allow_import()
    arguments = parser.parse_args(argv)
    boxes = [_parse_box(text) for text in arguments.box] if arguments.box else None
    if boxes and len(arguments.images) > 1:
        raise HRNetError(f"--box is for a single picture: {len(arguments.images)} are given")
    if boxes and arguments.detector:
        raise HRNetError("give --box or --detector, not both")

    from hrnet_jax.checkpoints import load
    from hrnet_jax.files import open_atomically
    from hrnet_jax.inference.detector import make_detector
    from hrnet_jax.inference.predictor import DEFAULT_MODEL

    # Made before the network is loaded, so that a wrong path is told at once.
    detector = make_detector(arguments.detector) if arguments.detector else None
    checkpoint = arguments.checkpoint or DEFAULT_MODEL
    loaded = load(checkpoint, allow_import=arguments.allow_import)
    output = as_path(arguments.output)
    if "num_classes" in loaded.metadata["model"]:
        kind, entry_key, about, find = "classes", "classes", *_classifier(loaded, arguments)
    else:
        kind, entry_key = "landmarks", "faces"
        if not boxes and detector is None:
            detector = make_detector("haar")
        about, find = _predictor(loaded, detector, boxes, arguments, output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HRNetError(f"cannot make the folder {output}: {describe_error(error)}") from error
    entries, used = [], set()
    for path in arguments.images:
        name = _unused_name(Path(path).stem, used)
        entries.append(_predict_file(path, find, output, name, kind, entry_key))
    content = {"checkpoint": checkpoint, "model": loaded.metadata["model"], **about}
    with open_atomically(output / f"{kind}.json") as file:
        json.dump({**content, "images": entries}, file, indent=1)
        file.write("\n")
    return 2 if any(entry["error"] for entry in entries) else 0


def _predictor(loaded, detector, boxes, arguments, output):
    """What landmarks.json says about the network, and `find(image, name)` for `_predict_file`."""
    from hrnet_jax.images import write_image
    from hrnet_jax.inference.alignment import align
    from hrnet_jax.inference.drawing import draw_landmarks
    from hrnet_jax.inference.predictor import MIN_SCORE, Predictor

    if arguments.names:
        raise HRNetError("--names is for a classifier: this checkpoint finds landmarks")
    score = MIN_SCORE if arguments.min_score is None else arguments.min_score
    predictor = Predictor(loaded, detector, min_score=score, aligned_flip=arguments.aligned_flip)

    def find(image, name):
        faces = predictor(image, boxes)
        if not faces:
            raise HRNetError("no face found: give a --box=x0,y0,x1,y1 or another --detector")
        drawn = image
        for face in faces:
            drawn = draw_landmarks(drawn, face.landmarks, predictor.scheme, face.scores)
        for number, face in enumerate(faces, 1) if arguments.aligned else ():
            crop, _ = align(image, face.five_points)
            write_image(output / f"{name}_aligned_{number}.png", crop)
        summary = f"{len(faces)} face{'s' if len(faces) != 1 else ''}"
        return drawn, [_face_entry(face) for face in faces], summary

    about = {"scheme": predictor.scheme.name, "protocol": predictor.protocol.to_dict()}
    if arguments.aligned_flip:
        about["aligned_flip"] = loaded.flip_offset
    return about, find


def _classifier(loaded, arguments):
    """The same for classes.json."""
    from hrnet_jax.data.classes import read_names
    from hrnet_jax.inference.classifier import Classifier, draw_guesses

    wrong = [
        key
        for key in ("box", "detector", "min_score", "aligned", "aligned_flip")
        if getattr(arguments, key)
    ]
    if wrong:
        option = f"--{wrong[0].replace('_', '-')}"
        raise HRNetError(f"{option} is for landmarks: this checkpoint tells classes")
    names = read_names(arguments.names) if arguments.names else None
    classifier = Classifier(loaded, names)

    def find(image, name):
        guesses = classifier(image)
        lines = [f"  {100 * guess.probability:6.2f} %  {guess.name}" for guess in guesses]
        entries = [dataclasses.asdict(guess) for guess in guesses]
        return draw_guesses(image, guesses), entries, "\n".join(["", *lines, " "])

    return {"protocol": classifier.preprocessing.to_dict()}, find


def _predict_file(path, find, output, name, kind, entry_key):
    """Writes one picture's results; returns its entry of the JSON file.

    `find(image, name)` gives the picture to write, what the entry has under `entry_key`, and the
    line to print.
    """
    from hrnet_jax.images import read_image, write_image

    entry = {"file": path, "width": None, "height": None, entry_key: [], "error": None}
    try:
        image = read_image(path, upright=True)
        entry["height"], entry["width"] = image.shape[:2]
        drawn, found, summary = find(image, name)
        suffix = ".jpg" if Path(path).suffix.lower() in (".jpg", ".jpeg") else ".png"
        target = output / f"{name}_{kind}{suffix}"
        write_image(target, drawn)
    except HRNetError as error:
        named = str(error).startswith(str(as_path(path)))
        message = " ".join((str(error) if named else f"{path}: {error}").split())
        print(f"error: {message}", file=sys.stderr)
        return {**entry, "error": message}
    print(f"{path}: {summary} -> {target}", flush=True)
    return {**entry, entry_key: found}


def _face_entry(face):
    def rounded(array, digits=3):
        return array.astype(float).round(digits).tolist()

    return {
        "box": rounded(face.box),
        "landmarks": rounded(face.landmarks),
        "scores": rounded(face.scores, 4),
        "five_points": rounded(face.five_points),
    }


def _parse_box(text):
    try:
        box = tuple(float(part) for part in text.split(","))
    except ValueError:
        box = ()
    if len(box) != 4:
        raise HRNetError(f"--box={text}: give four numbers, x0,y0,x1,y1, in image pixels")
    return box


def _unused_name(stem, used):
    """`stem`, or stem_2, stem_3 … where a picture of another folder has it; adds it to `used`."""
    name, number = stem, 1
    while name.lower() in used:  # some file systems do not tell A from a
        number += 1
        name = f"{stem}_{number}"
    used.add(name.lower())
    return name

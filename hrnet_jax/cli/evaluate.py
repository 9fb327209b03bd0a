"""`hrnet-jax evaluate`: score a checkpoint on a data set, or anybody's predictions."""

import functools
from pathlib import Path

from hrnet_jax.cli.configs import split_config
from hrnet_jax.cli.parser import Parser, join_processes
from hrnet_jax.errors import HRNetError

EPILOG = """\
examples:
  hrnet-jax evaluate --config=300w_w18 --checkpoint=runs/300w --output=runs/300w/eval
  hrnet-jax evaluate --config=imagenet_w18 --checkpoint=models/w18 --output=scores
  hrnet-jax evaluate --config=300w_w18 --checkpoint=runs/300w --output=robustness \\
      --box=detector --detector=yunet.onnx --box-jitter=0.1
  hrnet-jax evaluate --predictions=P.csv --truth=T.csv --scheme=300w --output=scores

prints the data set's published table with this run beside it, and writes metrics.json,
per_image.csv, annotations.csv and report.html (figures: report_figures/) to --output. The network
and its protocol come from the checkpoint; the data set from the config. With --protocol=config the
protocol does too: --protocol=config --config.protocol.codec=dark decodes by another codec.
"""


def main(argv: list[str]) -> int:
    parser = Parser(
        "hrnet-jax evaluate",
        "Score a checkpoint on a data set, or anybody's predictions.",
        EPILOG,
    )
    add_arguments(parser)
    config, rest = split_config(argv)
    arguments = parser.parse_args(rest)
    check(config, arguments)
    if getattr(config, "task", "landmarks") == "classification":
        if arguments.distributed:
            raise HRNetError("--distributed: a classifier is evaluated in one process")
        from hrnet_jax.evaluation.classification import evaluate_classifier

        evaluate_classifier(config, arguments)
        print(f"written: metrics.json and per_image.csv in {arguments.output}")
        return 0
    join_processes(arguments)
    changes = [argument for argument in argv if argument.startswith("--config.protocol")]
    if arguments.predictions:
        run = score(arguments)
    else:
        run = evaluate_checkpoint(config, arguments, changes)
    if run is None:
        return 0
    show(run)

    from hrnet_jax.evaluation.report import write_report

    output = Path(arguments.output)
    write_report([run], output / "report.html")
    print(f"written: metrics.json, per_image.csv, annotations.csv and report.html in {output}")
    return 0


def add_arguments(parser: Parser) -> None:
    """The options but --config, which `split_config` takes out."""
    parser.add_argument("--checkpoint", help="a workdir, a converted or a released model")
    parser.add_argument("--split", default="valid", choices=("train", "valid"))
    parser.add_argument(
        "--protocol",
        default="checkpoint",
        choices=("checkpoint", "config"),
        help="whose crop and codec to use (default: those that the checkpoint was trained with)",
    )
    parser.add_argument(
        "--flip-test",
        choices=("on", "off"),
        help="average with the mirrored image's heatmaps (default: as the protocol says)",
    )
    parser.add_argument(
        "--normaliser",
        choices=("inter-ocular", "inter-pupil", "box", "diagonal"),
        help="what errors are divided by (default: box for AFLW, else inter-ocular)",
    )
    parser.add_argument(
        "--auc",
        default="trapezoid",
        choices=("trapezoid", "simpson"),
        help="rule for the area under the error curve: simpson is HIH's (default: trapezoid)",
    )
    parser.add_argument(
        "--box",
        default="landmarks",
        choices=("landmarks", "rectangle", "detector"),
        help="what to crop by: the annotated boxes, the data set's face rectangles, or the boxes "
        "that --detector finds (default: landmarks)",
    )
    parser.add_argument(
        "--box-jitter",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="move and scale each box by up to this share of its side, e.g. 0.1 (default: 0)",
    )
    parser.add_argument(
        "--detector",
        default="haar",
        help="of --box=detector: haar, or the path of a YuNet .onnx file (default: haar)",
    )
    parser.add_argument("--predictions", metavar="CSV", help="predicted points to score instead")
    parser.add_argument("--truth", metavar="CSV", help="annotations for --predictions")
    parser.add_argument("--scheme", help="landmark scheme of --predictions, e.g. 300w")
    parser.add_argument(
        "--images",
        metavar="FOLDER",
        help="for the report on --predictions: what image names start from "
        "(default: images, beside --truth)",
    )
    parser.add_argument("--output", required=True, help="folder for the results")
    parser.add_processes()


def check(config, arguments) -> None:
    """HRNetError unless it is --config and --checkpoint, or --predictions with their company."""
    if bool(arguments.predictions) == bool(config and arguments.checkpoint):
        raise HRNetError("give --config and --checkpoint, or --predictions, --truth, --scheme")
    if arguments.predictions:
        if config or arguments.checkpoint or arguments.flip_test or arguments.distributed:
            raise HRNetError(
                "--predictions goes without --config, --checkpoint, --flip-test and --distributed"
            )
        if arguments.box != "landmarks" or arguments.box_jitter:
            raise HRNetError(
                "--predictions goes without --box and --box-jitter: its points are made already"
            )
        missing = [name for name in ("truth", "scheme") if not getattr(arguments, name)]
        if missing:
            raise HRNetError(f"--predictions needs --{' and --'.join(missing)} too")


def score(arguments):
    """Scores the --predictions and writes the results; returns the `Run`."""
    from hrnet_jax.evaluation.scoring import score_files

    return score_files(
        arguments.predictions,
        arguments.truth,
        arguments.scheme,
        arguments.output,
        arguments.images,
        arguments.normaliser,
        arguments.auc,
    )


def evaluate_checkpoint(config, arguments, changes):
    """Runs the checkpoint over the config's data set, writes the results; returns the `Run`.

    Of several processes the first does; None from the others.
    """
    import dataclasses

    from tqdm import tqdm

    from hrnet_jax.checkpoints import load
    from hrnet_jax.config import plain
    from hrnet_jax.data.sources import describe_split, open_split
    from hrnet_jax.devices import Devices, is_first_process
    from hrnet_jax.evaluation.boxes import describe_boxes, with_boxes
    from hrnet_jax.evaluation.landmarks import predict_records
    from hrnet_jax.evaluation.scoring import write_results
    from hrnet_jax.inference.detector import make_detector
    from hrnet_jax.inference.forward import make_forward
    from hrnet_jax.protocols import Protocol
    from hrnet_jax.schemes import get_scheme
    from hrnet_jax.training.loop import compute_dtype, describe_model

    devices = Devices()
    loaded = load(arguments.checkpoint, compute_dtype(config))
    scheme = get_scheme(config.scheme)
    model = loaded.metadata["model"]
    wanted = describe_model(config, scheme)
    if model != wanted:
        raise HRNetError(
            f"{arguments.checkpoint} holds {model}; the config asks for {wanted}: use its own "
            "config, or set --config.model.name"
        )
    stored = arguments.protocol == "checkpoint" and loaded.metadata["protocol"]
    if stored and changes:
        raise HRNetError(
            f"{changes[0]} has no effect: the protocol is the checkpoint's; add --protocol=config"
        )
    # A config's own texts may be imported, those of a file not.
    protocol = Protocol.from_dict(stored or plain(config.protocol), allow=not stored)
    if arguments.flip_test:
        protocol = dataclasses.replace(protocol, flip_test=arguments.flip_test == "on")
    records = open_split(config.data, scheme, arguments.split, config.seed)
    records = with_boxes(
        records,
        arguments.box,
        arguments.box_jitter,
        config.seed,
        make_detector(arguments.detector) if arguments.box == "detector" else None,
        progress=lambda pictures: tqdm(pictures, "detecting", unit="picture"),
    )
    forward = make_forward(loaded.model, protocol, scheme)
    predictions = predict_records(
        forward,
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
        "model": model,
        "dtype": config.model.dtype,
        "split": describe_split(config.data, arguments.split),
        "checkpoint": str(arguments.checkpoint),
        "box": describe_boxes(
            records, arguments.box, arguments.box_jitter, config.seed, arguments.detector
        ),
    }
    return write_results(
        arguments.output,
        records,
        predictions,
        scheme,
        metadata,
        arguments.normaliser,
        arguments.auc,
    )


def show(run) -> None:
    """Prints the run's measures and the published table with the run in it."""
    from hrnet_jax.evaluation.benchmarks import compare
    from hrnet_jax.evaluation.tables import describe_missing, metrics_table

    print(metrics_table(run.result))
    if text := describe_missing(run.result):
        print(text)
    if comparison := compare({run.name: run.result}):
        print(f"\n{comparison}\n")

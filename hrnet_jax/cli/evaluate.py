"""`hrnet-jax evaluate`: score a checkpoint on a data set, or anybody's predictions."""

from hrnet_jax.cli.configs import split_config
from hrnet_jax.cli.parser import Parser, join_processes, place
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path

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
    classes = getattr(config, "task", "landmarks") == "classification"
    if classes and arguments.distributed:
        raise HRNetError("--distributed: a classifier is evaluated in one process")
    changes = [argument for argument in argv if argument.startswith("--config.protocol")]
    if changes and arguments.protocol == "checkpoint":
        raise HRNetError(
            f"{changes[0]} has no effect: the protocol is the checkpoint's; add --protocol=config"
        )
    join_processes(arguments)
    run = score(arguments) if arguments.predictions else evaluate_checkpoint(config, arguments)
    if run is None:
        return 0
    if classes:
        show_classifier(run.result)
        print(f"written: metrics.json and per_image.csv in {arguments.output}")
        return 0
    show(run)
    print(
        "written: metrics.json, per_image.csv, annotations.csv and report.html in "
        f"{arguments.output}"
    )
    return 0


def add_arguments(parser: Parser) -> None:
    """The options but --config, which `split_config` takes out."""
    parser.add_argument(
        "--checkpoint", type=place, help="a workdir, a converted or a released model"
    )
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
        "--flip-offset",
        type=_offset,
        metavar="PIXELS|checkpoint",
        help="average with the points of the mirrored picture, moved right by so many of its "
        "pixels: augment.flip_offset of the training; checkpoint: by the share of the "
        "inter-ocular distance that it stores (default: without)",
    )
    parser.add_argument(
        "--scales",
        type=_scales,
        default=(1.0,),
        metavar="S,S,…",
        help="average over crops of these shares of the box's side, e.g. 0.93,1 (default: 1)",
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
        type=place,
        default="haar",
        help="of --box=detector: haar, or the path of a YuNet .onnx file (default: haar)",
    )
    parser.add_argument(
        "--predictions", type=place, metavar="CSV", help="predicted points to score instead"
    )
    parser.add_argument("--truth", type=place, metavar="CSV", help="annotations for --predictions")
    parser.add_argument("--scheme", help="landmark scheme of --predictions, e.g. 300w")
    parser.add_argument(
        "--images",
        type=place,
        metavar="FOLDER",
        help="for the report on --predictions: what image names start from "
        "(default: images, beside --truth)",
    )
    parser.add_argument("--output", type=place, required=True, help="folder for the results")
    parser.add_allow_import()
    parser.add_processes()


def _offset(text):
    try:
        return text if text == "checkpoint" else float(text)
    except ValueError:
        raise HRNetError(f"--flip-offset={text[:60]}: give pixels, or checkpoint") from None


def _scales(text):
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise HRNetError(f"--scales={text[:60]}: give numbers with commas, e.g. 0.93,1") from None


def check(config, arguments) -> None:
    """HRNetError unless it is --config and --checkpoint, or --predictions with their company."""
    if bool(arguments.predictions) == bool(config and arguments.checkpoint):
        raise HRNetError("give --config and --checkpoint, or --predictions, --truth, --scheme")
    if arguments.predictions:
        if config or arguments.checkpoint or arguments.flip_test or arguments.distributed:
            raise HRNetError(
                "--predictions goes without --config, --checkpoint, --flip-test and --distributed"
            )
        crops = arguments.flip_offset is not None or arguments.scales != (1.0,)
        if arguments.box != "landmarks" or arguments.box_jitter or crops:
            raise HRNetError(
                "--predictions goes without --box, --box-jitter, --flip-offset and --scales: its "
                "points are made already"
            )
        missing = [name for name in ("truth", "scheme") if not getattr(arguments, name)]
        if missing:
            raise HRNetError(f"--predictions needs --{' and --'.join(missing)} too")


def score(arguments):
    """Scores the --predictions and writes the results; returns the `Run`."""
    from hrnet_jax.evaluation.report import write_report
    from hrnet_jax.evaluation.scoring import score_files

    run = score_files(
        arguments.predictions,
        arguments.truth,
        arguments.scheme,
        arguments.output,
        arguments.images,
        arguments.normaliser,
        arguments.auc,
    )
    write_report([run], as_path(arguments.output) / "report.html")
    return run


def evaluate_checkpoint(config, arguments):
    """Scores the --checkpoint and writes the results; returns what `hrnet_jax.evaluate` does."""
    from hrnet_jax.tasks import evaluate

    return evaluate(
        config,
        arguments.checkpoint,
        split=arguments.split,
        protocol=arguments.protocol,
        output=arguments.output,
        flip_test={"on": True, "off": False}.get(arguments.flip_test),
        flip_offset=arguments.flip_offset,
        scales=arguments.scales,
        normaliser=arguments.normaliser,
        auc=arguments.auc,
        box=arguments.box,
        box_jitter=arguments.box_jitter,
        detector=arguments.detector,
        allow_import=arguments.allow_import,
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


def show_classifier(result: dict) -> None:
    """Prints the accuracies."""
    from hrnet_jax.evaluation.tables import format_table

    row = [result["count"], f"{result['top1']:.2f}", f"{result['top5']:.2f}"]
    print(format_table([row], ["pictures", "top-1 %", "top-5 %"]))

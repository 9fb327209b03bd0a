"""`hrnet-jax demo`: the whole path on rendered faces, which need no download."""

from pathlib import Path

from hrnet_jax.cli.configs import split_config
from hrnet_jax.cli.parser import Parser, place
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path

EPILOG = """\
example:
  hrnet-jax demo --config=demo --workdir=runs/demo
"""
SHOWN = 12  # faces in the picture


def main(argv: list[str]) -> int:
    parser = Parser(
        "hrnet-jax demo",
        "Train on rendered faces, evaluate against the mean shape, draw the result.",
        EPILOG,
    )
    parser.add_argument("--config", metavar="FILE", help="a config of the synthetic data source")
    parser.add_argument("--workdir", type=place, default="runs/demo", help="default: runs/demo")
    config, rest = split_config(argv)
    arguments = parser.parse_args(rest)
    if config is None:
        raise HRNetError("which --config=FILE? For example --config=demo")
    if config.data.source != "synthetic":
        raise HRNetError(f"the demo renders its faces: data.source is {config.data.source!r}")
    run(config, as_path(arguments.workdir))
    return 0


def run(config, workdir: Path) -> None:
    """Trains in `workdir`; prints a table and writes faces.png and the evaluation beside it."""
    from hrnet_jax.checkpoints import load
    from hrnet_jax.data.sources import describe_split, open_split
    from hrnet_jax.evaluation.baseline import mean_shape_nme
    from hrnet_jax.evaluation.landmarks import predict_records
    from hrnet_jax.evaluation.report import write_report
    from hrnet_jax.evaluation.scoring import write_results
    from hrnet_jax.evaluation.tables import format_table
    from hrnet_jax.images import write_image
    from hrnet_jax.inference.drawing import contact_sheet, draw_landmarks
    from hrnet_jax.inference.forward import make_forward
    from hrnet_jax.protocols import Protocol
    from hrnet_jax.schemes import get_scheme
    from hrnet_jax.training.loop import train

    print(f"1/3 training {config.model.name} on {config.data.train_count} rendered faces")
    train(config, workdir)

    print(f"2/3 evaluating on {config.data.valid_count} others")
    loaded = load(workdir)
    scheme = get_scheme(config.scheme)
    protocol = Protocol.from_dict(loaded.metadata["protocol"])
    train_faces, valid_faces = (
        open_split(config.data, scheme, split, config.seed) for split in ("train", "valid")
    )
    forward = make_forward(loaded.model, protocol, scheme)
    predictions = predict_records(forward, loaded.variables, valid_faces, protocol)
    metadata = {
        "protocol": protocol.to_dict(),
        "model": loaded.metadata["model"],
        "split": describe_split(config.data, "valid"),
    }
    run = write_results(workdir / "eval", valid_faces, predictions, scheme, metadata)
    write_report([run], workdir / "eval" / "report.html")

    print("3/3 drawing")
    drawn = [
        draw_landmarks(valid_faces.image(i), predictions[i], scheme)
        for i in range(min(SHOWN, len(valid_faces)))
    ]
    write_image(workdir / "faces.png", contact_sheet(drawn, columns=4))

    baseline = mean_shape_nme(train_faces, valid_faces, scheme)
    rows = [
        ["mean shape in the landmark box", f"{baseline:.2f}"],
        [f"{config.model.name}, {config.train.epochs} epochs", f"{run.result['nme']:.2f}"],
    ]
    print()
    print(format_table(rows, [f"{len(valid_faces)} rendered faces", "NME, % of inter-ocular"]))
    print(f"\npicture: {workdir}/faces.png\nreport:  {workdir}/eval/report.html")

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
    from hrnet_jax.data.sources import open_split
    from hrnet_jax.evaluation.baseline import mean_shape_nme
    from hrnet_jax.evaluation.tables import format_table
    from hrnet_jax.images import write_image
    from hrnet_jax.inference.drawing import contact_sheet, draw_landmarks
    from hrnet_jax.tasks import evaluate, train

    print(f"1/3 training {config.model.name} on {config.data.train_count} rendered faces")
    train(config, workdir)

    print(f"2/3 evaluating on {config.data.valid_count} others")
    run = evaluate(config, workdir, output=workdir / "eval")

    print("3/3 drawing")
    faces = run.records
    drawn = [
        draw_landmarks(faces.image(i), run.predictions[i], run.scheme)
        for i in range(min(SHOWN, len(faces)))
    ]
    write_image(workdir / "faces.png", contact_sheet(drawn, columns=4))

    train_faces = open_split(config.data, run.scheme, "train")
    baseline = mean_shape_nme(train_faces, faces, run.scheme)
    rows = [
        ["mean shape in the landmark box", f"{baseline:.2f}"],
        [f"{config.model.name}, {config.train.epochs} epochs", f"{run.result['nme']:.2f}"],
    ]
    print()
    print(format_table(rows, [f"{len(faces)} rendered faces", "NME, % of inter-ocular"]))
    print(f"\npicture: {workdir}/faces.png\nreport:  {workdir}/eval/report.html")

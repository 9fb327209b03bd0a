"""`hrnet-jax report`: one page about one or several evaluations."""

from hrnet_jax.cli.parser import Parser, place

EPILOG = """\
examples:
  hrnet-jax report runs/wflw/eval --output=report.html
  hrnet-jax report runs/w18/eval runs/hih/eval --output=compared.html --images=data/wflw/images

A RUN is a folder that hrnet-jax evaluate wrote. The page is one file that needs no network; its
figures lie beside it as SVG and PNG (report_figures/). Nothing is run again: only pictures are
read.
"""


def main(argv: list[str]) -> int:
    parser = Parser("hrnet-jax report", "Write one HTML page about evaluations.", EPILOG)
    parser.add_argument(
        "runs", type=place, nargs="+", metavar="RUN", help="a folder that hrnet-jax evaluate wrote"
    )
    parser.add_argument(
        "--output", type=place, required=True, metavar="FILE", help="the page, e.g. report.html"
    )
    parser.add_argument(
        "--images",
        type=place,
        metavar="FOLDER",
        help="the folder that image names start from (default: where they were when evaluated)",
    )
    arguments = parser.parse_args(argv)

    from hrnet_jax.evaluation.report import write_report
    from hrnet_jax.evaluation.scoring import read_run

    runs = [read_run(folder, arguments.images) for folder in arguments.runs]
    figures = write_report(runs, arguments.output)
    print(f"written: {arguments.output} and {figures}")
    return 0

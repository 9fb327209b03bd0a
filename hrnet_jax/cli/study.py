"""`hrnet-jax study`: plan, run and report an ablation study."""

import runpy
import sys
import traceback
from pathlib import Path

from hrnet_jax.cli.parser import Parser
from hrnet_jax.errors import HRNetError

EPILOG = """\
examples:
  hrnet-jax study plan fusion.py --workdir=runs/fusion
  hrnet-jax study run fusion.py --workdir=runs/fusion
  hrnet-jax study report fusion.py --workdir=runs/fusion

`plan` lists the runs with what a few measured steps predict. `run` trains and scores each, from
where it stopped; what is done is skipped, what failed is passed over and tried again the next
time. Several processes may run one study: none does a run that another one has.
`--index=I` does one run alone. `--config.KEY=VALUE` changes the base config. docs/studies.md
"""


def main(argv: list[str]) -> int:
    parser = Parser("hrnet-jax study", "Plan, run and report an ablation study.", EPILOG)
    parser.add_argument("action", choices=("plan", "run", "report"))
    parser.add_argument("study", help="a Python file with get_study()")
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the study's runs")
    parser.add_argument("--index", type=int, help="of `run`: this run alone, from 0")
    overrides = [arg for arg in argv if arg.startswith("--config.")]
    arguments = parser.parse_args([arg for arg in argv if arg not in overrides])
    if arguments.index is not None and arguments.action != "run":
        raise HRNetError(f"--index is for `study run`, not `study {arguments.action}`")
    runs = load_runs(arguments.study, overrides)
    if arguments.action == "plan":
        return plan(runs)
    if arguments.action == "report":
        return report(runs, arguments.workdir, arguments.study, overrides)
    if arguments.index is not None:
        if not 0 <= arguments.index < len(runs):
            raise HRNetError(f"--index={arguments.index}: the study has runs 0 to {len(runs) - 1}")
        runs = [runs[arguments.index]]
    return run(runs, arguments.workdir)


def load_runs(path: str, overrides=()) -> list:
    """The runs of a study file. Its folder can be imported from: for the user's own parts."""
    from hrnet_jax.cli.configs import load_config, override
    from hrnet_jax.studies.definition import Study, expand

    if not Path(path).is_file():
        raise HRNetError(f"{path}: no such file; a study is a Python file with get_study()")
    folder = str(Path(path).resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        made = runpy.run_path(path)
        if "get_study" not in made:
            raise HRNetError(f"{path} has no get_study()")
        study = made["get_study"]()
    except HRNetError:
        raise
    except (Exception, SystemExit) as error:  # a study is Python: anything can come out of it
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == path]
        where = f", line {lines[-1]}" if lines else ""
        raise HRNetError(f"{path}{where}: {type(error).__name__}: {error}") from error
    if not isinstance(study, Study):
        raise HRNetError(f"{path}: get_study() gives {type(study).__name__}, not a Study")
    base = load_config(study.base) if isinstance(study.base, str) else study.base
    return expand(study, override(base, list(overrides)))


def plan(runs) -> int:
    """Prints the runs, and what each point of the design costs."""
    from hrnet_jax.evaluation.tables import format_table
    from hrnet_jax.studies.runner import Programs, predict_costs

    programs, rows, total = Programs(), [], 0.0
    for point in dict.fromkeys(run.point for run in runs):
        mine = [run for run in runs if run.point == point]
        try:
            costs = predict_costs(mine[0], programs)
        except HRNetError as error:
            raise HRNetError(f"study, {point}: {error}") from error
        seconds = costs["compile_seconds"] + len(mine) * costs["seconds"]
        total += seconds
        rows.append(
            [
                point,
                ", ".join(str(run.index) for run in mine),
                f"{costs['parameters'] / 1e6:.2f}",
                f"{costs['gmacs']:.3f}",
                " ".join("x".join(map(str, shape)) for shape in costs["output"]),
                f"{costs['step_ms']:.0f}",
                _duration(seconds),
            ]
        )
    heads = ["level", "runs", "parameters, M", "GMACs", "output", "ms a step", "all its seeds"]
    print(format_table(rows, heads))
    print(f"{len(runs)} runs in one process, by a few measured steps: {_duration(total)}")
    return 0


def run(runs, workdir: Path) -> int:
    """Does what is not done; 1 if a run failed."""
    from tqdm import tqdm

    from hrnet_jax.studies.results import read_record
    from hrnet_jax.studies.runner import Programs, do_run

    done = [run for run in runs if read_record(workdir, run).get("status") == "done"]
    todo = [run for run in runs if run not in done]
    # What failed comes last: it may fail again.
    todo.sort(key=lambda run: read_record(workdir, run).get("status") == "failed")
    if done:
        print(f"{len(done)} of {len(runs)} runs are done already")
    programs, ended = Programs(), {}
    bar = tqdm(
        total=len(todo),
        bar_format="{percentage:3.0f}% |{bar:20}| {desc} [{elapsed}, {remaining} left]",
        dynamic_ncols=True,
        mininterval=1.0,
        disable=not todo,
    )
    with bar:
        for number, each in enumerate(todo):

            def tell(share, words, number=number):
                bar.set_description_str(f"run {number + 1} of {len(todo)}: {words}", refresh=False)
                bar.update(number + share - bar.n)

            ended[each] = do_run(each, workdir, programs, tell)
            bar.update(number + 1 - bar.n)
    by = {state: [run for run in todo if ended[run] == state] for state in ("failed", "busy")}
    for each in by["failed"]:
        print(f"failed: {each.name}: {read_record(workdir, each)['error']}", file=sys.stderr)
    if by["busy"]:
        print(f"{len(by['busy'])} runs are being done by other processes")
    now = sum(state == "done" for state in ended.values())
    print(f"{now} runs done now, {len(by['failed'])} failed: {workdir}")
    return 1 if by["failed"] else 0


def report(runs, workdir: Path, path: str, overrides) -> int:
    """Writes the report into the workdir and prints its table."""
    import shlex

    from hrnet_jax.evaluation.tables import format_table
    from hrnet_jax.studies import tables
    from hrnet_jax.studies.report import write_report
    from hrnet_jax.studies.results import collect

    results = collect(runs, workdir)
    words = ["hrnet-jax", "study", "run", path, f"--workdir={workdir}", *overrides]
    files = write_report(results, workdir, f"Study: {Path(path).stem}", shlex.join(words))
    print(format_table(tables.cells(results), tables.columns(results)))
    for line in tables.notes(results):
        print(f"\n{line}")
    print(f"\nwritten: {', '.join(files)} in {workdir}")
    return 0


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"

"""`evaluate.py`: score a checkpoint on a data set, or anybody's predictions."""

import functools

from hrnet_jax.cli.configs import split_config
from hrnet_jax.cli.parser import Parser, join_processes
from hrnet_jax.errors import HRNetError

EPILOG = """\
examples:
  python evaluate.py --config=configs/300w_w18.py --checkpoint=runs/300w --output=runs/300w/eval
  python evaluate.py --predictions=P.csv --truth=T.csv --scheme=300w --output=scores

writes metrics.json and per_image.csv to --output. The network and its protocol come from the
checkpoint; the data set from the config.
"""


def main(argv: list[str]) -> int:
    parser = Parser(
        "evaluate.py",
        "Score a checkpoint on a data set, or anybody's predictions.",
        EPILOG,
    )
    parser.add_argument("--config", metavar="FILE", help="a config file: tells the data set")
    parser.add_argument("--checkpoint", help="a workdir, a converted or a released model")
    parser.add_argument("--split", default="valid", choices=("train", "valid"))
    parser.add_argument(
        "--protocol",
        default="checkpoint",
        choices=("checkpoint", "config"),
        help="whose crop and codec to use (default: those that the checkpoint was trained with)",
    )
    parser.add_argument("--predictions", metavar="CSV", help="predicted points to score instead")
    parser.add_argument("--truth", metavar="CSV", help="annotations for --predictions")
    parser.add_argument("--scheme", help="landmark scheme of --predictions, e.g. 300w")
    parser.add_argument("--output", required=True, help="folder for the results")
    parser.add_processes()
    config, rest = split_config(argv)
    arguments = parser.parse_args(rest)

    if arguments.predictions and (config or arguments.checkpoint):
        raise HRNetError("give --config and --checkpoint, or --predictions, --truth, --scheme")
    if arguments.predictions:
        missing = [name for name in ("truth", "scheme") if not getattr(arguments, name)]
        if missing:
            raise HRNetError(f"--predictions needs --{' and --'.join(missing)} too")
        from hrnet_jax.evaluation.scoring import score_files

        score_files(arguments.predictions, arguments.truth, arguments.scheme, arguments.output)
    else:
        if config is None or not arguments.checkpoint:
            raise HRNetError("give --config and --checkpoint, or --predictions, --truth, --scheme")
        join_processes(arguments)
        if not evaluate_checkpoint(config, arguments):
            return 0
    print(f"written: {arguments.output}/metrics.json and per_image.csv")
    return 0


def evaluate_checkpoint(config, arguments) -> bool:
    """Runs the checkpoint over the config's data set, writes the results and prints a table.

    Returns whether this process wrote them: of several the first does.
    """
    from tqdm import tqdm

    from hrnet_jax.checkpoints import load
    from hrnet_jax.config import plain
    from hrnet_jax.data.sources import describe_split, open_split
    from hrnet_jax.evaluation.evaluate import predict_records
    from hrnet_jax.evaluation.scoring import write_results
    from hrnet_jax.evaluation.tables import metrics_table
    from hrnet_jax.inference.forward import make_forward
    from hrnet_jax.protocols import Protocol
    from hrnet_jax.schemes import get_scheme
    from hrnet_jax.training.loop import compute_dtype, describe_model
    from hrnet_jax.training.parallel import Devices, is_first_process

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
    protocol = Protocol.from_dict(stored or plain(config.protocol))
    records = open_split(config.data, scheme, arguments.split, config.seed)
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
        return False
    metadata = {
        "protocol": protocol.to_dict(),
        "model": model,
        "dtype": config.model.dtype,
        "split": describe_split(config.data, arguments.split),
        "checkpoint": str(arguments.checkpoint),
    }
    result = write_results(arguments.output, records, predictions, scheme, metadata)
    print(metrics_table(result))
    return True

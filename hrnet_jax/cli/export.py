"""`hrnet-jax export`: a trained checkpoint to one small file with a model card."""

from hrnet_jax.cli.parser import Parser, place
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path, size

EPILOG = """\
example:
  hrnet-jax export runs/300w_small weights/300w_small.safetensors --dtype=float16 \\
      --data="300W train, 1812 faces" --terms="research only" --command="hrnet-jax train …"

writes OUT.safetensors, which Predictor and --checkpoint take, and the card OUT.md beside it.
"""


def main(argv: list[str]) -> int:
    parser = Parser(
        "hrnet-jax export",
        "Write a checkpoint as one .safetensors file with a model card beside it.",
        EPILOG,
    )
    parser.add_argument(
        "checkpoint", type=place, metavar="CHECKPOINT", help="a workdir or a model file"
    )
    parser.add_argument("out", type=place, metavar="OUT", help="a path ending in .safetensors")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16"))
    parser.add_argument("--data", required=True, help="what it was trained on")
    parser.add_argument("--terms", required=True, help="the terms of these data and weights")
    parser.add_argument("--command", required=True, help="the command that trained it")
    parser.add_argument(
        "--flip-offset",
        type=float,
        metavar="SHARE",
        help="store how far right of their mirror images the network finds landmarks, in "
        "inter-ocular distances (docs/evaluation.md tells how to measure it), for predict "
        "--aligned-flip",
    )
    parser.add_allow_import()
    arguments = parser.parse_args(argv)
    out = as_path(arguments.out)
    if out.suffix != ".safetensors":
        raise HRNetError(f"{out}: give a path ending in .safetensors")

    offset = arguments.flip_offset
    if offset is not None and not abs(offset) < 1:
        raise HRNetError(f"--flip-offset={offset}: give inter-ocular distances, between -1 and 1")

    from hrnet_jax.checkpoints import load, save_model
    from hrnet_jax.files import open_atomically
    from hrnet_jax.inference.mirror import eye_corners

    loaded = load(arguments.checkpoint, allow_import=arguments.allow_import)
    metadata = loaded.metadata
    if offset is not None:
        if "num_classes" in metadata["model"]:
            raise HRNetError("--flip-offset is for landmarks: this checkpoint tells classes")
        if loaded.scheme is not None:
            eye_corners(loaded.scheme)
        metadata["flip_offset"] = offset
    metadata["provenance"] |= {
        "data": arguments.data,
        "terms": arguments.terms,
        "command": arguments.command,
    }
    with open_atomically(out.with_suffix(".md")) as file:  # before the weights: without it, nothing
        file.write(card(out.stem, metadata, arguments.dtype))
    save_model(out, loaded.variables, metadata, arguments.dtype)
    print(f"wrote {out} ({size(out) / 1e6:.1f} MB) and {out.with_suffix('.md')}")
    return 0


def flip_test(protocol: dict) -> str:
    """How a stored protocol (perhaps of an earlier version) mirrors its crops."""
    if not protocol["flip_test"]:
        return "off"
    return "on, shifted" if protocol.get("flip_shift") else "on"


def describe_protocol(protocol: dict | None) -> str:
    """A stored protocol, or the preprocessing of a classifier, in a line."""
    if protocol is None:
        return "none"
    if "codec" not in protocol:
        return f"{protocol['input_size']} px from the middle of {protocol['resize']}"
    return (
        f"{protocol['name']}, {protocol['input_size']} px, codec {protocol['codec']}, "
        f"padding {protocol['padding']}, flip test {flip_test(protocol)}"
    )


def card(name: str, metadata: dict, dtype: str) -> str:
    """The model card, in Markdown."""
    model, provenance, protocol = (metadata[key] for key in ("model", "provenance", "protocol"))
    if "num_classes" in model:
        outputs = f"{model['num_classes']} classes"
        measure, value = "top-1 error", provenance.get("top1_error")
    else:
        scheme = metadata["scheme"]
        if isinstance(scheme, dict):  # one of a scheme file
            scheme = scheme["name"]
        outputs = f"{model['num_landmarks']} landmarks ({scheme})"
        measure, value = "NME", provenance.get("nme")
    rows = {
        "network": f"{model['name']}, {outputs}",
        "data": provenance["data"],
        "terms": provenance["terms"],
        "protocol": describe_protocol(protocol),
        measure: "not evaluated"
        if value is None
        else f"{value:.2f} % (validation split of the training config, the best of its epochs, "
        f"step {provenance['step']})",
        "command": f"`{provenance['command']}`",
        "file": f"kernels in {dtype}, written by hrnet_jax {metadata['version']}",
    }
    if "flip_offset" in metadata:
        rows["flip offset"] = f"{metadata['flip_offset']} inter-ocular distances"
    lines = [f"# {name}", "", "| | |", "|---|---|"]
    for key, value in rows.items():
        lines.append(f"| {key} | {' '.join(value.split()).replace('|', '/')} |")
    return "\n".join(lines) + "\n"

"""`hrnet-jax convert`: PyTorch weights to a model of hrnet_jax, and back."""

from hrnet_jax.cli.parser import Parser, place

EPILOG = """\
examples:
  hrnet-jax convert HR18-WFLW.pth models/wflw
  hrnet-jax predict face.jpg --checkpoint=models/wflw --output=predictions
  hrnet-jax convert hrnetv2_w18_imagenet_pretrained.pth models/imagenet_w18
  hrnet-jax convert --to-torch runs/wflw wflw.safetensors

SOURCE may be a .pth, .pth.tar, .pt or .safetensors file of the official facial-landmark or
classification code, timm, mmpretrain, mmpose (0.x and 1.x, facial landmarks) or Heatmap in Heatmap:
its tensors tell which. It is read without PyTorch, and nothing in it is executed.
"""


def main(argv: list[str]) -> int:
    parser = Parser(
        "hrnet-jax convert",
        "Convert PyTorch weights of the HRNet family to hrnet_jax, and back.",
        EPILOG,
    )
    parser.add_argument(
        "source", type=place, metavar="SOURCE", help="a PyTorch file; with --to-torch a model"
    )
    parser.add_argument(
        "destination",
        type=place,
        metavar="DESTINATION",
        help="a folder or a .safetensors file; with --to-torch a .safetensors file",
    )
    parser.add_argument(
        "--model",
        default="auto",
        help='for example hrnetv2_w18; "auto", the default, tells it by the tensors',
    )
    parser.add_argument(
        "--scheme", help="300w, wflw, cofw or aflw; by default told by the number of landmarks"
    )
    parser.add_argument(
        "--key",
        help="which network of a file with several: the key it lies under, or its names' prefix "
        "(default: the one averaged by EMA)",
    )
    parser.add_argument(
        "--to-torch",
        action="store_true",
        help="write a model's weights for PyTorch, under their official names",
    )
    arguments = parser.parse_args(argv)
    if arguments.to_torch and (arguments.model != "auto" or arguments.scheme or arguments.key):
        parser.error("--to-torch takes no --model, --scheme and --key: the checkpoint says them")

    from hrnet_jax.torch_weights.convert import convert_file, export_torch

    if arguments.to_torch:
        count = export_torch(arguments.source, arguments.destination)
        print(f"wrote {arguments.destination}: {count} tensors with official PyTorch names")
        return 0
    done = convert_file(
        arguments.source,
        arguments.destination,
        arguments.model,
        arguments.scheme,
        key=arguments.key,
    )
    print(f"read {arguments.source}: {done.container}")
    if done.model.endswith("_imagenet"):
        outputs = f"{done.outputs} classes"
    else:
        outputs = f"{done.outputs} landmarks ({done.scheme or 'of no known scheme'})"
    print(f"recognised {done.model} with {outputs}: {done.kind}")
    zeros = f"; {done.zero_biases} biases that it lacks are zero" if done.zero_biases else ""
    print(f"wrote {done.destination}: {done.used} tensors used, {done.ignored} ignored{zeros}")
    return 0

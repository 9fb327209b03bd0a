"""Training step and inference against PyTorch, measured in turns in one run.

python -m benchmarks.torch_compare --mode=forward --batch=8 --variants=channels_last
python -m benchmarks.torch_compare --mode=train --batch=16,64,256 --dtype=bfloat16 --json=gpu.json

PyTorch variants: "eager" (NCHW), "channels_last", "amp" (channels_last under autocast to bfloat16),
"compile" and "amp_compile" (the same with torch.compile), "timm" (timm's HRNet backbone,
channels_last; it has no heatmap head: less work than ours). A variant that cannot run is reported
so and left out. On a GPU the floor is printed too: the compiled step's arithmetic and bytes (XLA's
own count) at the peak rates given by --peak-tflops and --peak-gbs.
"""

import argparse
from pathlib import Path

import jax

from benchmarks.common import interleave, report, summary
from benchmarks.workloads import LANDMARKS, workload

VARIANTS = ("eager", "channels_last", "amp", "compile", "amp_compile", "timm")
COLUMNS = {
    "mode": "mode",
    "batch": "batch",
    "variant": "variant",
    "dtype": "compute",
    "ms": "median ms",
    "ms_low": "25 %",
    "ms_high": "75 %",
    "images_per_s": "images/s",
    "ratio": "hrnet_jax / this",
    "processor_ms": "processor ms",
    "processor_ratio": "hrnet_jax / this ",
    "faults": "page faults",
}


def counts(compiled):
    """Floating-point operations and bytes of memory traffic, as XLA counts them."""
    analysis = compiled.cost_analysis() or {}
    return {"flops": analysis.get("flops"), "bytes": analysis.get("bytes accessed")}


def torch_function(variant, mode, name, size, batch):
    """The same work in PyTorch. ImportError or RuntimeError where the variant does not run."""
    import torch

    from tests.torch_reference import network

    device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    if variant == "timm":
        import timm

        small = name.removeprefix("hrnetv2_").replace("w18_small_v1", "w18_small")
        net = timm.create_model(f"hrnet_{small}", pretrained=False, features_only=True)
    else:
        net = network(name, LANDMARKS)
    amp = variant.startswith("amp")
    layout = torch.contiguous_format if variant == "eager" else torch.channels_last
    net = net.to(device, memory_format=layout)
    call = torch.compile(net) if variant.endswith("compile") else net
    images = torch.randn(batch, 3, size, size).to(device, memory_format=layout)
    autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=amp)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    if mode == "forward":
        net.eval()

        def run():
            with torch.inference_mode(), autocast:
                call(images)
            wait()

        return run
    net.train()
    optimiser = torch.optim.Adam(net.parameters(), 1e-4)
    targets = torch.rand(batch, LANDMARKS, size // 4, size // 4).to(device, memory_format=layout)

    def run():
        optimiser.zero_grad(set_to_none=True)
        with autocast:
            outputs = call(images)
            if variant == "timm":  # a list of branches: any scalar will do
                loss = sum(output.square().mean() for output in outputs)
            else:
                loss = torch.nn.functional.mse_loss(outputs.float(), targets)
        loss.backward()
        optimiser.step()
        wait()

    return run


def measure(arguments, mode, batch):
    """Rows of one table: ours first, then each PyTorch variant that runs."""
    work = workload(mode, arguments.model, arguments.size, batch, arguments.dtype)
    compiled = work.lowered.compile()
    counted = counts(compiled)
    functions = {"hrnet_jax": work.start(compiled)}
    if mode == "forward":
        folded = workload("folded", arguments.model, arguments.size, batch, arguments.dtype)
        functions["hrnet_jax, folded"] = folded.start(folded.lowered.compile())
    for variant in arguments.variants:
        try:
            function = torch_function(variant, mode, arguments.model, arguments.size, batch)
            function()
        except Exception as error:  # torch.compile without a compiler, no timm, out of memory, …
            print(f"{variant}: left out ({type(error).__name__}: {str(error).splitlines()[0]})")
            continue
        functions[variant] = function
    samples = interleave(functions, arguments.repeats)
    ours = summary(samples["hrnet_jax"])
    rows = []
    for variant, taken in samples.items():
        row = {"mode": mode, "batch": batch, "variant": variant, **summary(taken)}
        row["dtype"] = "bfloat16" if variant.startswith("amp") else "float32"
        if variant.startswith("hrnet_jax"):
            row["dtype"] = arguments.dtype
        row["ratio"] = ours["ms"] / row["ms"]
        row["processor_ratio"] = ours["processor_ms"] / row["processor_ms"]
        row["images_per_s"] = 1000 * batch / row["ms"]
        row["samples"] = [sample._asdict() for sample in taken]
        rows.append(row)
    rows[0] |= counted
    return rows + floors(arguments, mode, batch, counted, ours["ms"])


def floors(arguments, mode, batch, counted, ours):
    """What arithmetic alone and memory traffic alone would take at the given peak rates."""
    rows = []
    for what, count, rate in (
        ("arithmetic", counted["flops"], 1e12 * (arguments.peak_tflops or 0)),
        ("memory", counted["bytes"], 1e9 * (arguments.peak_gbs or 0)),
    ):
        if count and rate:
            ms = 1000 * count / rate
            row = {"mode": mode, "batch": batch, "variant": f"floor: {what}", "ms": ms}
            rows.append(row | {"ratio": ours / ms, "images_per_s": 1000 * batch / ms})
    return rows


def words(text):
    return text.split(",")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", type=words, default=["forward", "train"])
    parser.add_argument("--model", default="hrnetv2_w18")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=words, default=["8"])
    parser.add_argument("--dtype", default="float32", help="of hrnet_jax: float32 or bfloat16")
    parser.add_argument("--variants", type=words, default=VARIANTS)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--peak-tflops", type=float, help="of the device at --dtype")
    parser.add_argument("--peak-gbs", type=float, help="memory rate of the device, GB/s")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for mode in arguments.mode:
        for batch in map(int, arguments.batch):
            rows += measure(arguments, mode, batch)
    report(rows, COLUMNS, arguments.json)


if __name__ == "__main__":
    main()

"""MkDocs hooks: a page for each network with its numbers, and one for each part of the API.

The numbers are counted, or come from `hrnet_jax.published`, whenever the site is built.
"""

import functools

from mkdocs.structure.files import File

from hrnet_jax.costs import network_costs
from hrnet_jax.models import create_model, model_head, model_names
from hrnet_jax.published import PUBLISHED

API = {
    "Networks": ["models", "models.hrnet", "models.heads", "models.hourglass", "models.layers"],
    "Codecs and protocols": ["codecs", "protocols", "protocols.base", "geometry", "schemes"],
    "Checkpoints and weights": ["checkpoints", "torch_weights.convert", "published"],
    "Prediction": ["inference.predictor", "inference.classifier", "inference.detector"],
    "Data": ["data.records", "data.pipeline", "data.device", "data.prepare", "images.augment"],
    "Evaluation": ["evaluation.scoring", "evaluation.metrics", "evaluation.benchmarks"],
    "Training": [
        "tasks",
        "config",
        "training.step",
        "training.loop",
        "training.losses",
        "training.optimisers",
    ],
    "Looking inside": ["ablations", "costs", "inspect"],
    "Files and errors": ["files", "tensors", "errors"],
}


def on_config(config):
    """Adds the generated pages to the navigation."""
    networks = ["networks.md", *(f"networks/{name}.md" for name in model_names())]
    api = ["api.md", *(f"api/{slug(title)}.md" for title in API)]
    config.nav = [*config.nav, {"Networks": networks}, {"API": api}]
    return config


def on_files(files, config):
    """Adds the generated pages."""
    pages = {"api.md": api_index(), "networks.md": network_index()}
    pages |= {f"api/{slug(title)}.md": api_page(title) for title in API}
    pages |= {f"networks/{name}.md": network_page(name) for name in model_names()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def slug(title):
    return title.lower().replace(" ", "_")


def api_index():
    lines = [f"| [{title}](api/{slug(title)}.md) | " for title in API]
    rows = [
        line + ", ".join(f"`hrnet_jax.{name}`" for name in names) + " |"
        for line, names in zip(lines, API.values(), strict=True)
    ]
    return "# API\n\n| part | modules |\n|---|---|\n" + "\n".join(rows) + "\n"


def api_page(title):
    return f"# {title}\n\n" + "\n\n".join(f"::: hrnet_jax.{name}" for name in API[title]) + "\n"


def outputs_of(name):
    """(arguments of `create_model`, side of the input): landmarks of WFLW, classes of ImageNet."""
    if model_head(name) == "classification":
        return {"num_classes": 1000}, 224
    return {"num_landmarks": 98}, 256


@functools.cache
def counted(name):
    """(its `Costs`, the side of its input in pixels)."""
    count, size = outputs_of(name)
    costs = network_costs(create_model(name, **count), size)
    return costs, size


def network_index():
    rows = []
    for name in model_names():
        costs, size = counted(name)
        rows.append(
            f"| [{name}](networks/{name}.md) | {model_head(name)} | {costs.parameters:,} | "
            f"{costs.gmacs:.2f} | {size} |"
        )
    return (
        "# Networks\n\nCounted with 98 landmarks, or 1000 classes, on one image by "
        "`hrnet_jax.costs.network_costs`.\n\n"
        "| network | head | parameters | GMACs | input, pixels |\n|---|---|---:|---:|---:|\n"
        + "\n".join(rows)
        + "\n"
    )


def network_page(name):
    costs, size = counted(name)
    (count, value), *_ = outputs_of(name)[0].items()
    shapes = ", ".join(f"`(N, {', '.join(map(str, shape))})`" for shape in costs.output)
    lines = [
        f"# {name}",
        "```python",
        f'model = hrnet_jax.create_model("{name}", {count}={value})',
        "```",
        f"Images `(N, {size}, {size}, 3)` to {shapes}: {costs.parameters:,} parameters, "
        f"{costs.gmacs:.2f} GMACs an image.",
        "## Published weights",
    ]
    published = [entry for entry in PUBLISHED.values() if entry.model == name]
    if published:
        lines.append("The publishers' figures, in percent.")
        rows = [
            f"| `{entry.name}` | {entry.scheme or 'ImageNet'} | {entry.protocol or '-'} | "
            + (", ".join(f"{key} {value:g}" for key, value in entry.metrics.items()) or "-")
            + f" | {entry.licence or 'not stated'} | {entry.where} |"
            for entry in published
        ]
        head = "| `hrnet-jax weights get` | data | protocol | figures | licence | where |"
        lines.append("\n".join([head, "|---|---|---|---|---|---|", *rows]))
    else:
        lines.append("None is listed: initialise it, or train it.")
    lines.append("What was measured with this project stands in RESULTS.md of the repository.")
    return "\n\n".join(lines) + "\n"

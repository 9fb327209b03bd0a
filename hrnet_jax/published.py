"""Published checkpoints of the HRNet family, as data; and fetching one.

The URL is given where its publisher states a direct link; elsewhere the entry says where to look.
Figures are the publishers'.
"""

import dataclasses
import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from hrnet_jax.errors import HRNetError
from hrnet_jax.files import local_path
from hrnet_jax.torch_weights import kinds

_RESEARCH = "the images it was made from are for research only"
_OFFICIAL_FACE = "README of github.com/HRNet/HRNet-Facial-Landmark-Detection"
_MMPOSE = "model zoo of github.com/open-mmlab/mmpose, 2D face landmarks"
_OFFICIAL_IMAGENET = "README of github.com/HRNet/HRNet-Image-Classification"
_OFFICIAL_RELEASE = (
    "https://github.com/HRNet/HRNet-Image-Classification/releases/download/PretrainedWeights"
)
_PADDLE = "MIT; converted from PaddleClas (Apache-2.0)"
_MMPRETRAIN = "model zoo of github.com/open-mmlab/mmpretrain"
_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Published:
    """One checkpoint.

    Attributes:
      name: ours, for `hrnet-jax weights get`.
      kind: as in `hrnet_jax.torch_weights.kinds`, which recognises the file.
      model: name for `create_model`.
      metrics: the published figures: NME and failure rate in percent, top-1 and top-5 accuracy
        in percent.
      licence: as the publishers state it; None where they state none.
      where: where it is published, in words.
      file: name of the file; None if it is not known.
      scheme: landmark scheme; None for classification.
      protocol: what the figures hold for.
      url: a direct link, if one is stated.
      sha256: the SHA-256, or its first digits, in hexadecimal.
      size: bytes.
    """

    name: str
    kind: str
    model: str
    metrics: dict[str, float]
    licence: str | None
    where: str
    file: str | None = None
    scheme: str | None = None
    protocol: str | None = None
    url: str | None = None
    sha256: str | None = None
    size: int | None = None


def _official_face(scheme, metrics):
    file = f"HR18-{scheme.upper()}.pth"
    licence = f"MIT (code); {_RESEARCH}"
    return Published(
        f"hr18-{scheme}",
        kinds.OFFICIAL_FACE,
        "hrnetv2_w18",
        metrics,
        licence,
        _OFFICIAL_FACE,
        file,
        scheme,
        "official",
    )


def _mmpose(name, scheme, metrics):
    licence = f"Apache-2.0 (code); {_RESEARCH}"
    return Published(
        f"mmpose-{name}",
        kinds.MMPOSE_0,
        "hrnetv2_w18",
        metrics,
        licence,
        _MMPOSE,
        scheme=scheme,
        protocol="mmpose, flip test",
    )


def _imagenet(name, kind, variant, accuracy, licence, where, **file):
    """`accuracy`: top-1, or top-1 and top-5, in percent; or nothing."""
    model = f"hrnet_{variant}_imagenet"
    metrics: dict[str, float] = dict(zip(("top-1", "top-5"), accuracy, strict=False))
    protocol = "ImageNet validation, 224 px centre crop of 256"
    return Published(name, kind, model, metrics, licence, where, protocol=protocol, **file)


def _official_imagenet(name, variant, errors, licence="MIT", **file):
    accuracy = [round(100 - error, 2) for error in errors]
    kind = kinds.OFFICIAL_IMAGENET
    return _imagenet(name, kind, variant, accuracy, licence, _OFFICIAL_IMAGENET, **file)


def _official_release(name, error, file, licence="MIT"):
    url, variant = f"{_OFFICIAL_RELEASE}/{file}", name.split("-")[0]
    return _official_imagenet(f"imagenet-{name}", variant, [error], licence, file=file, url=url)


def _timm(name, variant, accuracy, licence):
    where = f"Hugging Face hub, timm/{name}"
    kind, file = kinds.OFFICIAL_IMAGENET, "model.safetensors"
    return _imagenet(f"timm-{name}", kind, variant, accuracy, licence, where, file=file)


# Top-1 and top-5 errors of the official README, accuracies of mmpretrain's model zoo.
_ERRORS = {
    **{"w18": (23.2, 6.6), "w30": (21.8, 5.8), "w32": (21.5, 5.8), "w40": (21.1, 5.5)},
    **{"w44": (21.1, 5.6), "w48": (20.7, 5.5), "w64": (20.5, 5.4)},
    **{"w18_small_v1": (27.7, 9.3), "w18_small_v2": (24.9, 7.6)},
}
_ACCURACIES = {
    **{"w18": (76.75, 93.44), "w30": (78.19, 94.22), "w32": (78.44, 94.19)},
    **{"w40": (78.94, 94.47), "w44": (78.88, 94.37), "w48": (79.32, 94.52), "w64": (79.46, 94.65)},
}
_SSLD_TOP1 = {"w18": 81.06, "w48": 83.63}
_WFLW = ("pose", "illumination", "occlusion", "blur", "make-up", "expression")


def _wflw(full, *subsets):
    return {"NME": full, **{f"NME {n}": nme for n, nme in zip(_WFLW, subsets, strict=True)}}


def _w300(common, challenge, full, test):
    names = ("NME common", "NME challenge", "NME full", "NME test")
    return dict(zip(names, (common, challenge, full, test), strict=True))


PUBLISHED = {
    entry.name: entry
    for entry in (
        _official_face("wflw", _wflw(4.60, 7.86, 4.57, 5.42, 5.36, 4.26, 4.78)),
        _official_face("300w", _w300(2.91, 5.11, 3.34, 3.85)),
        _official_face("cofw", {"NME": 3.45, "FR@0.10": 0.20}),
        _official_face("aflw", {"NME full": 1.57, "NME frontal": 1.46}),
        _mmpose("wflw", "wflw", _wflw(4.06, 6.97, 3.99, 4.83, 4.58, 3.94, 4.33)),
        _mmpose("wflw-dark", "wflw", _wflw(3.98, 6.98, 3.96, 4.78, 4.56, 3.89, 4.29)),
        _mmpose("wflw-awing", "wflw", {"NME": 4.02}),
        _mmpose("300w", "300w", _w300(2.92, 5.64, 3.45, 4.10)),
        _mmpose("cofw", "cofw", {"NME": 3.48}),
        _mmpose("aflw", "aflw", {"NME full": 1.41, "NME frontal": 1.27}),
        _mmpose("aflw-dark", "aflw", {"NME full": 1.35, "NME frontal": 1.19}),
        Published(
            "hih-wflw",
            kinds.HIH,
            "hih_b",
            _wflw(4.08, 6.87, 4.35, 4.85, 4.67, 3.86, 4.06),
            f"Apache-2.0 by its README, no licence file; {_RESEARCH}",
            "github.com/starhiking/HeatmapInHeatmap: README, and its log for the subsets",
            "WFLW.pth",
            "wflw",
            "HIH",
        ),
        _imagenet(
            "imagenet-w18-openmmlab",
            kinds.OFFICIAL_IMAGENET,
            "w18",
            _ACCURACIES["w18"],
            "MIT (official code)",
            "OpenMMLab's copy of the official hrnetv2_w18_imagenet_pretrained.pth",
            file="hrnetv2_w18-00eb2006.pth",
            url="https://download.openmmlab.com/pretrain/third_party/hrnetv2_w18-00eb2006.pth",
            sha256="00eb2006",  # in its name, as PyTorch's hub has it
        ),
        _official_imagenet(
            "imagenet-w18", "w18", _ERRORS["w18"], file="hrnetv2_w18_imagenet_pretrained.pth"
        ),
        *(
            _official_imagenet(f"imagenet-{v.replace('_', '-')}", v, errors)
            for v, errors in _ERRORS.items()
            if v != "w18"
        ),
        _official_release("w18-cutmix", 22.1, "HRNet_W18_C_cosinelr_cutmix_300epoch.pth.tar"),
        _official_release("w48-cutmix", 18.9, "HRNet_W48_C_cosinelr_cutmix_300epoch.pth.tar"),
        _official_release("w18-ssld", 18.8, "HRNet_W18_C_ssld_pretrained.pth", _PADDLE),
        _official_release("w48-ssld", 16.4, "HRNet_W48_C_ssld_pretrained.pth", _PADDLE),
        *(_timm(f"hrnet_{v}.ms_in1k", v, found[:1], "MIT") for v, found in _ACCURACIES.items()),
        _timm("hrnet_w18.ms_aug_in1k", "w18", (), "MIT"),
        _timm("hrnet_w18_small.ms_in1k", "w18_small_v1", (), "MIT"),
        _timm("hrnet_w18_small_v2.ms_in1k", "w18_small_v2", (), "MIT"),
        _timm("hrnet_w18_small.gluon_in1k", "w18_small_v1", (), "Apache-2.0"),
        _timm("hrnet_w18_small_v2.gluon_in1k", "w18_small_v2", (), "Apache-2.0"),
        *(_timm(f"hrnet_{v}_ssld.paddle_in1k", v, (top1,), None) for v, top1 in _SSLD_TOP1.items()),
        *(
            _imagenet(
                f"mmpretrain-{variant}",
                kinds.MMPRETRAIN,
                variant,
                found,
                "Apache-2.0",
                f"{_MMPRETRAIN}: hrnet-{variant}_3rdparty_8xb32_in1k",
            )
            for variant, found in _ACCURACIES.items()
        ),
    )
}


def expected(kind: str, model: str, scheme: str | None) -> list[dict]:
    """The published checkpoints that a file of that kind may be, with their figures.

    A file's content does not say which of them it is, or whether it is one.
    """
    one_of = (kinds.MMPOSE_0, kinds.MMPOSE_1)  # the same networks: 1.x reads 0.x's files
    return [
        {"name": entry.name, "metrics": entry.metrics, "protocol": entry.protocol}
        for entry in PUBLISHED.values()
        if (entry.kind == kind or {entry.kind, kind} <= set(one_of))
        and (entry.model, entry.scheme) == (model, scheme)
    ]


def get_published(name: str) -> Published:
    """The entry of that name; HRNetError names the known ones."""
    if name not in PUBLISHED:
        known = ", ".join(PUBLISHED)
        raise HRNetError(f"unknown published weights {name!r}: choose one of {known}")
    return PUBLISHED[name]


def fetch(name: str, folder: str | Path, progress: Callable = lambda done, total: None) -> Path:
    """Downloads a published checkpoint into a folder, checks it, and returns its path.

    An interrupted download (NAME.part) is gone on with. A file that is there already is checked
    and kept.

    Args:
      progress: called with the bytes there are and the bytes in all (None if unknown).

    Raises:
      HRNetError: unknown name; no direct link or no network (the message says where it is published
        and where to put it); not there; or another hash or size.
    """
    entry = get_published(name)
    path = local_path(folder, "what is downloaded") / (entry.file or f"{name}.pth")
    if not path.is_file():
        if entry.url is None:
            raise HRNetError(
                f"{name} has no direct link: get it from {entry.where} and put it at {path}"
            )
        _download(entry, path, progress)
    _check(entry, path)
    return path


def _download(entry, path, progress):
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        start = part.stat().st_size if part.is_file() else 0
        request = urllib.request.Request(entry.url, headers={"User-Agent": "hrnet-jax"})
        if start:
            request.add_header("Range", f"bytes={start}-")
        with urllib.request.urlopen(request, timeout=60) as response:
            if response.status != 206:  # the server sends all of it
                start = 0
            length = response.headers.get("Content-Length")
            total = start + int(length) if length else None
            done = start
            with open(part, "ab" if start else "wb") as file:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    progress(done, total)
        if total is not None and done < total:
            raise HRNetError(f"{entry.url} broke off after {done} of {total} bytes: try again")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing beyond what is there: complete, or another file
            _check(entry, part)
        else:
            raise HRNetError(
                f"{entry.url}: {error.code} {error.reason}; get it elsewhere ({entry.where}) and "
                f"put it at {path}"
            ) from error
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        raise HRNetError(
            f"cannot download {entry.url} ({reason}): get it on a machine with network access and "
            f"put it at {path}"
        ) from error
    _check(entry, part)
    part.replace(path)


def _check(entry, path):
    """Removes a download that is not what it should be; a user's own file stays."""
    problem = None
    if entry.size is not None and path.stat().st_size != entry.size:
        problem = f"has {path.stat().st_size} bytes instead of {entry.size}"
    elif entry.sha256 is not None:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(entry.sha256):
            problem = f"has the SHA-256 {found[:16]}… instead of {entry.sha256}…"
    if problem is not None:
        removed = path.suffix == ".part"
        if removed:
            path.unlink()
        advice = "removed; try again" if removed else "remove it and try again"
        raise HRNetError(f"{path} {problem}: {advice}")

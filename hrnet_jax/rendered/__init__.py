"""Rendered synthetic faces with the 68 points of the 300W/iBUG scheme: data without a download.

A face is a random 3-D shape (identity, expression, pose), projected and painted with OpenCV. The
landmarks are points of the very curves that are painted. Good for trying the whole path of training
and evaluation on a fresh machine; no substitute for photographs.

Coordinates are continuous image pixels: pixel k covers [k, k + 1), its centre is k + 0.5.
"""

import dataclasses

import cv2
import numpy as np

from hrnet_jax.errors import HRNetError
from hrnet_jax.rendered import hair as hairdress
from hrnet_jax.rendered import paint as paint
from hrnet_jax.rendered import scene as scene
from hrnet_jax.rendered import shape as shape

_SUPERSAMPLING = 2
_SKIN = np.array(
    [
        (244, 212, 192),
        (240, 200, 174),
        (228, 182, 148),
        (206, 156, 118),
        (170, 118, 84),
        (128, 84, 60),
        (92, 60, 46),
    ],
    float,
)
_HAIR = np.array(
    [
        (34, 28, 28),
        (48, 36, 32),
        (74, 50, 38),
        (104, 70, 48),
        (140, 98, 62),
        (206, 168, 108),
        (226, 198, 146),
        (158, 78, 42),
        (168, 164, 160),
        (214, 210, 204),
    ],
    float,
)
_IRIS = np.array(
    [(84, 52, 32), (66, 42, 30), (110, 76, 40), (92, 124, 150), (88, 116, 84), (120, 130, 134)],
    float,
)


@dataclasses.dataclass
class Style:
    """Colours (RGB tuples), hair and grooming of one face."""

    skin_ramp: np.ndarray
    skin_line: tuple
    nostril: tuple
    lip: tuple
    lip_dark: tuple
    lip_light: tuple
    lip_line: tuple
    eye_white: tuple
    eye_shade: tuple
    iris: tuple
    iris_edge: tuple
    iris_light: tuple
    lash: tuple
    lashes: float
    brow: tuple
    brow_dark: tuple
    brow_width: float
    blush: float
    build: float
    cloth: np.ndarray
    hair: np.ndarray
    bald: bool
    ears: bool
    volume: float
    length: float
    curl: float
    wave: float
    parting: float
    tousle: float
    bun: bool
    fringe: float
    fringe_side: int
    locks: bool
    beard: float
    hat: bool


@dataclasses.dataclass
class Face:
    """A posed head and how it looks: what the painting functions read.

    Attributes:
      points: (68, 2) float64, contour landmarks on the visible silhouette.
      contour: (17, 2), the first 17 of them.
      hairline: (11, 2), closes the outline of the face's skin over the forehead.
      unit: image pixels per head unit.
      down: (2,) unit vector from forehead to chin.
      light: (3,) unit vector towards the light, camera frame.
      gaze: (2,) offset of the irises, head units.
      fold: depth of the nasolabial fold, grey levels.
    """

    head: shape.Head
    camera: shape.Camera
    style: Style
    points: np.ndarray
    contour: np.ndarray
    hairline: np.ndarray
    unit: float
    down: np.ndarray
    light: np.ndarray
    gaze: np.ndarray
    fold: float


def _rgb(colour):
    return tuple([min(max(float(c), 0.0), 255.0) for c in colour])


def _sample_style(rng) -> Style:
    """Draws colours and grooming; long hair, lashes and lipstick go together more often."""
    feminine = rng.random() < 0.5
    tone = rng.random() * (len(_SKIN) - 1)
    low = int(tone)
    skin = _SKIN[low] + (tone - low) * (_SKIN[min(low + 1, len(_SKIN) - 1)] - _SKIN[low])
    skin = np.clip(skin + rng.normal(0, 4, 3), 0, 255)
    tones = paint.ramp(skin, light=0.15 + 0.4 * skin.mean() / 255)
    # Fair hair goes with fair skin.
    hair = _HAIR[rng.integers(len(_HAIR))] if tone < 2.6 else _HAIR[rng.integers(4)]
    hair = np.clip(hair * rng.uniform(0.85, 1.12), 0, 255)
    natural = skin * (0.88, 0.66, 0.66)
    makeup = scene.pick(
        rng, np.array([(176, 52, 66), (196, 92, 96), (150, 50, 70), (206, 112, 104)])
    )
    rouge = rng.uniform(0.2, 0.8) if feminine and rng.random() < 0.6 else 0.0
    lip = natural * (1 - rouge) + makeup * rouge
    iris = _IRIS[rng.integers(len(_IRIS))] if tone < 3.2 else _IRIS[rng.integers(2)]
    white = np.array((242, 239, 235)) * rng.uniform(0.94, 1.0)
    brow = hair * min(0.72, 105 / hair.max()) * 0.9 + skin * 0.10

    bald = not feminine and rng.random() < 0.10
    curl = (
        rng.uniform(0.03, 0.08)
        if not bald and rng.random() < (0.4 if tone > 3.5 else 0.15)
        else 0.0
    )
    long = feminine and rng.random() < 0.75
    length = rng.uniform(0.35, 1.5) if long else 0.0
    bun = feminine and not long and not curl and rng.random() < 0.8
    thick = rng.uniform(1.05, 1.13) if feminine or rng.random() < 0.6 else 1.02
    thick += 0.12 * (curl > 0)
    hat = rng.random() < 0.06
    if hat:
        thick, curl, bun = 1.03, 0.0, False
    fringed = not (bald or curl or hat) and rng.random() < 0.45
    side = int(rng.choice([-1, 0, 1]))
    fringe = rng.uniform(-0.46, -0.22) if side else rng.uniform(-0.46, -0.30)
    return Style(
        skin_ramp=tones,
        skin_line=_rgb(tones[92]),
        nostril=_rgb(tones[40]),
        lip=_rgb(lip),
        lip_dark=_rgb(lip * 0.84),
        lip_light=_rgb(lip + (255 - lip) * 0.22),
        lip_line=_rgb(lip * 0.50),
        eye_white=_rgb(white),
        eye_shade=_rgb(white * (0.80, 0.78, 0.80)),
        iris=_rgb(iris),
        iris_edge=_rgb(iris * 0.5),
        iris_light=_rgb(iris * 1.35 + 8),
        lash=_rgb(brow * 0.4),
        lashes=float(feminine) * rng.uniform(0.4, 1.0),
        brow=_rgb(brow),
        brow_dark=_rgb(brow * 0.75),
        brow_width=rng.uniform(0.020, 0.030) if feminine else rng.uniform(0.028, 0.044),
        blush=rng.uniform(0.0, 0.22),
        build=rng.uniform(0.84, 0.96) if feminine else rng.uniform(0.98, 1.12),
        cloth=scene.fabric(rng),
        hair=hair,
        bald=bald,
        ears=length <= 0,
        volume=thick,
        length=length,
        curl=curl,
        wave=rng.uniform(2, 8),
        parting=rng.uniform(-1, 1),
        tousle=rng.uniform(0.02, 0.07) if length <= 0 and not (bun or hat) else 0.0,
        bun=bun,
        fringe=fringe if fringed else 0.0,
        fringe_side=side,
        locks=long,
        beard=rng.uniform(0.45, 1.0) if not feminine and rng.random() < 0.38 else 0.0,
        hat=hat,
    )


def _sample_face(rng, size) -> Face:
    head = shape.sample_head(rng)
    yaw = np.clip(rng.normal(0, 21), -45, 45)
    pitch = np.clip(rng.normal(0, 8), -20, 20)
    roll = np.clip(rng.normal(0, 9), -25, 25)
    angles = [float(a) for a in np.radians([yaw, pitch, roll])]
    camera = shape.Camera(*angles, distance=rng.uniform(6, 14))
    contour, hairline = shape.face_outline(head, camera)
    points = head.points.copy()
    points[shape.JAW] = contour

    flat = camera(points)
    low, high = flat.min(axis=0), flat.max(axis=0)
    unit = float(size * rng.uniform(0.42, 0.62) / (high - low).max())
    middle = size * (0.5 + np.clip(rng.normal(0, 0.035, 2), -0.09, 0.09) + (0, 0.03))
    centre = tuple(float(c) for c in middle - (low + high) / 2 * unit)
    camera = dataclasses.replace(camera, unit=unit, centre=centre)

    turn, rise = rng.uniform(-1.2, 1.2), rng.uniform(0.1, 1.0)
    light = np.array(
        [np.sin(turn) * np.cos(rise), -np.sin(rise), np.cos(turn) * np.cos(rise) + 0.35]
    )
    gaze = np.clip(rng.normal(0, (0.022, 0.010), 2), -0.045, 0.02) - (
        0.03 * np.sin(yaw / 60),
        0.004,
    )
    roll = angles[2]
    return Face(
        head=head,
        camera=camera,
        style=_sample_style(rng),
        points=camera(points),
        contour=camera(contour),
        hairline=camera(hairline),
        unit=unit,
        down=np.array([-np.sin(roll), np.cos(roll)]),
        light=light / np.linalg.norm(light),
        gaze=gaze,
        fold=rng.uniform(4, 24),
    )


def _paint_skin(canvas, face, rng):
    """Ears and the skin of the face with its shading; the features come later."""
    style, u, at, head = face.style, face.unit, face.camera, face.head
    if style.ears:
        for side in (-1, 1):
            ear = at(paint.ear_outline(side))
            canvas.smooth_fill(ear, _rgb(style.skin_ramp[150]))
            canvas.smooth_fill(at(paint.ear_outline(side, 0.62)), _rgb(style.skin_ramp[112]))
            canvas.stroke(ear, _rgb(style.skin_ramp[104]), 0.008 * u, closed=True)

    edge = paint.spline(np.concatenate([face.contour, face.hairline]), closed=True)
    nose = at(head.points[[27, 28, 29, 30, 33, 31, 35]]).astype(np.float32)
    outlines = [edge, cv2.convexHull(nose)[:, 0].astype(float)]
    if style.bald:
        angles = np.linspace(0, 2 * np.pi, 60)
        outlines.append(shape.ellipsoid_outline(head.skull_centre, head.skull_radii, at, angles))

    # The shading is soft: a quarter of the canvas's resolution is enough.
    window = canvas.window(np.concatenate(outlines), step=4)
    rows, cols = window.pixels.shape[0] // 4, window.pixels.shape[1] // 4
    coarse = paint.Layer(np.zeros((rows, cols), np.float32), canvas.scale / 4, window.origin)
    radii = np.array([0.76, 1.15, 0.85]) * (head.skull_radii[0] / 0.74, 1, 1)
    extent = np.array([cols, rows]) / coarse.scale
    base = paint.surface_light(at, (0, 0.08, -0.66), radii, face.light, window.origin, extent)
    level = paint.skin_light(face, base, coarse)
    texture = style.skin_ramp[np.clip(level, 0, 255).astype(np.uint8)]
    for cheek in (-0.42, 0.42):
        coarse.disc(at((cheek, 0.34, -0.02)), 0.16 * u, style.blush)
    blush = cv2.GaussianBlur(coarse.pixels, (0, 0), 0.045 * u)
    texture = texture * (1 - blush[..., None] * np.array([0.02, 0.30, 0.22], np.float32))
    if style.beard:
        weight = hairdress.beard_weight(coarse, face, rng)
        texture = texture * (1 - weight) + (style.hair * 0.8).astype(np.float32) * weight
    window.paste(texture.astype(np.uint8), outlines)


def render_face(rng: np.random.Generator, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Draws one random face.

    The same state of `rng` gives the same bytes. The face's landmarks span 42 to 62 % of the image;
    heads turn by up to 45 degrees sideways, 20 up and down, and tilt by up to 25.

    Args:
      rng: source of all randomness; it is advanced.
      size: side of the image, pixels; at least 32.

    Returns:
      image: uint8 RGB (size, size, 3).
      points: float64 (68, 2), `schemes.W300`, continuous image pixels. On turned heads the
        contour's far side lies on the visible silhouette, as in 300W.
    """
    if size < 32 or size % 2:
        raise HRNetError(f"a synthetic face of {size} pixels: the side must be even, 32 or more")
    face = _sample_face(rng, size)
    style = face.style
    canvas = paint.Layer(scene.background(rng, size * _SUPERSAMPLING), _SUPERSAMPLING)
    hair = None if style.bald else hairdress.Hair(face, rng, size, _SUPERSAMPLING)
    if hair:
        hair.behind(canvas)
    scene.paint_body(canvas, face, rng)
    if hair:
        hair.over_skull(canvas)
    _paint_skin(canvas, face, rng)
    paint.paint_eye(canvas, face, 36, 39, (37, 38), (41, 40))
    paint.paint_eye(canvas, face, 45, 42, (44, 43), (46, 47))
    paint.paint_brow(canvas, face, face.points[17:22], rng)
    paint.paint_brow(canvas, face, face.points[26:21:-1], rng)
    paint.paint_nose(canvas, face)
    paint.paint_mouth(canvas, face)
    eyewear = rng.random()
    if eyewear < 0.20:
        scene.paint_glasses(canvas, face, rng, dark=eyewear < 0.04)
    if hair:
        hair.in_front(canvas)
    if style.hat:
        scene.paint_hat(canvas, face, rng)
    if rng.random() < 0.07:
        scene.occlude(canvas, face, rng)
    image = cv2.resize(canvas.pixels, (size, size), interpolation=cv2.INTER_AREA)
    return scene.camera_faults(image, rng), face.points


class SyntheticFaces:
    """A random-access data set of rendered faces; item i depends on nothing but (seed, i).

    Args:
      count: number of faces.
      seed: faces of different seeds differ.
      size: side of the images, pixels.
    """

    def __init__(self, count: int, seed: int, size: int = 256):
        self.count, self.seed, self.size = count, seed, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 RGB (size, size, 3) and points float64 (68, 2): see `render_face`."""
        if not 0 <= index < self.count:
            raise IndexError(f"face {index} of {self.count}")
        return render_face(np.random.default_rng([self.seed, index]), self.size)

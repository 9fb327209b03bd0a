"""What surrounds a synthetic face: background, clothes, hat, glasses, occluders, camera faults.

Positions are continuous image pixels, colours RGB, as in `synthetic_paint`.
"""

import cv2
import numpy as np

from hrnet_jax.rendered import shape as shape
from hrnet_jax.rendered.paint import Layer, spline

_FABRICS = np.array(
    [
        (45, 62, 88),
        (148, 52, 56),
        (64, 96, 82),
        (214, 206, 192),
        (52, 52, 58),
        (196, 148, 74),
        (120, 138, 164),
        (236, 236, 234),
        (104, 74, 110),
        (176, 108, 88),
        (70, 128, 140),
        (222, 172, 164),
    ]
)
# Background palettes: pairs that sit quietly behind skin.
_BACKDROPS = np.array(
    [
        [(206, 218, 226), (138, 160, 178)],
        [(226, 214, 196), (170, 150, 128)],
        [(120, 144, 132), (62, 84, 80)],
        [(88, 98, 122), (40, 46, 64)],
        [(238, 234, 228), (196, 192, 190)],
        [(232, 196, 170), (160, 116, 110)],
        [(150, 184, 206), (196, 208, 200)],
        [(180, 168, 190), (104, 98, 128)],
        [(74, 68, 66), (134, 118, 104)],
        [(148, 170, 112), (88, 116, 84)],
    ],
    np.float32,
)


def pick(rng, items):
    """One item, each as likely as the other."""
    return items[rng.integers(len(items))]


def fabric(rng):
    """A colour of cloth."""
    return np.clip(pick(rng, _FABRICS) + rng.normal(0, 8, 3), 0, 255)


def solid(colour):
    """A colour as OpenCV takes it."""
    return tuple(float(c) for c in colour)


def background(rng, side):
    """(side, side, 3) uint8: a soft gradient, lights, furniture or a textured wall."""
    first, second = pick(rng, _BACKDROPS) * rng.uniform(0.75, 1.08)
    mix = rng.random((3, 3, 1), np.float32)
    coarse = cv2.resize(first * mix + second * (1 - mix), (64, 64), interpolation=cv2.INTER_CUBIC)
    canvas = np.clip(coarse, 0, 255).astype(np.uint8)
    layer = Layer(canvas, 1.0)
    kind = rng.random()
    if kind < 0.35:  # lights out of focus
        for _ in range(rng.integers(6, 16)):
            glow = first * 0.4 + (255, 240, 210) * rng.uniform(0.3, 0.6, 3)
            layer.disc(rng.uniform(0, 64, 2), rng.uniform(2, 8), solid(np.minimum(glow, 255)))
    elif kind < 0.65:  # windows, shelves, pictures
        for _ in range(rng.integers(3, 9)):
            corner, extent = rng.uniform(-8, 60, 2), rng.uniform(5, 30, 2)
            box = corner + extent * np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
            layer.smooth_fill(
                box, solid(np.clip(pick(rng, [first, second]) * rng.uniform(0.6, 1.25), 0, 255))
            )
    if kind < 0.65:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.8, 2.5))
    elif kind < 0.85:  # plaster
        grain = rng.integers(0, 22, (64, 64, 1), np.uint8)
        canvas = cv2.add(canvas, np.repeat(grain, 3, axis=2))
    return cv2.resize(canvas, (side, side), interpolation=cv2.INTER_CUBIC)


def paint_body(layer, face, rng):
    """Draws neck, shoulders and clothes; returns nothing: the head goes over them."""
    u, style = face.unit, face.style
    top = face.camera((0, 0.75, -0.60))
    lean = np.array([-0.30 * np.sin(face.camera.roll), 1.0])
    sway = np.array([1.0, 0.25 * np.sin(face.camera.roll)])
    broad = style.build

    def body(outline):
        outline = np.asarray(outline, float)
        return top + u * (outline[:, :1] * sway + outline[:, 1:] * lean)

    neck = 0.47 * broad
    side = [(neck, -0.3), (neck * 0.97, 0.35), (neck * 1.12, 0.62), (0.95 * broad, 0.86)]
    side += [(1.45 * broad, 1.06), (1.75 * broad, 1.6), (1.8 * broad, 4.0)]
    half = spline(np.array(side))
    mirrored = half[::-1] * (-1, 1)
    tone = style.skin_ramp
    layer.smooth_fill(body(np.vstack([half, mirrored])), solid(tone[138]))
    shadow = face.contour[1:16] + face.down * 0.20 * u
    neck_box = np.array([(neck * 0.99, -0.3), (neck * 0.95, 0.36)])
    # The shadow of the jaw on the neck: the jaw's line moved down, cut at the neck's sides.
    centre, reach = body([(0, 0)])[0], neck * 0.97 * u
    offset = shadow - centre
    inside = np.abs(offset[:, 0] - offset[:, 1] * 0.25 * np.sin(-face.camera.roll)) < reach
    if inside.sum() > 2:
        sides = body(neck_box)[:1], body(neck_box * (-1, 1))[:1]
        layer.smooth_fill(np.vstack([sides[0], shadow[inside][::-1], sides[1]]), solid(tone[98]))
    for sign in (-1, 1):
        bone = body([(sign * 0.12, 0.80), (sign * 0.35, 0.76), (sign * 0.7, 0.80)])
        layer.stroke(spline(bone), solid(tone[112]), 0.015 * u)

    cloth = style.cloth
    light, dark = solid(cloth), solid(cloth * 0.72)
    cut = pick(rng, ["round", "round", "deep", "high", "shirt"])
    depth = {"round": 0.80, "deep": 1.25, "high": 0.30, "shirt": 1.1}[cut]
    start = 2 if cut == "high" else 9
    neckline = np.array(
        [
            half[start] * (-1, 1),
            (-0.25, depth - 0.06),
            (0, depth),
            (0.25, depth - 0.06),
            half[start],
        ]
    )
    if cut in ("deep", "shirt"):
        neckline = neckline[[0, 2, 4]]
        edge = neckline
    else:
        edge = spline(neckline)
    layer.smooth_fill(body(np.vstack([edge, half[start:], mirrored[: len(half) - start]])), light)
    layer.stroke(body(edge), dark, 0.035 * u)
    if cut == "shirt":
        for sign in (-1, 1):
            collar = [(neck * 0.98, 0.36), (neck * 1.25, 0.62), (0.38, 1.12), (0.02, 1.02)]
            flap = body(np.array(collar) * (sign, 1))
            layer.smooth_fill(flap, solid(np.minimum(cloth * 1.12, 255)))
            layer.stroke(flap, dark, 0.012 * u, closed=True)
    elif cut == "high":
        roll = body(np.array([(-neck * 0.9, 0.38), (-0.2, 0.45), (0.2, 0.45), (neck * 0.9, 0.38)]))
        layer.stroke(spline(roll), dark, 0.02 * u)


def paint_hat(layer, face, rng):
    """A knitted cap with a brim above the brows."""
    radii = face.head.skull_radii * (1.08, 1.10, 1.06)
    low = rng.uniform(-0.56, -0.44)
    cloth = fabric(rng)
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    outline = shape.ellipsoid_outline(face.head.skull_centre, radii, face.camera, angles)
    # The brim is a level section of the ellipsoid: its front half bounds the cap from below.
    height = (low - face.head.skull_centre[1]) / radii[1]
    around = np.sqrt(1 - height**2) * radii
    turn = np.linspace(-np.pi, np.pi, 73)
    yaw = face.camera.yaw
    facing = np.cos(turn) / radii[2] * np.cos(yaw) >= np.sin(turn) / radii[0] * np.sin(yaw)
    x, z = np.sin(turn[facing]) * around[0], np.cos(turn[facing]) * around[2]
    brim = face.camera(np.column_stack([x, np.full(len(x), low), z + face.head.skull_centre[2]]))
    across = brim[-1] - brim[0]
    above = (outline - brim[0]) @ np.array([-across[1], across[0]]) < 0
    # The outline runs clockwise from the right: start it where the part above the brim starts.
    outline = np.roll(outline, -np.argmax(above & ~np.roll(above, 1)), axis=0)[: above.sum()]
    layer.smooth_fill(np.vstack([outline, brim[::-1]]), solid(cloth))
    rise = -face.down * 0.20 * face.unit
    band = np.vstack([brim, (brim + rise)[::-1]])
    layer.smooth_fill(band, solid(cloth * 0.82))
    ribs = np.stack([brim, brim + rise * 0.95], axis=1)[1:-1]
    layer.stroke(ribs, solid(cloth * 0.70), 0.012 * face.unit)


def paint_glasses(layer, face, rng, dark):
    """Glasses; dark ones hide the eyes."""
    p, u, at = face.head.points, face.unit, face.camera
    frame = solid(
        pick(
            rng, np.array([(28, 26, 28), (92, 58, 40), (150, 120, 70), (60, 70, 96), (120, 40, 44)])
        )
    )
    power = rng.uniform(0.45, 1.0)
    t = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    rounded = np.stack([np.cos(t), np.sin(t)], axis=1)
    rounded = np.sign(rounded) * np.abs(rounded) ** power
    extent = np.array([rng.uniform(0.20, 0.235), rng.uniform(0.15, 0.20)])
    lenses = []
    for corners, side in (((36, 39), -1), ((42, 45), 1)):
        centre = p[list(corners)].mean(axis=0) + [side * 0.01, 0.025, 0.13]
        rim = centre + np.column_stack(
            [rounded * extent, -0.09 * side * rounded[:, 0] * extent[0] * 3]
        )
        lenses.append(at(rim))
    if dark:
        tint = solid(rng.uniform(14, 46, 3))
        for lens in lenses:
            layer.smooth_fill(lens, tint)
            shine = lens.mean(axis=0) + (lens[18:22] - lens.mean(axis=0)) * 0.72
            layer.stroke(shine, solid(np.array(tint) + 70), 0.03 * u)
    width = rng.uniform(0.018, 0.042)
    for lens, side in zip(lenses, (-1, 1), strict=True):
        layer.stroke(lens, frame, width * u, closed=True)
        hinge, ear = lens[14 if side < 0 else 0], at((side * 0.75, 0.0, -0.70))
        if side * face.camera.yaw < 0.12:
            layer.stroke(np.stack([hinge, ear]), frame, width * u)
    bridge = np.stack([lenses[0][0], at((0, -0.005, 0.22)), lenses[1][14]])
    layer.stroke(spline(bridge), frame, width * u)


def occlude(layer, face, rng):
    """Puts a hand, a phone, a scarf or a cup before a part of the face."""
    u, p = face.unit, face.points
    kind = rng.random()
    if kind < 0.45:  # fingers laid on the cheek
        side = pick(rng, [-1, 1])
        root = face.camera((side * 1.15, rng.uniform(0.95, 1.5), 0.2))
        tip = p[4 if side < 0 else 12] * 0.55 + p[31 if side < 0 else 35] * 0.45
        along = tip - root
        across = np.array([-along[1], along[0]]) / np.linalg.norm(along) * 0.155 * u
        tone, edge = solid(face.style.skin_ramp[178]), solid(face.style.skin_ramp[112])
        palm = np.vstack([root - across * 2.2, root + across * 2.2])
        away = along / np.linalg.norm(along) * u
        back = np.vstack([palm, palm[::-1] - away * 2])
        layer.stroke(palm[[0, 1]], edge, 0.20 * u)
        layer.smooth_fill(back, tone)
        for index, reach in enumerate(rng.uniform(0.78, 1.0, 4) * (0.86, 1.0, 0.97, 0.78)):
            foot = root + across * (index - 1.5)
            finger = np.stack(
                [foot - away * 0.1, foot + along * reach + across * (index - 1.5) * 0.12]
            )
            layer.stroke(finger, edge, 0.178 * u)
            layer.stroke(finger, tone, 0.155 * u)
            nail = finger[1] + away * 0.015
            layer.disc(nail, 0.042 * u, solid(face.style.skin_ramp[222]))
    elif kind < 0.75:  # scarf or mask over the mouth
        cloth = fabric(rng)
        top = np.vstack([face.contour[3], p[30] * 0.6 + p[33] * 0.4, face.contour[13]])
        low = face.contour[3:14] + face.down * 0.03 * u
        layer.smooth_fill(np.vstack([spline(top), low[::-1]]), solid(cloth))
        for step in (0.3, 0.5, 0.7):
            fold = top * (1 - step) + low[[0, 5, 10]] * step
            layer.stroke(spline(fold), solid(cloth * 0.86), 0.014 * u)
    else:  # a thing held up: phone, book
        turn = rng.uniform(-0.5, 0.5)
        rotation = np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
        box = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * rng.uniform((0.22, 0.4), (0.4, 0.6))
        centre = face.camera((rng.uniform(-0.75, 0.75), rng.uniform(0.6, 1.1), 0.3))
        colour = fabric(rng)
        layer.smooth_fill(centre + box @ rotation * u, solid(colour * 0.8))
        layer.smooth_fill(centre + box @ rotation * u * 0.90, solid(colour))


def camera_faults(image, rng) -> np.ndarray:
    """Exposure, tint, defocus, noise and JPEG artefacts of a photograph; uint8 in and out."""
    levels = np.arange(256) / 255
    gamma = np.exp(rng.normal(0, 0.15))
    gain = rng.uniform(0.80, 1.04) * (1 + rng.normal(0, 0.018, 3))
    offset = rng.uniform(-0.02, 0.04)
    table = (levels[:, None] ** gamma) * gain + offset
    image = cv2.LUT(image, np.clip(table * 255, 0, 255).astype(np.uint8)[None])
    if rng.random() < 0.04:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.1) * image.shape[0] / 256)
    if rng.random() < 0.5:
        strength = rng.uniform(3, 16)
        grain = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
        table = np.arange(256) / 255 * strength
        noisy = cv2.add(image, cv2.LUT(grain, table.astype(np.uint8)))
        # The stubs know no scalars.
        image = cv2.subtract(noisy, (strength / 2,) * 4)  # pyright: ignore
    if rng.random() < 0.15:
        _, packed = cv2.imencode(
            ".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 85))]
        )
        image = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))
    return image

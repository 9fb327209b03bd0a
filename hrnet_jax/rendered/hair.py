"""Hair and beard of a synthetic face.

Positions are continuous image pixels, colours RGB, as in `synthetic_paint`.
"""

import cv2
import numpy as np

from hrnet_jax.rendered import shape as shape
from hrnet_jax.rendered.paint import Layer, ramp, spline, surface_light
from hrnet_jax.rendered.scene import pick, solid


class Hair:
    """The hair of one face: a lit texture, drawn through shapes in front of and behind the head."""

    def __init__(self, face, rng, size, scale):
        self.face, self.rng, self.scale = face, rng, scale
        style = face.style
        head = face.head
        self.centre, self.radii = head.skull_centre, head.skull_radii * style.volume
        whole = np.zeros(2), np.full(2, size)
        level = surface_light(face.camera, self.centre, self.radii, face.light, *whole)
        tones = ramp(style.hair, (0.30, 0.28, 0.30), 0.45)
        self.tones = tones
        small = tones[np.clip(level * 1.35 - 60, 0, 255).astype(np.uint8)]
        side = round(size * scale / 4)
        self.texture = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)

    def _paste(self, layer, polygons):
        around = np.concatenate(polygons)
        window = layer.window(around, step=4)
        if window.pixels.size:
            low = np.rint(window.origin * self.scale / 4).astype(int)
            rows, cols = np.array(window.pixels.shape[:2]) // 4
            texture = self.texture[low[1] : low[1] + rows, low[0] : low[0] + cols]
            window.paste(texture, polygons)

    def _strands(self, layer, lines, width=0.010):
        """Draws lines in tones a little darker and lighter than the hair."""
        for index, level in enumerate((84, 108, 136, 168)):
            if len(lines[index::4]):
                layer.stroke(
                    lines[index::4], solid(self.tones[level]), width * self.face.unit, smooth=False
                )

    def behind(self, layer):
        """What falls behind the neck: drawn before the body."""
        face, style = self.face, self.face.style
        if style.length <= 0:
            return
        out, low = 0.80 * style.volume + 0.06, 0.35 + style.length
        rng = self.rng
        flare = rng.uniform(-0.08, 0.14)
        top = 0.52 * style.volume
        half = np.array([(top, -0.80), (out * 0.97, -0.25), (out + flare * 0.5, low * 0.6)])
        half = np.vstack([half, [(out * 0.96 + flare, low)]])
        tips = np.array([(out * 0.5, low + 0.06), (0, low + 0.02)])
        outline = np.vstack([half, tips, (half * (-1, 1))[::-1]])
        outline = np.column_stack([outline, np.full(len(outline), -0.85)])
        outline = spline(face.camera(outline), closed=True, steps=8)
        if style.curl:
            middle = outline.mean(axis=0)
            bumps = 1 + style.curl * np.abs(np.sin(np.arange(len(outline)) * 0.9))
            outline = middle + (outline - middle) * bumps[:, None]
        self._paste(layer, [outline])
        x = np.linspace(-0.9, 0.9, 21)[:, None, None]
        y = np.linspace(-0.3, low * 0.97, 5)[None, :, None]
        bend = 1 + 0.10 * np.sin(y * style.wave + x * 9)
        lines = np.concatenate([x * out * bend + 0 * y, y + 0 * x, -0.85 + 0 * (x + y)], axis=2)
        self._strands(layer, spline(face.camera(lines)), 0.014)

    def over_skull(self, layer):
        """The hair on the head: drawn before the skin of the face."""
        face, style, rng = self.face, self.face.style, self.rng
        count = 40
        angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
        outline = ellipsoid = shape.ellipsoid_outline(self.centre, self.radii, face.camera, angles)
        middle = ellipsoid.mean(axis=0)
        if style.curl:
            bumps = 1 + style.curl * np.abs(np.sin(angles * 7.5 + rng.uniform(0, 3)))
            outline = middle + (ellipsoid - middle) * bumps[:, None]
        elif style.tousle:
            tufts = np.abs(np.sin(angles * 9 + style.wave)) * np.maximum(-np.sin(angles), 0)
            lift = 1 + style.tousle * (tufts + np.maximum(-np.sin(angles), 0))
            outline = middle + (ellipsoid - middle) * lift[:, None]
        shapes = [spline(outline, closed=True)]
        if style.bun:
            bun = face.camera((0, -1.20, -0.95))
            circle = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 0.30 * face.unit
            shapes.append(bun + circle)
        self._paste(layer, shapes)
        if style.curl:
            self._curls(layer, middle, ellipsoid)
        else:
            self._strands(layer, self._meridians(), 0.008 if style.length <= 0 else 0.012)

    def _meridians(self):
        """Lines combed over the skull from the parting, image pixels."""
        style, rng = self.face.style, self.rng
        turn = np.linspace(0, 2 * np.pi, 33)[:-1, None] + rng.uniform(-0.08, 0.08, (32, 1))
        drop = np.linspace(0.15, 1.0, 6)[None, :] * (np.pi * 0.56)
        x = np.sin(drop) * np.cos(turn) + style.parting * np.cos(drop) * 0.6
        y, z = -np.cos(drop) + 0 * turn, np.sin(drop) * np.sin(turn)
        surface = np.stack([x, y, z], axis=2)
        surface /= np.linalg.norm(surface, axis=2, keepdims=True)
        facing = (surface / self.radii) @ self.face.camera.rotation[2]
        lines = self.face.camera(self.centre + surface * self.radii * 0.985)
        # Lines that leave the visible side are left out from their first hidden point on.
        seen = np.logical_and.accumulate(facing > 0, axis=1)
        last = np.maximum(seen.sum(axis=1) - 1, 0)
        order = np.minimum(np.arange(6), last[:, None])
        return spline(np.take_along_axis(lines, order[..., None], axis=1)[last > 1], steps=3)

    def _curls(self, layer, middle, outline):
        rng, u, count = self.rng, self.face.unit, 80
        reach = 0.97 * rng.random((count, 1)) ** 0.5
        spot = middle + reach * (outline[rng.integers(len(outline), size=count)] - middle)
        turn = rng.uniform(0, 2 * np.pi, (count, 1)) + np.linspace(0, 3.6, 6)
        size = rng.uniform(0.02, 0.045, (count, 1, 1)) * u
        curls = spot[:, None] + size * np.stack([np.cos(turn), np.sin(turn)], axis=2)
        self._strands(layer, curls, 0.018)

    def in_front(self, layer):
        """Fringe and side locks: drawn over the face."""
        face, style, rng, at = self.face, self.face.style, self.rng, self.face.camera
        if not style.fringe:
            self._hairline(layer)
        if style.fringe:
            edge = face.hairline
            crown = self._on_skull(
                np.array([(0.55, -0.80), (0.3, -0.98), (0, -1.0), (-0.3, -0.98), (-0.55, -0.80)])
            )
            low = style.fringe
            x = np.linspace(-0.60, 0.60, 9)
            if style.fringe_side:
                fall = (
                    -0.66 + (low + 0.66) * np.clip(0.55 + 0.75 * x * style.fringe_side, 0, 1) ** 0.8
                )
            else:
                fall = low + 0.16 * np.abs(x) ** 2 + 0.02 * np.sin(np.arange(9) * 2.2)
            tips = self._on_skull(np.column_stack([x, fall]))
            outline = np.vstack([edge[[0]], edge[[2]], crown, edge[[8]], edge[[10]], tips])
            self._paste(layer, [outline])
            roots = self._on_skull(
                np.column_stack([x * 0.6 + style.parting * 0.2, np.full(9, -0.95)])
            )
            between = np.linspace(0, 8, 25)
            ends = np.stack([np.interp(between, np.arange(9), tips[:, k]) for k in (0, 1)], axis=1)
            begins = np.stack(
                [np.interp(between, np.arange(9), roots[:, k]) for k in (0, 1)], axis=1
            )
            bend = (begins + ends) / 2 - face.down * 0.07 * face.unit
            lines = np.stack([begins, bend, ends * 0.97 + bend * 0.03], axis=1)
            self._strands(layer, spline(lines), 0.012)
        if style.locks:
            low = style.length * 0.9 + 0.35
            for side in (-1, 1):
                if side * face.camera.yaw > 0.45:
                    continue  # hidden behind the far cheek
                inner = np.array(
                    [
                        (0.40, -0.66, 0.0),
                        (0.66, -0.42, -0.22),
                        (0.73, -0.05, -0.46),
                        (0.73, 0.4, -0.58),
                    ]
                )
                inner = np.vstack([inner, [(0.76, low, -0.52)]])
                outer = inner[::-1] + [
                    [0.14, 0.04, -0.2],
                    [0.20, 0, -0.2],
                    [0.14, 0, -0.3],
                    [0.10, -0.06, -0.2],
                    [0, -0.1, -0.1],
                ]
                lock_in, lock_out = at(inner * (side, 1, 1)), at(outer * (side, 1, 1))
                self._paste(layer, [np.vstack([spline(lock_in), spline(lock_out)])])
                share = rng.uniform(0.08, 0.95, 7)[:, None, None]
                lines = lock_in * (1 - share) + lock_out[::-1] * share
                self._strands(layer, spline(lines), 0.012)

    def _hairline(self, layer):
        """Short hairs across the edge of the forehead, which would look cut out without them."""
        face, rng = self.face, self.rng
        edge = spline(face.hairline, steps=6)[6:-6]
        outward = (edge - edge.mean(axis=0)) * 0.16 - face.down * 0.05 * face.unit
        start = edge + face.down * rng.uniform(0.0, 0.022, (len(edge), 1)) * face.unit
        hairs = np.stack([start, edge + outward * rng.uniform(0.5, 1.2, (len(edge), 1))], axis=1)
        self._strands(layer, hairs, 0.006)

    def _on_skull(self, xy):
        """Where the front of the hair has these head-frame x and y, image pixels."""
        offset = (xy - self.centre[:2]) / self.radii[:2]
        far = np.maximum(np.linalg.norm(offset, axis=1, keepdims=True), 1)
        offset = offset / far
        z = np.sqrt(np.clip(1 - (offset**2).sum(axis=1), 0, None))
        xyz = np.column_stack([offset, z * 0.97]) * self.radii + self.centre
        return self.face.camera(xyz)


def beard_weight(window, face, rng):
    """Where a beard, a moustache or both cover the skin: (H, W, 1) float32, 0 … 1.

    Args:
      window: layer that gives the window, (H, W).
    """
    p, u = face.points, face.unit
    kind = pick(rng, ["full", "full", "chin", "moustache"])
    mask = Layer(np.zeros(window.pixels.shape[:2], np.float32), window.scale, window.origin)
    if kind != "chin":
        across = (p[54] - p[48]) * 0.06
        droop = face.down * 0.05 * u
        top = p[[31, 33, 35]] * 0.55 + p[[49, 51, 53]] * 0.45
        edge = np.vstack([p[48] - across + droop, top, p[54] + across + droop])
        mask.fill(np.vstack([spline(edge), p[[54, 53, 52, 51, 50, 49, 48]]]), 1)
    if kind != "moustache":
        first = 1 if kind == "full" else 6
        jaw = face.contour[first : 17 - first]
        lower = p[[54, 55, 56, 57, 58, 59, 48]]
        if kind == "full":  # from the sideburns down the cheeks to the corners of the mouth
            right = [p[54] * w + face.contour[k] * (1 - w) for k, w in ((14, 0.2), (13, 0.55))]
            left = [p[48] * w + face.contour[k] * (1 - w) for k, w in ((3, 0.55), (2, 0.2))]
            outline = np.vstack([jaw, right, lower, left])
        else:
            outline = np.vstack([jaw, lower[1:-1] + face.down * 0.05 * u])
        mask.fill(outline, 1)
    soft = cv2.GaussianBlur(mask.pixels, (0, 0), 0.026 * u * window.scale + 0.3)
    grain = rng.uniform(0.72, 1.0, soft.shape)
    return (soft * grain * face.style.beard).astype(np.float32)[..., None]

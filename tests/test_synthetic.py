import cv2
import numpy as np
import pytest

from hrnet_jax.errors import HRNetError
from hrnet_jax.rendered import SyntheticFaces, render_face
from hrnet_jax.rendered import shape as shape
from hrnet_jax.rendered.paint import Layer, spline
from hrnet_jax.schemes import W300


@pytest.fixture(scope="module")
def points():
    faces = SyntheticFaces(200, seed=3, size=64)
    return np.stack([faces[i][1] for i in range(len(faces))])


def test_shapes_types_and_length():
    faces = SyntheticFaces(5, seed=0, size=96)
    image, points = faces[4]
    assert len(faces) == 5
    assert image.shape == (96, 96, 3) and image.dtype == np.uint8
    assert points.shape == (68, 2) and points.dtype == np.float64
    with pytest.raises(IndexError):
        faces[5]


@pytest.mark.parametrize("size", [31, 16])
def test_unusable_size_says_so(size):
    with pytest.raises(HRNetError, match="side must be even"):
        render_face(np.random.default_rng(0), size)


def test_a_face_depends_on_seed_and_index_alone():
    first, again = SyntheticFaces(30, seed=7), SyntheticFaces(3000, seed=7)
    for index in (20, 3):
        (image, points), (image_2, points_2) = first[index], again[index]
        assert image.tobytes() == image_2.tobytes()
        assert points.tobytes() == points_2.tobytes()


def test_seeds_and_indices_give_different_faces():
    shapes = [SyntheticFaces(6, seed=s, size=64)[i][1] for s in (0, 1, 2) for i in range(6)]
    distance = np.abs(np.stack(shapes)[:, None] - np.stack(shapes)).max(axis=(2, 3))
    assert distance[~np.eye(len(shapes), dtype=bool)].min() > 0.5


def test_size_scales_the_same_face():
    small, large = (SyntheticFaces(1, seed=4, size=s)[0][1] for s in (64, 128))
    np.testing.assert_allclose(large, 2 * small, atol=1e-9)


def test_faces_lie_in_the_image(points):
    assert np.isfinite(points).all()
    assert ((points >= 0) & (points < 64)).mean() > 0.995
    side = (points.max(axis=1) - points.min(axis=1)).max(axis=1) / 64
    assert 0.41 < side.min() and side.max() < 0.63


def test_order_of_the_landmarks(points):
    x, y = points[..., 0], points[..., 1]
    for left, right in [(0, 16), (36, 39), (39, 42), (42, 45), (48, 54), (17, 26), (31, 35)]:
        assert (x[:, left] < x[:, right]).all()
    for above, below in [(27, 30), (51, 57), (57, 8), (19, 37), (24, 44), (37, 41)]:
        assert (y[:, above] < y[:, below]).mean() > 0.99


def test_a_frontal_face_is_its_own_mirror_image():
    front = shape.Camera(yaw=0.0, pitch=0.0, roll=0.0)
    for seed in range(20):
        head = shape.sample_head(np.random.default_rng(seed))
        flat = front(head.points)
        mirrored = flat[W300.flip_permutation] * (-1, 1)
        ocular = np.linalg.norm(flat[36] - flat[45])
        assert np.abs(flat - mirrored).max() < 0.08 * ocular


@pytest.mark.parametrize("yaw", [-0.7, -0.3, 0.3, 0.7])
def test_far_contour_slides_to_the_silhouette_and_the_near_one_stays(yaw):
    head = shape.sample_head(np.random.default_rng(1))
    contour, _ = shape.face_outline(head, shape.Camera(yaw=yaw, pitch=0.0, roll=0.0))
    moved = np.linalg.norm(contour - head.points[:17], axis=1)
    far, near = (slice(10, 15), slice(2, 7)) if yaw > 0 else (slice(2, 7), slice(10, 15))
    assert moved[near].max() < 1e-9
    assert moved[far].min() > 0.01


def test_drawing_keeps_the_half_pixel():
    for scale, side in ((2, 32), (4, 64)):
        layer = Layer(np.zeros((side, side), np.uint8), scale)
        layer.disc(np.array([6.5, 9.25]), 3.0, 255)
        rows, cols = np.indices(layer.pixels.shape)
        mass = layer.pixels.astype(float)
        centre = np.array([(cols * mass).sum(), (rows * mass).sum()]) / mass.sum() + 0.5
        # OpenCV rounds a filled shape's edges by about a tenth of its pixel.
        np.testing.assert_allclose(centre / scale, (6.5, 9.25), atol=0.15 / scale)


def test_splines_pass_through_their_points():
    corners = np.random.default_rng(0).normal(size=(6, 2))
    np.testing.assert_allclose(spline(corners, steps=5)[::5], corners, atol=1e-12)
    np.testing.assert_allclose(spline(corners, closed=True, steps=5)[::5], corners, atol=1e-12)


def _edge_offsets(pairs, faces, reach=8.0):
    """Signed distances, pixels, from a landmark to the strongest darkening on the way inwards.

    The way leads from outside the feature through landmark `a` towards landmark `b`.
    """
    along = np.arange(-reach, reach, 0.25)
    offsets = []
    for image, points in faces:
        grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 1.0)
        for a, b in pairs:
            inwards = (points[b] - points[a]) / np.linalg.norm(points[b] - points[a])
            x, y = (points[a] + along[:, None] * inwards - 0.5).astype(np.float32).T
            profile = cv2.remap(grey, x[None], y[None], cv2.INTER_LINEAR)[0].astype(float)
            offsets.append(along[np.argmin(np.gradient(profile))])
    return np.array(offsets)


def test_eye_and_chin_landmarks_sit_on_painted_edges():
    faces = SyntheticFaces(24, seed=11, size=512)
    faces = [faces[i] for i in range(len(faces))]
    # The dark line of the upper lid is centred on the landmarks and about 5 pixels wide here, so
    # its outer edge lies about 2.5 pixels outside; occluded eyes make the median necessary.
    lids = _edge_offsets([(37, 41), (38, 40), (43, 47), (44, 46)], faces)
    assert -3.0 < np.median(lids) < -0.5
    assert np.mean(np.abs(lids - np.median(lids)) < 1.5) > 0.7
    # From the lit chin into the shadow on the neck.
    chins = -_edge_offsets([(8, 57)], [(255 - image, points) for image, points in faces])
    assert abs(np.median(chins)) < 1.5


def test_the_mean_shape_leaves_something_to_learn(points):
    low, high = points.min(axis=1), points.max(axis=1)
    centre, side = (low + high)[:, None] / 2, (high - low).max(axis=1)[:, None, None]
    mean = ((points - centre) / side).mean(axis=0)
    ocular = np.linalg.norm(points[:, 36] - points[:, 45], axis=1)
    error = np.linalg.norm(mean * side + centre - points, axis=2).mean(axis=1) / ocular
    assert 0.08 < error.mean() < 0.35  # about 0.24: most of it is head pose

"""Serving from threads: what several threads get is what one gets."""

import threading

import numpy as np
import pytest

from hrnet_jax import devices
from hrnet_jax.inference.detector import HaarDetector, YuNetDetector
from hrnet_jax.inference.predictor import Predictor
from tests.dots import compiled_once, dot_model, picture  # noqa: F401

pytestmark = pytest.mark.usefixtures("compiled_once")

THREADS = 16


def in_threads(function, items):
    """[function(item)], the items shared out among 16 threads that start together."""
    results, faults = [None] * len(items), []
    ready = threading.Barrier(THREADS)

    def work(first):
        try:
            ready.wait()
            for k in range(first, len(items), THREADS):
                results[k] = function(items[k])
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(k,), daemon=True) for k in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads), "threads wait for each other"
    assert not faults, faults[0]
    return results


def test_a_predictor_gives_each_thread_its_own_faces():
    predictor = Predictor(dot_model())
    image = picture(260, 320, [(61.0, 40.0, 241.0, 220.0)])
    boxes = [
        [(61.0 - k, 40.0 + i, 241.0, 220.0) for i in range(1 + k % 3)] for k in range(2 * THREADS)
    ]
    expected = [predictor(image, boxes=some) for some in boxes]
    for found, faces in zip(
        in_threads(lambda some: predictor(image, boxes=some), boxes), expected, strict=True
    ):
        assert len(found) == len(faces)
        for a, b in zip(found, faces, strict=True):
            np.testing.assert_array_equal(a.landmarks, b.landmarks)


def test_compiled_functions_run_one_at_a_time():
    running, most = 0, 0

    @devices.one_at_a_time
    def first(value):
        return observed(value)

    @devices.one_at_a_time
    def second(value):
        return observed(-value)

    def observed(value):
        nonlocal running, most
        running += 1
        most = max(most, running)
        threading.Event().wait(0.001)
        running -= 1
        return value

    items = list(range(1, 65))
    found = in_threads(lambda k: first(k) if k % 2 else second(k), items)
    assert found == [k if k % 2 else -k for k in items]
    assert most == 1


@pytest.mark.parametrize("kind", ["haar", "yunet"])
def test_one_detector_serves_threads(kind, shared):
    from hrnet_jax.images import read_image

    if kind == "haar":
        detector = HaarDetector()
        detector._side = 240  # of the searched picture: a tenth of the time
    else:
        detector = YuNetDetector(shared / "data" / "detectors" / "yunet_n_dynamic.onnx")
    folder = shared / "data" / "faces"
    whole = [read_image(path) for path in sorted(folder.glob("*.jpg"))[:4]]
    images = [image[: 200 + 40 * k, : 300 - 20 * k] for image in whole for k in range(4)]
    expected = [detector(image) for image in images]
    for found, truth in zip(in_threads(detector, images), expected, strict=True):
        np.testing.assert_array_equal(found[0], truth[0])
        np.testing.assert_array_equal(found[1], truth[1])

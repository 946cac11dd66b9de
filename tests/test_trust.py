"How far to trust a prediction: pictures unlike the training images are told, lesions carry a probability"
import numpy as np
import pytest

from busiseg_nb.inference import fit_familiar, picture_statistics, unlikeness
from busiseg_nb.phantom import phantom_image, xray_image
from busiseg_nb.predict import doubt

LABELS = ('benign', 'malignant', 'normal')


@pytest.fixture(scope='module')
def known():
    images = [phantom_image(label, (141, 168), seed)[0] for seed in range(60) for label in LABELS]
    looks = np.stack([picture_statistics(img) for img in images])
    return fit_familiar(looks[:120], looks[120:])


class Model:
    def __init__(self, **meta):
        self.meta = meta


def strange():
    rng = np.random.default_rng(0)
    down, across = np.mgrid[:141, :168]
    yield from (rng.integers(0, 256, (141, 168), dtype=np.uint8), np.zeros((141, 168), np.uint8))
    yield from (np.clip(rng.normal(128, s, (141, 168)), 0, 255).astype(np.uint8) for s in (5, 30, 80))
    yield from ((255*across/168).astype(np.uint8), (255*down/141).astype(np.uint8))
    yield from (xray_image(128, seed)[0] for seed in range(6))
    data = pytest.importorskip('skimage.data')
    yield from (getattr(data, name)() for name in ('camera', 'coins', 'moon', 'page', 'brick', 'grass'))


def test_noise_gradients_photographs_and_x_rays_are_unlike_ultrasound(known):
    flagged = [unlikeness(picture_statistics(img), known) > 1 for img in strange()]
    assert np.mean(flagged) >= .95
    fresh = [phantom_image(label, (141, 168), 900 + seed)[0] for seed in range(10) for label in LABELS]
    assert np.mean([unlikeness(picture_statistics(img), known) > 1 for img in fresh]) <= .15


def test_size_and_colour_channels_hardly_matter(known):
    img = phantom_image('benign', (282, 336), 77)[0]
    one = unlikeness(picture_statistics(img), known)
    three = unlikeness(picture_statistics(np.repeat(img[..., None], 3, 2)), known)
    assert one == pytest.approx(three, rel=1e-6)
    assert np.isfinite(picture_statistics(np.zeros((1, 1), np.uint8))).all()


def test_a_doubtful_picture_is_noted_and_each_lesion_has_a_probability(known):
    noise = np.random.default_rng(0).integers(0, 256, (141, 168), dtype=np.uint8)
    rows = [{'peak_probability': .9}, {'peak_probability': .6}]
    unlike, notes = doubt(Model(familiar=known, lesion_calibration=[2., -1.]), noise, rows)
    assert unlike > 1 and 'do not trust' in notes[0]
    odds = np.log(.9/.1)/2 - 1
    assert rows[0]['lesion_probability'] == pytest.approx(1/(1 + np.exp(-odds)), abs=1e-4)
    assert rows[0]['lesion_probability'] > rows[1]['lesion_probability']
    assert doubt(Model(), noise, rows) == (None, [])

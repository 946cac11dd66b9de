"DICOM files of other people against another rendering of them; and the masks of the grid of containers"
import functools
import importlib.util
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from busiseg_nb.core import BusisegError
from busiseg_nb.images import iter_images, read_image
from busiseg_nb.models import build_model
from busiseg_nb.predict import predict_files, predict_image
from fuzz_targets import NET
from test_images import GRID
from test_predict import GRAY, RGB

# ---- pydicom's files, and those of pydicom-data where it is installed ----

REFUSALS = {   # what each refusal of a file with a picture says, by the file's name
    'JPEG-lossy.dcm': 'in a form that no decoder reads',            # 12 bits
    'JPGExtended.dcm': 'in a form that no decoder reads',
    'JPEG2000-embedded-sequence-delimiter.dcm': 'more than 1,000,000,000', # its stream is cut in its header
    'MR_truncated.dcm': 'cannot be read', 'liver': 'is a DICOM segmentation'}


def files():
    "DICOM files on this machine"
    found = []
    for package, folder in (('pydicom', 'data/test_files'), ('data_store', 'data')):
        if spec := importlib.util.find_spec(package):
            found += sorted((Path(spec.origin).parent/folder).rglob('*.dcm'))
    return [path for path in found if path.is_file()]


def rendered(path):
    "What pydicom makes of the first frame: its tables and windows, and which end is white"
    pydicom = pytest.importorskip('pydicom')
    from pydicom import pixels
    ds = pydicom.dcmread(path, force=True)
    if not ds.file_meta.get('TransferSyntaxUID'):
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    values, kind = pixels.pixel_array(ds, index=0), str(ds.PhotometricInterpretation)
    if kind == 'PALETTE COLOR':
        return pixels.apply_color_lut(values, ds)[..., :3]
    if not kind.startswith('MONOCHROME'):
        return values
    values = pixels.apply_voi_lut(pixels.apply_modality_lut(values, ds), ds)
    inverse = kind == 'MONOCHROME1' or ds.get('PresentationLUTShape') == 'INVERSE'
    return values.max() - values if inverse else values


def ranks(values):
    "About 20,000 pixels as ranks of gray"
    from scipy.stats import rankdata
    gray = values.astype(float) if values.ndim == 2 else values[..., :3].astype(float).mean(2)
    return rankdata(gray.ravel()[::max(1, gray.size//20000)])


@pytest.mark.parametrize('path', files(), ids=lambda p: p.name)
def test_as_a_viewer_shows_it(path, record_property):
    "Neither black nor inverted; a file with a picture that is refused stands in `REFUSALS`"
    try:
        _, values, _ = next(iter_images(path))
    except BusisegError as e:
        says = next((says for name, says in REFUSALS.items() if path.name.startswith(name)), '')
        none = ('holds no pixel data', 'no picture')
        assert e.remedy and (says and says in e.problem or any(word in e.problem for word in none)), e
        return
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        if path.name == 'badVR.dcm':                 # pydicom refuses its number of frames
            return
        other = rendered(path)
    assert values.shape[:2] == other.shape[:2]
    ours, theirs = ranks(values), ranks(other)
    record_property("DICOM files as another renders them", 1)
    assert np.ptp(theirs) == 0 or np.corrcoef(ours, theirs)[0, 1] > .9


# ---- the mask of each container ----

@functools.cache
def network():
    "A small network of random weights whose mask has all classes"
    torch.manual_seed(0)
    net = build_model(**NET).eval()
    with torch.no_grad():
        scores = net(torch.from_numpy(GRAY[None, None].astype(np.float32)/255)[..., :64, :64])
        net.segmentation_head[0].bias -= scores.mean((0, 2, 3))
    return net


@functools.cache
def mask_of_bytes(data, shape, path):
    predict_image(network(), np.frombuffer(data, np.uint8).reshape(shape), path, bf16=False)
    return np.asarray(Image.open(path))


@pytest.fixture(scope='module')
def mask_of(tmp_path_factory):
    "A picture's mask, computed once for the same bytes"
    path = tmp_path_factory.mktemp('masks')/'mask.png'
    return lambda values: mask_of_bytes(values.tobytes(), values.shape, path)


def test_the_grid_gives_the_mask_of_its_png(mask_of, tmp_path, record_property):
    "Each combination is read; the network sees each different array of bytes once"
    Image.fromarray(GRAY).save(tmp_path/'gray.png')
    Image.fromarray(RGB).save(tmp_path/'rgb.png')
    want = {name: mask_of(read_image(tmp_path/f'{name}.png')[0][1]) for name in ('gray', 'rgb')}
    assert all(len(np.unique(mask)) > 1 for mask in want.values())
    for name, (write, colour) in GRID.items():
        write(tmp_path/name)
        kind = 'rgb' if colour and 'rgb' in name else 'gray'
        assert np.array_equal(mask_of(read_image(tmp_path/name)[0][1]), want[kind]), name
    record_property('combinations with the mask of their PNG', len(GRID))
    assert len(GRID) >= 300 and mask_of_bytes.cache_info().misses <= 3   # gray, gray in colour, colour


def test_the_command_gives_the_mask_of_its_png(tmp_path):
    "One file of each way through the reader, all in a folder"
    names = ['8-gray-turn1.png', '16-gray-turn6.png', '16-rgb-turn6.png', '8-big-turn6.tif',
             '16-big-turn8.tif',
             '12-little-turn6-rgb.tif', '16-big-turn1-white.tif', '8-big-turn3-signed.tif',
             '12-big-True-groups.dcm', '16-deflated-False-exact.dcm', '10-of-16.dcm', 'float162.tif',
             'palette1662.dcm', 'turn6.webp', 'turn1.jp2']
    (tmp_path/'in').mkdir()
    for name in names:
        GRID[name][0](tmp_path/'in'/f'{name.replace(".", "-")}{Path(name).suffix}')
    Image.fromarray(RGB).save(tmp_path/'in'/'plain-rgb.png')
    done = predict_files([tmp_path/'in'], tmp_path/'out', network(), bf16=False)
    masks = {Path(im['file']).name: np.asarray(Image.open(tmp_path/'out'/im['mask']))
             for im in done['images']}
    assert not done['failed'] and len(masks) == len(names) + 1
    for file, mask in masks.items():
        want = masks['plain-rgb.png' if '-rgb' in file else '8-gray-turn1-png.png']
        assert np.array_equal(mask, want), file
    shutil.rmtree(tmp_path/'out')

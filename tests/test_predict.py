"Files in, masks out: every format, records, names, lesions, and the command"
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

from busiseg_nb import images as I
from busiseg_nb import predict as P
from busiseg_nb.core import COLOURS, BusisegError
from busiseg_nb.images import read_image, to_uint8
from busiseg_nb.models import build_model, save_model
from busiseg_nb.phantom import phantom_image
from busiseg_nb.predict import Lesions, find_inputs, predict_files, predict_image

GRAY = phantom_image('malignant', (60, 80), seed=4)[0]
RGB = np.dstack([GRAY, GRAY//2, 255 - GRAY])


class Dark(torch.nn.Module):
    "Three classes by gray value: below 40 malignant, below 90 benign"
    in_channels, tile_size, resize, classes = 1, 64, None, 3
    class_names = ['background', 'benign', 'malignant']

    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(1))      # hashed into the name of the model

    def forward(self, x):
        x = x.float()
        return torch.cat([x*0, (90 - x)*.2, (90 - x)*.2 + (40 - x)], 1) + self.bias


def dicom(path, a, kind='MONOCHROME2', bits=None, syntax=None, **tags):
    "Write a small DICOM file; a: (H,W[,3]) or (frames,H,W[,3])"
    pydicom = pytest.importorskip('pydicom')
    ds = pydicom.Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = '1.2.840.10008.5.1.4.1.1.6.1', '1.2.3', 'US'
    colour = a.shape[-1] == 3
    frames = a.ndim - 2 - colour
    ds.Rows, ds.Columns = a.shape[frames:frames + 2]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 3 if colour else 1, kind
    ds.PixelRepresentation = int(a.dtype.kind == 'i')
    if frames:
        ds.NumberOfFrames = len(a)
    if colour:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated, ds.BitsStored = 8*a.itemsize, bits or 8*a.itemsize
    ds.HighBit, ds.PixelData = ds.BitsStored - 1, a.tobytes()
    for k, v in tags.items():
        setattr(ds, k, v)
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax or pydicom.uid.ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)
    return ds


def pil(mode, **save):
    return lambda p: Image.fromarray(RGB).convert(mode).save(p, **save)


def exif6(p):
    e = Image.Exif()
    e[0x0112] = 6                                            # shown turned a quarter to the right
    Image.fromarray(np.rot90(GRAY).copy()).save(p, exif=e)


def palette_gray(p):
    im = Image.fromarray(255 - GRAY)
    im.putpalette([c for v in range(256) for c in (255 - v,)*3])
    im.save(p)


def dicom_ybr(p):
    ybr = np.asarray(Image.fromarray(RGB).convert('YCbCr'))
    dicom(p, ybr, 'YBR_FULL')


def dicom_palette(p):
    lut = np.arange(256, dtype=np.uint16)[::-1]*257
    d = [256, 0, 16]
    dicom(p, 255 - GRAY, 'PALETTE COLOR', **{f'{c}PaletteColorLookupTableDescriptor': d
                                             for c in ('Red', 'Green', 'Blue')},
          **{f'{c}PaletteColorLookupTableData': lut.tobytes() for c in ('Red', 'Green', 'Blue')})


def dicom_jpeg(p):
    pydicom = pytest.importorskip('pydicom')
    import io
    b = io.BytesIO()
    Image.fromarray(GRAY).save(b, 'JPEG', quality=95)
    dicom(p, GRAY, syntax=pydicom.uid.JPEGBaseline8Bit, PixelData=pydicom.encaps.encapsulate([b.getvalue()]))

def dicom_enhanced(p):
    "A signed 16-bit slice with a rescale, a window and one gray value below each of its ends"
    dicom(p, GRAY.astype(np.int16)*4 - 500, bits=16, RescaleSlope=2, RescaleIntercept=1000,
          WindowCenter=1020.5, WindowWidth=2041)


def no_suffix(p):
    dicom(p, GRAY)


FORMATS = {   # name: (writer, what is read, largest difference)
    'gray.png': (lambda p: Image.fromarray(GRAY).save(p), GRAY, 0),
    'rgb.png': (pil('RGB'), RGB, 0),
    'rgba.png': (lambda p: Image.fromarray(np.dstack([RGB, 255 - GRAY])).save(p), RGB, 0),
    'la.png': (lambda p: Image.merge('LA', [Image.fromarray(GRAY)]*2).save(p), GRAY, 0),
    'palette.png': (palette_gray, np.dstack([GRAY]*3), 0),
    'one-bit.png': (lambda p: Image.fromarray(GRAY > 60).save(p), (GRAY > 60)*np.uint8(255), 0),
    'deep.png': (lambda p: Image.fromarray(GRAY.astype(np.uint16)*257).save(p), GRAY, 0),
    'twelve.png': (lambda p: Image.fromarray(GRAY.astype(np.uint16)*16).save(p), GRAY, 0),
    'gray.gif': (lambda p: Image.fromarray(GRAY).save(p), np.dstack([GRAY]*3), 0),
    'gray.jpg': (lambda p: Image.fromarray(GRAY).save(p, quality=98), GRAY, 8),
    'rgb.jpeg': (pil('RGB', quality=98, subsampling=0), RGB, 12),
    'cmyk.jpg': (pil('CMYK', quality=98), RGB, 12),
    'turned.jpg': (exif6, GRAY, 60),
    'gray.tif': (lambda p: Image.fromarray(GRAY).save(p, compression='tiff_lzw'), GRAY, 0),
    'deep.tif': (lambda p: Image.fromarray(GRAY.astype(np.uint16)*257).save(p), GRAY, 0),
    'big-endian.tif': (lambda p: Image.frombytes('I;16B', GRAY.shape[::-1],
                                                 (GRAY.astype('>u2')*257).tobytes()).save(p), GRAY, 0),
    'float.tiff': (lambda p: Image.fromarray((GRAY/255).astype(np.float32)).save(p), GRAY, 0),
    'int.tif': (lambda p: Image.fromarray(GRAY.astype(np.int32)).save(p), GRAY, 0),
    'cmyk.tif': (pil('CMYK'), RGB, 2),
    'rgb.bmp': (pil('RGB'), RGB, 0),
    'gray.bmp': (pil('L'), np.asarray(Image.fromarray(RGB).convert('L')), 0),
    'lossless.webp': (pil('RGB', lossless=True), RGB, 0),
    'rgba.webp': (lambda p: Image.fromarray(np.dstack([RGB, np.full_like(GRAY, 255)])).save(p, lossless=True),
                  RGB, 0),
    'wrong-suffix.png': (lambda p: Image.fromarray(GRAY).save(p, format='BMP'), GRAY, 0),
    'mono2.dcm': (lambda p: dicom(p, GRAY), GRAY, 0),
    'mono1.dcm': (lambda p: dicom(p, 255 - GRAY, 'MONOCHROME1'), GRAY, 0),
    'twelve.dcm': (lambda p: dicom(p, GRAY.astype(np.uint16)*16, bits=12), GRAY, 0),
    'window.dcm': (dicom_enhanced, GRAY, 1),
    'rgb.dcm': (lambda p: dicom(p, RGB, 'RGB'), RGB, 0),
    'ybr.dicom': (dicom_ybr, RGB, 3),
    'palette.dcm': (dicom_palette, np.dstack([GRAY]*3), 0),
    'jpeg.dcm': (dicom_jpeg, GRAY, 12),
    'nosuffix': (no_suffix, GRAY, 0)}


HUGE_FORMATS = {'png': {}, 'tif': {'compression': 'tiff_lzw'}, 'bmp': {}, 'webp': {'lossless': True},
                'jpg': {'quality': 95}}

@pytest.mark.parametrize('mode', ['RGB', 'RGBA'])
@pytest.mark.parametrize('suffix', HUGE_FORMATS)
def test_a_huge_colour_image_is_read_as_gray(tmp_path, monkeypatch, suffix, mode):
    "Here 'huge' is 1,000 pixels: gray within rounding of Pillow's, upright, an error where it is cut off"
    if mode == 'RGBA' and suffix in ('jpg', 'bmp'):
        pytest.skip('has no alpha')
    file, exif = tmp_path/f'a.{suffix}', Image.Exif()
    exif[0x0112] = 6
    turned = {} if suffix == 'bmp' else {'exif': exif}
    Image.fromarray(RGB).convert(mode).save(file, **HUGE_FORMATS[suffix], **turned)
    want = np.asarray(ImageOps.exif_transpose(Image.open(file)).convert('RGB').convert('L')).astype(int)
    monkeypatch.setattr(I, 'HUGE', 1000)
    (_, a, info), = read_image(file)
    assert a.shape == want.shape and np.abs(a - want).max() <= (3 if suffix == 'jpg' else 1)
    assert 'read as gray, for its size' in info['notes']
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(BusisegError, match='a.' + suffix):
        read_image(file)


@pytest.mark.parametrize('name', FORMATS)
def test_formats(name, tmp_path):
    write, want, off = FORMATS[name]
    write(tmp_path/name)
    [(stem, a, info)] = read_image(tmp_path/name)
    assert a.dtype == np.uint8 and a.shape == want.shape and a.flags.writeable and stem == Path(name).stem
    assert np.abs(a.astype(int) - want).max() <= off
    assert info['frame'] is None and info['file'] == name


def test_what_is_noted(tmp_path):
    exif6(tmp_path/'a.jpg')
    assert 'upright' in read_image(tmp_path/'a.jpg')[0][2]['notes'][0]
    Image.fromarray(GRAY).save(tmp_path/'b.webp', save_all=True, append_images=[Image.fromarray(255 - GRAY)],
                               lossless=True)
    [(_, a, info)] = read_image(tmp_path/'b.webp')
    assert 'animation of 2 frames' in info['notes'][0]
    assert np.abs(a.reshape(60, 80, -1)[..., 0].astype(int) - GRAY).max() == 0
    Image.fromarray(RGB).save(tmp_path/'c.png')
    assert 'coloured' in read_image(tmp_path/'c.png')[0][2]['notes'][0]
    dicom(tmp_path/'d.dcm', GRAY, BurnedInAnnotation='YES')
    assert 'burned' in read_image(tmp_path/'d.dcm')[0][2]['notes'][0]


def test_pages_and_frames(tmp_path):
    Image.fromarray(GRAY).save(tmp_path/'p.tif', save_all=True,
                               append_images=[Image.fromarray(RGB), Image.fromarray(255 - GRAY)])
    names, arrays, infos = zip(*read_image(tmp_path/'p.tif'), strict=True)
    assert names == ('p_001', 'p_002', 'p_003') and [i['frame'] for i in infos] == [1, 2, 3]
    assert (arrays[0] == GRAY).all() and (arrays[1] == RGB).all() and (arrays[2] == 255 - GRAY).all()
    dicom(tmp_path/'c.dcm', np.stack([GRAY, 255 - GRAY]))
    frames = zip(read_image(tmp_path/'c.dcm'), (GRAY, 255 - GRAY), strict=True)
    assert all((a == b).all() for (_, a, _), b in frames)
    dicom(tmp_path/'rgb.dcm', np.stack([RGB, RGB[::-1]]), 'RGB')
    assert (read_image(tmp_path/'rgb.dcm')[1][1] == RGB[::-1]).all()


@pytest.mark.parametrize('tags, want', [
    (dict(PixelSpacing=[.1, .2]), (.1, .2)), (dict(ImagerPixelSpacing=[.3, .3]), (.3, .3)),
    (dict(PixelSpacing=[0, .2]), None), ({}, None),
    ('regions', (.05, .06)), ('shared', (.2, .25))], ids=str)
def test_spacing(tags, want, tmp_path):
    pydicom = pytest.importorskip('pydicom')
    def region(x1, dx, dy, unit=3):
        r = pydicom.Dataset()
        r.RegionSpatialFormat, r.PhysicalUnitsXDirection, r.PhysicalUnitsYDirection = 1, unit, unit
        r.RegionLocationMinX0 = r.RegionLocationMinY0 = 0
        r.RegionLocationMaxX1, r.RegionLocationMaxY1, r.PhysicalDeltaX, r.PhysicalDeltaY = x1, 50, dx, dy
        return r
    if tags == 'regions':
        tags = dict(SequenceOfUltrasoundRegions=[region(10, .1, .1), region(70, .006, -.005),
                                                 region(79, 1., 1., 4)])
    if tags == 'shared':
        m, g = pydicom.Dataset(), pydicom.Dataset()
        m.PixelSpacing = [.2, .25]
        g.PixelMeasuresSequence = [m]
        tags = dict(SharedFunctionalGroupsSequence=[g])
    dicom(tmp_path/'a.dcm', GRAY, **tags)
    got = read_image(tmp_path/'a.dcm')[0][2]['spacing']
    assert got == want if want is None else got == pytest.approx(want)


def test_mask_overlay_and_report(tmp_path):
    dicom(tmp_path/'a.dcm', GRAY, PixelSpacing=[.1, .2])
    r = predict_files([tmp_path/'a.dcm'], tmp_path/'out', Dark(), bf16=False)
    mask = Image.open(tmp_path/'out'/'a_mask.png')
    want = np.where(GRAY < 40, 2, np.where(GRAY < 90, 1, 0))
    assert mask.mode == 'P' and mask.getpalette()[:9] == [c for rgb in COLOURS for c in rgb]
    m = np.array(mask)
    assert ((m == want) | np.isin(GRAY, (39, 40, 89, 90))).all()
    [im] = r['images']
    assert im['area_px'] == {n: int((m == i).sum())
                             for i, n in enumerate(('background', 'benign', 'malignant'))}
    assert im['area_mm2']['malignant'] == pytest.approx((m == 2).sum()*.02, abs=1e-3)
    big = im['lesions'][0]
    assert big['class'] in ('benign', 'malignant') and .4 < big['probability'] <= 1
    assert big['area_mm2'] == pytest.approx(big['area_px']*.02, abs=1e-3)
    row = pd.read_csv(tmp_path/'out'/'report.csv').iloc[0]
    assert row.height == 60 and row.width == 80 and row.malignant_px == (m == 2).sum()
    assert row.lesions == len(im['lesions']) and row['mask'] == 'a_mask.png'
    written = json.loads((tmp_path/'out'/'report.json').read_text())
    assert written['images'] == json.loads(json.dumps(r['images']))
    assert Image.open(tmp_path/'out'/'a_overlay.png').size == (80, 60)


def test_done_work_is_kept_until_something_changes(tmp_path):
    a, out = tmp_path/'a.png', tmp_path/'out'
    Image.fromarray(GRAY).save(a)
    dark = Dark()

    def run(model=dark, **kw):
        r = predict_files([a], out, model, **kw)
        return [r['predicted'], r['kept']]
    assert run() == [1, 0] and run() == [0, 1]
    os.utime(a, (1, 1))
    assert run() == [0, 1]                                                          # the same bytes
    assert run(overlap=.5) == [1, 0] and run(overlap=.5) == [0, 1]                  # settings
    assert run() == [1, 0] and run(force=True) == [1, 0]
    other = Dark()
    other.bias.data += .1
    assert run(other) == [1, 0] and run() == [1, 0]                                 # weights
    (out/'a_overlay.png').unlink()
    assert run() == [1, 0]                                                          # a result is gone
    (out/'a.json').write_text('{')
    # a record we cannot read: another name
    assert run() == [1, 0]
    assert (out/'a_png_mask.png').exists() and (out/'a.json').read_text() == '{'
    Image.fromarray(255 - GRAY).save(a)
    assert run() == [1, 0]                                                          # other pixels


def test_an_interrupted_file_is_done_again(tmp_path, monkeypatch):
    Image.fromarray(GRAY).save(tmp_path/'a.png')
    real = P.write_json
    def stop(obj, path):
        if obj.get('settings') is not None:
            raise KeyboardInterrupt
        real(obj, path)
    monkeypatch.setattr(P, 'write_json', stop)
    with pytest.raises(KeyboardInterrupt):
        predict_files([tmp_path/'a.png'], tmp_path/'out', Dark())
    monkeypatch.setattr(P, 'write_json', real)
    r = predict_files([tmp_path/'a.png'], tmp_path/'out', Dark())
    assert r['predicted'] == 1 and r['images'][0]['mask'] == 'a_mask.png'


def test_equal_stems_get_different_results(tmp_path):
    for f in ('x/a.png', 'x/a.bmp', 'y/a.png', 'y/report.png', 'x/A.PNG'):
        (tmp_path/f).parent.mkdir(exist_ok=True)
        Image.fromarray(np.roll(GRAY, len(f) + ord(f[0]) + ord(f[2]), 0)).save(tmp_path/f)
    Image.fromarray(GRAY).save(tmp_path/'x'/'c.tif', save_all=True, append_images=[Image.fromarray(GRAY.T)])
    Image.fromarray(255 - GRAY).save(tmp_path/'x'/'c_001.png')
    for _ in range(2):
        r = predict_files([tmp_path/'x', *sorted((tmp_path/'y').iterdir())], tmp_path/'out', Dark())
        masks = [(i['folder'], i['mask'].lower()) for i in r['images']]
        assert len(r['images']) == 8 == len(set(masks)) and not r['failed']
    assert r['kept'] == 7
    # alone, it finds its own results again
    r2 = predict_files([tmp_path/'x'/'a.bmp'], tmp_path/'out', Dark())
    assert r2['kept'] == 1


def test_folders_keep_their_shape_and_do_not_eat_their_results(tmp_path):
    data = tmp_path/'data'
    (data/'benign').mkdir(parents=True)
    for n in ('benign (10)', 'benign (2)'):
        Image.fromarray(GRAY).save(data/'benign'/f'{n}.png')
        Image.fromarray(GRAY > 9).save(data/'benign'/f'{n}_mask.png')
    truth = (data/'benign'/'benign (2)_mask.png').read_bytes()
    (data/'.hidden.png').write_text('')
    (data/'notes.txt').write_text('')
    for out in (data/'out', data):
        for _ in range(2):
            r = predict_files([data], out, Dark())
            assert [Path(i['file']).name for i in r['images']] == ['benign (2).png', 'benign (10).png']
            assert not r['failed']
    assert (data/'out'/'benign'/'benign (2)_mask.png').exists()
    # what is there is never written over
    assert (data/'benign'/'benign (2)_mask.png').read_bytes() == truth


def test_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for n in ('a.png', 'b.jpg', 'c[1].png'):
        Image.fromarray(GRAY).save(n)
    Path('empty').mkdir()

    def names(*given):
        return [p.name for p, _ in find_inputs(given, 'out')[0]]
    assert names('*.png') == ['a.png', 'c[1].png'] and names('c[1].png') == ['c[1].png']
    assert names('.', 'a.png') == ['a.png', 'b.jpg', 'c[1].png']
    found, bad = find_inputs(['nothing.png', 'empty', '*.xyz'], 'out')
    assert not found and [b[0] for b in bad] == ['nothing.png', 'empty', '*.xyz']


def test_lesions_in_bands():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = (Image.fromarray(rng.integers(0, 256, (12, 12), np.uint8)).resize((70, 60), Image.BICUBIC))
        mask = np.digitize(np.asarray(mask), (110, 150)).astype(np.uint8)
        prob = rng.random(mask.shape, np.float32)
        whole = Lesions(3)
        whole.add(mask, prob)
        want = whole.table('abc')
        for n in (1, 7, 31):
            banded = Lesions(3)
            for a in range(0, 60, n):
                banded.add(mask[a:a + n], prob[a:a + n])
            got = banded.table('abc')
            assert [g | {'probability': 0} for g in got] == [w | {'probability': 0} for w in want]
            assert np.allclose([g['probability'] for g in got], [w['probability'] for w in want], atol=2e-4)
            assert (banded.pixels == np.bincount(mask.ravel(), minlength=3)).all()
    two = np.zeros((20, 20), np.uint8)
    # touch at a corner: one lesion
    two[2:8, 2:8], two[8:15, 8:15] = 1, 1
    found = Lesions(2)
    found.add(two, np.full((20, 20), .5, np.float32))
    [row] = found.table(('bg', 'x'), (.5, 2.))
    assert row['axes_mm'] == [round((6.5**2 + 26**2)**.5, 2),
                              round(abs(7*.5*26 + 7*2*6.5)/(6.5**2 + 26**2)**.5, 2)]
    assert row.pop('axes_mm') and row == {'class': 'x', 'box': [2, 2, 13, 13], 'area_px': 85,
                                          'probability': .5, 'area_mm2': 85.,
                                          'peak_probability': .5, 'axes_px': [18.4, 9.9]}
    assert Lesions(2).table(('bg', 'x')) == []


def test_large_images_are_written_in_bands(tmp_path, monkeypatch):
    img = phantom_image('malignant', (500, 333), seed=2)[0]
    monkeypatch.setattr(P, 'OVERLAY_SIDE', 128)
    a = predict_image(Dark(), img, tmp_path/'a.png', tmp_path/'ao.png', bf16=False)
    b = predict_image(Dark(), img, tmp_path/'b.png', tmp_path/'bo.png', large=100, bf16=False)

    def strip(report):
        return report | {'lesions': [lesion | {'probability': 0} for lesion in report['lesions']]}
    assert strip(a) == strip(b)
    x, y = Image.open(tmp_path/'a.png'), Image.open(tmp_path/'b.png')
    assert (np.array(x) == np.array(y)).all() and y.mode == 'P' and y.getpalette()[:9] == x.getpalette()[:9]
    assert (np.array(Image.open(tmp_path/'ao.png')) == np.array(Image.open(tmp_path/'bo.png'))).all()
    assert Image.open(tmp_path/'bo.png').size == (84, 125)                           # reduced by 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.png', 'ao.png', 'b.png', 'bo.png']


def test_a_failure_leaves_nothing_half_written(tmp_path):
    class Breaks(Dark):
        def forward(self, x):
            raise RuntimeError('no\nmemory')
    Image.fromarray(np.tile(GRAY, (2, 2))).save(tmp_path/'a.png')
    said = []
    r = predict_files([tmp_path/'a.png'], tmp_path/'out', Breaks(), say=said.append)
    assert len(r['failed']) == 1 == len(said) and '\n' not in said[0]
    assert not list((tmp_path/'out').glob('*.png')) and not list((tmp_path/'out').glob('.*'))


def test_any_size_and_a_limit_of_our_own(tmp_path, monkeypatch):
    for size in ((1, 1), (1, 300), (65, 64)):
        f = tmp_path/f'{size[0]}x{size[1]}.png'
        Image.fromarray(np.zeros(size, np.uint8)).save(f)
        r = predict_files([f], tmp_path/'out', Dark())
        assert np.array(Image.open(tmp_path/'out'/f'{f.stem}_mask.png')).shape == size and not r['failed']
    # as if 65x64 were far beyond Pillow's limit
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    assert read_image(tmp_path/'65x64.png')[0][1].shape == (65, 64) and Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setattr(I, 'MAX_PIXELS', 4000)
    with pytest.raises(BusisegError, match='4,160 pixels'):
        read_image(tmp_path/'65x64.png')


def test_no_model_and_no_pydicom(tmp_path, monkeypatch):
    monkeypatch.setattr(P, 'files', lambda _: tmp_path)
    with pytest.raises(BusisegError, match='--model'):
        P.default_model()
    (tmp_path/'a.dcm').write_bytes(b'\0'*128 + b'DICM' + b'\0'*99)
    monkeypatch.setitem(sys.modules, 'pydicom', None)
    with pytest.raises(BusisegError, match=r'pip install "busiseg_nb\[dicom\]"'):
        read_image(tmp_path/'a.dcm')


def test_to_uint8():
    assert to_uint8(np.array([[0, 70000]], np.int32))[0, 1] == 136                   # 17 bits
    assert to_uint8(np.array([[0., 254.6]])).tolist() == [[0, 255]]
    assert to_uint8(np.array([[-1., 1.]])).tolist() == [[0, 255]]
    assert to_uint8(np.full((3, 3), 7e9)).tolist() == [[0]*3]*3


def test_the_command(tmp_path):
    "A good file, a bad one and a missing one: a report on standard output, two lines of errors, status 2"
    model = save_model(build_model('tu-mobilenetv3_small_050', None, in_channels=1, decoder_channels=(8,)*5,
                                   tile_size=64, resize=64), tmp_path/'model')
    Image.fromarray(GRAY).save(tmp_path/'a.png')
    (tmp_path/'b.png').write_text('no image')
    env = os.environ | {'PYTHONPATH': str(Path(__file__).resolve().parent.parent)}

    def run(*args):
        command = [sys.executable, '-m', 'busiseg_nb.cli', 'predict', *args, '--model', str(model)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env)
    r = run('a.png', 'b.png', 'c.png', '-o', 'out', '--json', '--tta', 'hflip', '--overlap', '.5', '--jobs',
            '2')
    assert r.returncode == 2 and json.loads(r.stdout)['predicted'] == 1
    assert sorted(line.split(':')[0] for line in r.stderr.splitlines()) == ['b.png', 'c.png']
    assert json.loads(r.stdout)['settings']['tta'] == 'hflip' and (tmp_path/'out'/'a_overlay.png').exists()
    r = run('a.png', '--no-overlay', '--whole', '--resize', 'native')
    assert r.returncode == 0 and r.stdout.startswith('1 predicted') and not r.stderr
    assert not (tmp_path/'predictions'/'a_overlay.png').exists()

"One reader: the same picture in any container gives the same bytes; millimetres by place; old faults"

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from busiseg_nb import images as I
from busiseg_nb.core import BusisegError
from busiseg_nb.images import (
    Region,
    Spacing,
    image_size,
    iter_images,
    load_picture,
    read_image,
    whole_spacing,
)
from busiseg_nb.predict import Lesions, predict_files, search_inputs, summary
from test_predict import GRAY, RGB, dicom

ROOT = Path(__file__).resolve().parent.parent
CASES = ROOT.parent / 'shared' / 'cases'
UNTURN = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}  # what undoes an orientation


def deep(bits, colour=False):
    "The picture with values that use `bits` bits, (H,W) or (H,W,3)"
    a = (RGB if colour else GRAY).astype(np.int64)
    return ((a * (2**bits - 1) + 127) // 255).astype(np.uint8 if bits == 8 else np.uint16)


def turned(a, orientation):
    "How a picture is stored that is to be turned so"
    return I._turn(a, UNTURN[orientation])


def exif(orientation):
    e = Image.Exif()
    e[I.ORIENTATION] = orientation
    return e


# ---- the grid: container x depth x byte order x orientation x photometric x window ----


def png(bits, colour, orientation):
    "A PNG of 8 or 16 bits"

    def write(p):
        a = turned(deep(bits, colour), orientation)
        if bits > 8 and colour:
            import cv2

            cv2.imwrite(str(p), a[..., ::-1])
            add_exif(p, orientation)
        else:
            Image.fromarray(a).save(p, exif=exif(orientation))

    return write


def add_exif(p, orientation):
    "Put an eXIf chunk before the end of a PNG"
    import zlib

    data, body = p.read_bytes(), b'eXIf' + exif(orientation).tobytes().removeprefix(b'Exif\0\0')
    chunk = struct.pack('>I', len(body) - 4) + body + struct.pack('>I', zlib.crc32(body))
    p.write_bytes(data[:-12] + chunk + data[-12:])


def tif(values, orientation=1, order='<', photometric='minisblack', **how):
    "A TIFF as tifffile writes it"

    def write(p):
        tifffile = pytest.importorskip('tifffile')
        tag = [(I.ORIENTATION, 'H', 1, orientation, True)]
        tifffile.imwrite(
            p, turned(values, orientation), byteorder=order, photometric=photometric, extratags=tag, **how
        )

    return write


def signed(bits):
    "Values around zero"
    return (deep(bits).astype(np.int64) - 2 ** (bits - 1)).astype(np.int8 if bits == 8 else np.int16)


SYNTAXES = {
    'explicit': '1.2.840.10008.1.2.1',
    'implicit': '1.2.840.10008.1.2',
    'big': '1.2.840.10008.1.2.2',
    'deflated': '1.2.840.10008.1.2.1.99',
}


def window_tags(window, bits):
    "Tags of a window over all values, at the top or in functional groups"
    pydicom = pytest.importorskip('pydicom')
    top = 2**bits - 1
    tags = {
        'none': {},
        'linear': dict(WindowCenter=top / 2 + 0.5, WindowWidth=top + 1),
        'exact': dict(WindowCenter=top / 2, WindowWidth=top, VOILUTFunction='LINEAR_EXACT'),
        'empty': dict(WindowCenter=None, WindowWidth=None),
    }
    if window != 'groups':
        return tags[window]
    voi, group = pydicom.Dataset(), pydicom.Dataset()
    for key, value in tags['linear'].items():
        setattr(voi, key, value)
    group.FrameVOILUTSequence = [voi]
    return dict(SharedFunctionalGroupsSequence=[group])


def dcm(bits, syntax, white, window, stored=None):
    "A gray DICOM file"

    def write(p):
        a = deep(bits).astype(np.uint16 if (stored or bits) > 8 else np.uint8)
        a = (2 ** (stored or bits) - 1 - a.astype(np.int64)).astype(a.dtype) if white else a
        if SYNTAXES[syntax] == SYNTAXES['big']:
            a = a.astype(a.dtype.newbyteorder('>'))
        dicom(
            p,
            a,
            'MONOCHROME1' if white else 'MONOCHROME2',
            stored or bits,
            SYNTAXES[syntax],
            **window_tags(window, stored or bits),
        )

    return write


def palette(order, entries, bits):
    "A DICOM file in palette colour that gives the gray picture"

    def write(p):
        lut = (np.arange(256)[::-1] * (257 if bits == 16 else 1)).astype(f'{order}u{entries // 8}')
        big = order == '>'
        tags = {
            f'{c}PaletteColorLookupTable{k}': v
            for c in ('Red', 'Green', 'Blue')
            for k, v in (('Descriptor', [256, 0, entries]), ('Data', lut.tobytes()))
        }
        dicom(p, 255 - GRAY, 'PALETTE COLOR', 8, SYNTAXES['big' if big else 'explicit'], **tags)

    return write


def grid():
    "Name of a file, what writes it, whether it is in colour"
    for bits in (8, 10, 12, 14, 16):
        for colour in (False, True):
            for o in range(1, 9):
                yield f'{bits}-{"rgb" if colour else "gray"}-turn{o}.png', png(bits, colour, o), colour
        for order in '<>':
            for o in (1, 3, 6, 8):
                name = f'{bits}-{"little" if order == "<" else "big"}-turn{o}'
                yield f'{name}.tif', tif(deep(bits), o, order), False
                yield f'{name}-rgb.tif', tif(deep(bits, True), o, order, 'rgb'), True
                if bits in (8, 16):
                    yield f'{name}-white.tif', tif(2**bits - 1 - deep(bits), o, order, 'miniswhite'), False
                    yield f'{name}-signed.tif', tif(signed(bits), o, order), False
        for syntax in SYNTAXES:
            for white in (False, True):
                for window in ('none', 'linear', 'exact', 'empty', 'groups'):
                    yield f'{bits}-{syntax}-{white}-{window}.dcm', dcm(bits, syntax, white, window), False
        yield f'{bits}-of-16.dcm', dcm(bits, 'explicit', False, 'none', 16), False
    for order in '<>':
        yield f'float1{ord(order)}.tif', tif((GRAY / 255).astype(np.float32), 1, order), False
        yield f'float255{ord(order)}.tif', tif(GRAY.astype(np.float32), 6, order), False
        yield f'double{ord(order)}.tif', tif(GRAY.astype(np.float64), 1, order), False
        yield f'palette16{ord(order)}.dcm', palette(order, 16, 16), True
        yield f'palette16of8{ord(order)}.dcm', palette(order, 16, 8), True
    yield 'palette8.dcm', palette('<', 8, 8), True
    for o in range(1, 9):
        yield f'turn{o}.webp', lambda p, o=o: save(p, o, lossless=True), True
        yield f'turn{o}.jp2', lambda p, o=o: Image.fromarray(GRAY).save(p, irreversible=False), False


def save(p, o, **how):
    Image.fromarray(turned(np.dstack([GRAY] * 3), o)).save(p, exif=exif(o), **how)


GRID = {name: (write, colour) for name, write, colour in grid()}


@pytest.mark.parametrize('name', GRID)
def test_one_picture_in_any_container(name, tmp_path):
    "The bytes of the 8-bit PNG, hence its mask; in training, too; and its size without decoding"
    write, colour = GRID[name]
    write(tmp_path / name)
    [(_, a, info)] = read_image(tmp_path / name)
    want = RGB if colour and ('rgb' in name) else GRAY
    got = a if a.ndim == want.ndim else a[..., 0]
    assert a.shape[:2] == GRAY.shape and np.array_equal(got, want), info['notes']
    assert (
        load_picture(tmp_path / name, 1).shape == (*GRAY.shape, 1)
        and image_size(tmp_path / name) == GRAY.shape
    )


def test_the_grid_is_wide():
    assert len(GRID) >= 300


def test_a_new_container_is_a_line_in_the_table(tmp_path, monkeypatch):
    def frames(path, most):
        yield (
            None,
            np.frombuffer(path.read_bytes()[4:], np.uint8).reshape(2, 3),
            {'notes': [], 'scale': Spacing()},
        )

    monkeypatch.setitem(I.READERS, 'raw', I.Reader(lambda path, head: head[:4] == b'RAW!', frames, ('.raw',)))
    (tmp_path / 'a.raw').write_bytes(b'RAW!abcdef')
    assert load_picture(tmp_path / 'a.raw', 1)[..., 0].tolist() == [[97, 98, 99], [100, 101, 102]]


# ---- the safety net ----


@pytest.mark.parametrize(
    'a, says',
    [
        (np.zeros((64, 64), np.uint8), 'gray level'),
        (GRAY // 64 * 64, 'gray levels'),
        (np.where(np.percentile(GRAY, 98) < GRAY, GRAY, 0), 'of one gray value'),
        (GRAY // 16 + 99, 'contrast'),
    ],
    ids=['black', 'few levels', 'mostly black', 'flat'],
)
def test_an_odd_picture_is_noted(a, says, tmp_path):
    Image.fromarray(np.kron(a, np.ones((2, 2), np.uint8)).astype(np.uint8)).save(tmp_path / 'a.png')
    assert any(says in note for note in read_image(tmp_path / 'a.png')[0][2]['notes'])


def test_what_was_done_is_noted(tmp_path):
    dicom(tmp_path / 'a.dcm', (GRAY.astype(np.uint16) * 467 // 255), bits=12)
    [(_, a, info)] = read_image(tmp_path / 'a.dcm')
    assert (a.min(), a.max()) == (0, 255) and 'range that is used' in info['notes'][0]
    clip = np.stack([GRAY // 2, GRAY]).astype(np.uint16) * 16
    dicom(tmp_path / 'c.dcm', clip, bits=16)
    assert [
        np.array_equal(a, want)
        for (_, a, _), want in zip(read_image(tmp_path / 'c.dcm'), (GRAY // 2, GRAY), strict=True)
    ] == [True] * 2


# ---- metadata that are missing, and files that are no pictures ----


@pytest.mark.parametrize(
    'gone',
    [
        'PixelRepresentation',
        'BitsStored',
        'HighBit',
        'SamplesPerPixel',
        'PhotometricInterpretation',
        'SOPClassUID',
        'Modality',
        'BitsAllocated',
    ],
)
def test_a_missing_field_refuses_no_picture(gone, tmp_path):
    pydicom = pytest.importorskip('pydicom')
    dicom(tmp_path / 'a.dcm', GRAY)
    for value in (None, ''):
        ds = pydicom.dcmread(tmp_path / 'a.dcm')
        del ds[gone]
        if value is not None and gone in ('PhotometricInterpretation', 'SOPClassUID', 'Modality'):
            setattr(ds, gone, value)
        ds.save_as(tmp_path / 'b.dcm')
        assert np.array_equal(read_image(tmp_path / 'b.dcm')[0][1], GRAY)


def without_meta(p):
    pydicom = pytest.importorskip('pydicom')
    dicom(p, GRAY, syntax='1.2.840.10008.1.2')
    ds = pydicom.dcmread(p)
    ds.file_meta.clear()
    ds.preamble = None
    pydicom.dcmwrite(p, ds, implicit_vr=True, little_endian=True)


def sop(uid, **tags):
    return lambda p: dicom(p, GRAY, SOPClassUID=uid, **tags)


def bare(data):
    return lambda p: p.write_bytes(data)


REFUSED = [
    ('video.dcm', lambda p: video(p), 'is a video inside DICOM (MPEG-4'),
    ('cine.mp4', bare(b'\0\0\0\x18ftypisom' + bytes(99)), 'is a video'),
    ('a.h264', bare(b'\0\0\0\1\x67' + bytes(99)), 'is a video'),
    ('a.nii', bare(b'\x5c\1\0\0' + bytes(340) + b'n+1\0'), 'is a NIfTI volume'),
    ('a.heic', bare(b'\0\0\0\x18ftypheic' + bytes(9)), 'is a HEIC'),
    ('a.zip', bare(b'PK\3\4' + bytes(99)), 'is an archive'),
    ('a.pdf', bare(b'%PDF-1.7' + bytes(99)), 'is a PDF'),
    ('DICOMDIR', sop('1.2.840.10008.1.3.10'), 'is a DICOMDIR'),
    ('sr.dcm', sop('1.2.840.10008.5.1.4.1.1.88.11'), 'is a structured report'),
    ('seg.dcm', sop('1.2.840.10008.5.1.4.1.1.66.4'), 'of 8 bit per pixel'),
    (
        'jpip.dcm',
        lambda p: dicom(p, GRAY, syntax='1.2.840.10008.1.2.4.94', PixelData=b'\xfe\xff\0\xe0' + bytes(4)),
        'JPIP',
    ),
]


def video(p):
    pydicom = pytest.importorskip('pydicom')
    dicom(p, GRAY, syntax='1.2.840.10008.1.2.4.102', PixelData=pydicom.encaps.encapsulate([bytes(100)]))


@pytest.mark.parametrize('name, write, says', REFUSED, ids=[r[0] for r in REFUSED])
def test_nothing_intact_is_called_damaged(name, write, says, tmp_path):
    write(tmp_path / name)
    with pytest.raises(BusisegError) as e:
        read_image(tmp_path / name)
    assert (
        says in str(e.value)
        and 'damaged' not in str(e.value)
        and e.value.remedy
        and str(tmp_path / name) in str(e.value)
    )


def test_without_meta(tmp_path):
    without_meta(tmp_path / 'a.dcm')
    [(_, a, info)] = read_image(tmp_path / 'a.dcm')
    assert np.array_equal(a, GRAY) and 'no file meta' in info['notes'][0]


def test_one_bit(tmp_path):
    pydicom = pytest.importorskip('pydicom')
    bits = (GRAY > 60).astype(np.uint8)
    dicom(
        tmp_path / 'a.dcm',
        bits,
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
        PixelData=pydicom.pixels.pack_bits(bits),
    )
    [(_, a, info)] = read_image(tmp_path / 'a.dcm')
    assert np.array_equal(a, bits * 255) and 'gray levels' in info['notes'][0]


def test_thumbnails_are_passed_over(tmp_path):
    tifffile = pytest.importorskip('tifffile')
    small = np.asarray(Image.fromarray(GRAY).resize((20, 15), Image.Resampling.BOX))
    for name, how in (('tagged', dict(subfiletype=1)), ('untagged', {})):
        with tifffile.TiffWriter(tmp_path / f'{name}.tif') as f:
            f.write(GRAY, photometric='minisblack')
            f.write(small, photometric='minisblack', **how)
        [(_, a, info)] = read_image(tmp_path / f'{name}.tif')
        assert np.array_equal(a, GRAY) and info['frame'] is None and 'reduced copy' in info['notes'][0]
    with tifffile.TiffWriter(tmp_path / 'other.tif') as f:
        f.write(GRAY, photometric='minisblack')
        f.write(255 - small, photometric='minisblack')
    assert len(read_image(tmp_path / 'other.tif')) == 2  # small, but of something else


def test_pydicoms_own_files(record_property):
    "Each is read, and not black, or refused in a line; what comes with pydicom and has pixels"
    pydicom = pytest.importorskip('pydicom')
    files = [p for p in (Path(pydicom.__file__).parent / 'data' / 'test_files').rglob('*.dcm') if p.is_file()]
    read = 0
    for path in files:
        try:
            _, a, _ = next(iter_images(path))
        except BusisegError as e:
            assert '\n' not in str(e) and e.remedy
        else:
            read += 1
            assert a.max() > 0 and np.ptp(a) > 0, path
    record_property("pydicom's files read", read)
    assert read > 50


# ---- millimetres ----


def region(left, top, right, bottom, cm=0.01, units=3, **tags):
    pydicom = pytest.importorskip('pydicom')
    r = pydicom.Dataset()
    r.RegionSpatialFormat, r.RegionDataType, r.RegionFlags = 1, 1, 0
    r.PhysicalUnitsXDirection = r.PhysicalUnitsYDirection = units
    r.RegionLocationMinX0, r.RegionLocationMinY0, r.RegionLocationMaxX1, r.RegionLocationMaxY1 = (
        left,
        top,
        right,
        bottom,
    )
    r.PhysicalDeltaX = r.PhysicalDeltaY = cm
    for key, value in tags.items():
        if value is None:
            del r[key]
        else:
            setattr(r, key, value)
    return r


LEFT, RIGHT, ALL = (0, 0, 39, 59), (40, 0, 79, 59), (0, 0, 79, 59)
# name: tags; mm of a lesion at x=5, one at x=55, one at x=35 (each 10 x 20 pixels); part of a note
ARRANGED = {
    'one': (lambda: dict(SequenceOfUltrasoundRegions=[region(*ALL)]), (0.1, 0.1, 0.1), None),
    'exclusive corner': (
        lambda: dict(SequenceOfUltrasoundRegions=[region(0, 0, 80, 60)]),
        (0.1, 0.1, 0.1),
        None,
    ),
    'two scales': (
        lambda: dict(SequenceOfUltrasoundRegions=[region(*LEFT), region(*RIGHT, 0.02)]),
        (0.1, 0.2, None),
        'several scales',
    ),
    'two of one scale': (
        lambda: dict(SequenceOfUltrasoundRegions=[region(*LEFT), region(*RIGHT)]),
        (0.1, 0.1, None),
        None,
    ),
    'only the left': (lambda: dict(SequenceOfUltrasoundRegions=[region(*LEFT)]), (0.1, None, None), None),
    'larger than the picture': (
        lambda: dict(SequenceOfUltrasoundRegions=[region(0, 0, 159, 119)]),
        (None,) * 3,
        'larger than the picture',
    ),
    'larger, and PixelSpacing': (
        lambda: dict(PixelSpacing=[0.3, 0.3], SequenceOfUltrasoundRegions=[region(0, 0, 159, 119)]),
        (None,) * 3,
        'not believed',
    ),
    'before PixelSpacing': (
        lambda: dict(PixelSpacing=[1, 1], SequenceOfUltrasoundRegions=[region(*ALL)]),
        (0.1, 0.1, 0.1),
        None,
    ),
    'PixelSpacing alone': (lambda: dict(PixelSpacing=[0.3, 0.3]), (0.3, 0.3, 0.3), None),
    'a placeholder': (lambda: dict(PixelSpacing=[1, 1]), (None,) * 3, 'not believed'),
    'no corner': (
        lambda: dict(SequenceOfUltrasoundRegions=[region(*ALL, RegionLocationMaxX1=None)]),
        (None,) * 3,
        'lacks a field',
    ),
    'no increment': (
        lambda: dict(SequenceOfUltrasoundRegions=[region(*ALL, PhysicalDeltaX=None)]),
        (None,) * 3,
        'lacks a field',
    ),
    'zero increment': (
        lambda: dict(SequenceOfUltrasoundRegions=[region(*ALL, 0.0)]),
        (None,) * 3,
        'no lengths',
    ),
    'backwards': (
        lambda: dict(SequenceOfUltrasoundRegions=[region(*ALL, PhysicalDeltaY=-0.01)]),
        (0.1, 0.1, 0.1),
        'backwards',
    ),
    'seconds': (
        lambda: dict(SequenceOfUltrasoundRegions=[region(*LEFT), region(*RIGHT, units=4)]),
        (0.1, None, None),
        'other than centimetres',
    ),
    'corners crossed': (
        lambda: dict(SequenceOfUltrasoundRegions=[region(39, 0, 0, 59)]),
        (None,) * 3,
        'no order',
    ),
    'overlap that disagrees': (
        lambda: dict(SequenceOfUltrasoundRegions=[region(*ALL), region(*RIGHT, 0.02)]),
        (0.1, None, None),
        'several scales',
    ),
    'overlap of two priorities': (
        lambda: dict(SequenceOfUltrasoundRegions=[region(*ALL, RegionFlags=1), region(*RIGHT, 0.02)]),
        (0.1, 0.2, None),
        'several scales',
    ),
    'a spectrum beside it': (
        lambda: dict(SequenceOfUltrasoundRegions=[region(*LEFT), region(*RIGHT, RegionSpatialFormat=3)]),
        (0.1, None, None),
        None,
    ),
    'none': (dict, (None,) * 3, None),
}


@pytest.mark.parametrize('name', ARRANGED)
def test_millimetres_by_place(name, tmp_path):
    "10 x 20 pixels: 200 px, hence mm²; axes: the hypotenuse, and what lies across it; by hand"
    tags, want, says = ARRANGED[name]
    dicom(tmp_path / 'a.dcm', GRAY, **tags())
    [(_, _, info)] = read_image(tmp_path / 'a.dcm')
    assert says is None or any(says in note for note in info['notes']), info['notes']
    for left, mm in zip((5, 55, 35), want, strict=True):
        mask, lesions = np.zeros(GRAY.shape, np.uint8), Lesions(2)
        mask[10:30, left : left + 10] = 1
        lesions.add(mask, np.ones(mask.shape, np.float32))
        [row] = lesions.table(('bg', 'x'), info['scale'])
        assert row['axes_px'] == [22.4, 17.9]  # sqrt(500), 400/sqrt(500)
        if mm is None:
            assert 'area_mm2' not in row and 'axes_mm' not in row
        else:
            assert row['area_mm2'] == pytest.approx(200 * mm * mm) and row['axes_mm'] == [
                round(22.36068 * mm, 2),
                round(17.88854 * mm, 2),
            ]


def test_classes_are_measured_pixel_by_pixel(tmp_path):
    "Each pixel in its region's scale; none of a class that has pixels where there is no scale"
    from busiseg_nb.predict import _Areas

    spacing = Spacing((Region((0, 0, 4, 6), (0.1, 0.1)), Region((4, 0, 8, 6), (0.2, 0.2))))
    mask = np.zeros((6, 10), np.uint8)
    mask[0, :8], mask[3, 8] = 1, 2
    areas = _Areas(3, spacing, 10)
    for top in range(0, 6, 2):
        areas.add(mask[top : top + 2])
    assert areas.mm2('abc') == {'a': None, 'b': pytest.approx(4 * 0.01 + 4 * 0.04), 'c': None}


def test_given_millimetres(tmp_path):
    from test_predict import Dark

    Image.fromarray(GRAY).save(tmp_path / 'a.png')
    dicom(tmp_path / 'b.dcm', GRAY, PixelSpacing=[0.3, 0.3])
    r = predict_files(
        [tmp_path / 'a.png', tmp_path / 'b.dcm'], tmp_path / 'out', Dark(), bf16=False, mm_per_pixel=0.1
    )
    a, b = r['images']
    assert (
        a['area_mm2']['background'] == pytest.approx(a['area_px']['background'] * 0.01)
        and 'as given: 0.1' in a['notes'][-1]
    )
    assert b['area_mm2']['background'] == pytest.approx(b['area_px']['background'] * 0.09)
    with pytest.raises(BusisegError, match='is no length'):
        whole_spacing(0)


# ---- folders ----


def test_every_file_is_accounted_for(tmp_path):
    pytest.importorskip('pydicom')
    src = tmp_path / 'in'
    for folder in ('', 'busbra/Images', 'busbra/Masks', 'udiat/original', 'udiat/GT'):
        (src / folder).mkdir(parents=True, exist_ok=True)
    for name in (
        'case001.png',
        'case001_tumor.png',
        'case001_other1.png',
        'b.png',
        'b_mask.jpg',
        'busbra/Images/bus_1-l.png',
        'busbra/Masks/mask_1-l.png',
        'udiat/original/1.png',
        'udiat/GT/1.png',
    ):
        Image.fromarray(GRAY).save(src / name)
    dicom(src / '1.2.840.113619.2.21.1', GRAY)
    dicom(src / 'IM_0001.IMA', GRAY)
    REFUSED[7][1](src / 'DICOMDIR')
    REFUSED[8][1](src / 'report.dcm')
    REFUSED[1][1](src / 'cine.mp4')
    (src / 'notes.txt').write_text('x')
    found, bad, passed = search_inputs([src], tmp_path / 'out')
    assert [p.name for p, _ in found] == [
        '1.2.840.113619.2.21.1',
        'b.png',
        '1-l.png'.join(['bus_', '']),
        'case001.png',
        'IM_0001.IMA',
        '1.png',
    ]
    assert not bad
    why = {p.relative_to(src).as_posix(): w for p, w in passed}
    assert (
        [w for w in why.values()].count('a mask') == 5
        and 'DICOMDIR' in why['DICOMDIR']
        and 'report' in why['report.dcm']
    )
    assert (
        'video' in why['cine.mp4']
        and why['notes.txt'] == 'of an unknown type (.txt)'
        and len(why) + len(found) == 15
    )


def test_a_dicomdir_alone_is_no_failure(tmp_path):
    from test_predict import Dark

    pytest.importorskip('pydicom')
    (tmp_path / 'in').mkdir()
    REFUSED[7][1](tmp_path / 'in' / 'DICOMDIR')
    r = predict_files([tmp_path / 'in'], tmp_path / 'out', Dark())
    assert (
        not r['failed']
        and summary(r)
        == '0 predicted, 0 kept from before, 0 failed, 1 passed over (1 a DICOMDIR, the index of a folder)'
    )


# ---- shared/cases, where it is ----


@pytest.fixture(scope='module')
def cases():
    if not CASES.is_dir():
        pytest.skip('shared/cases is not here')
    pytest.importorskip('pydicom')
    return CASES


@pytest.fixture(scope='module')
def original(busi):
    return np.asarray(Image.open(busi / 'malignant' / 'malignant (20).png').convert('L'))


SAME = [
    'us_region_without_maxx1.dcm',
    'us_empty_window.dcm',
    'us_16bit_values_0_255.dcm',
    'rgb_16bit_12_used.png',
    'white_is_zero_16bit.tif',
    'signed_int8.tif',
    'us_without_file_meta.dcm',
    'us_placeholder_spacing.dcm',
    'with_thumbnail_page.tif',
    'a.jp2',
    'folder_of_uids/1.2.840.113619.2.21.1',
    'folder_of_uids/IMG001.dic',
    'folder_of_uids/IM_0001.IMA',
]


@pytest.mark.parametrize('name', SAME)
def test_case_gives_the_same_picture(name, cases, original):
    [(_, a, _)] = read_image(cases / name)
    assert np.array_equal(a if a.ndim == 2 else a[..., 0], original)


def test_cases_that_give_other_pictures(cases, original):
    read = {
        name: read_image(cases / name)
        for name in (
            'uncompressed_orientation_6.tif',
            'us_linear_exact.dcm',
            'a.avif',
            'enhanced_12bit_no_window.dcm',
            'us_palette_big_endian.dcm',
            'us_palette_little_endian.dcm',
        )
    }
    assert np.array_equal(read['uncompressed_orientation_6.tif'][0][1], np.rot90(original, -1))
    want = np.rint(((original - 128.0) / 512 + 0.5) * 255)
    assert np.abs(read['us_linear_exact.dcm'][0][1] - want).max() <= 1
    assert np.abs(read['a.avif'][0][1][..., 0].astype(int) - original).max() < 12
    assert max(a.max() for _, a, _ in read['enhanced_12bit_no_window.dcm']) == 255
    assert np.array_equal(*(read[f'us_palette_{order}_endian.dcm'][0][1] for order in ('big', 'little')))


@pytest.mark.parametrize(
    'name, says',
    [
        ('mpeg4.dcm', 'video inside DICOM (MPEG-4'),
        ('cine.mp4', 'is a video'),
        ('a.nii', 'NIfTI'),
        ('one_bit.dcm', '1 bit per pixel'),
        ('folder_of_uids/DICOMDIR', 'DICOMDIR'),
    ],
)
def test_case_says_what_it_is(name, says, cases):
    with pytest.raises(BusisegError, match='; ') as e:
        read_image(cases / name)
    assert says in str(e.value) and 'damaged' not in str(e.value)


def test_case_jpeg_lossless(cases, monkeypatch):
    try:
        [(_, a, _)] = read_image(cases / 'us_jpeg_lossless.dcm')
    except BusisegError as e:
        assert 'JPEG Lossless' in str(e) and 'pip install' in str(e)
    else:
        assert a.shape == (768, 1024) and a.max() == 255


def test_cases_millimetres(cases):
    scale = {
        name: next(iter_images(cases / f'{name}.dcm'))[2]['scale']
        for name in (
            'us_half_size_copy',
            'us_two_regions_two_scales',
            'us_placeholder_spacing',
            'us_region_without_maxx1',
        )
    }

    def at(name, *box):
        return scale[name].at(box)[0]

    assert (
        at('us_half_size_copy', 100, 50, 50, 50) is None
        and at('us_region_without_maxx1', 100, 50, 50, 50) is None
    )
    assert at('us_two_regions_two_scales', 100, 50, 50, 50) == pytest.approx((0.1, 0.1))
    assert at('us_two_regions_two_scales', 700, 50, 50, 50) == pytest.approx((0.2, 0.2))
    assert at('us_two_regions_two_scales', 540, 50, 50, 50) is None
    assert at('us_placeholder_spacing', 100, 50, 50, 50) == pytest.approx((0.1, 0.1))


@pytest.mark.parametrize(
    'folder, images, masks',
    [
        ('folder_of_uids', 3, 0),
        ('busbra_layout', 6, 6),
        ('breast_layout', 2, 3),
        ('mixed_suffixes', None, None),
        ('udiat_layout', None, None),
        ('uclm_layout', None, None),
    ],
)
def test_cases_folders(folder, images, masks, cases, tmp_path):
    found, bad, passed = search_inputs([cases / folder], tmp_path)
    truth = sum(why == 'a mask' for _, why in passed)
    assert not bad and len(found) > 0 and (images is None or (len(found), truth) == (images, masks))
    assert images is not None or len(found) == truth

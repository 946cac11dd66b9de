"Kinds of files beside those of test_images' grid: each gives the phantom's picture, by a computation by hand"
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from busiseg_nb.core import BusisegError
from busiseg_nb.images import image_size, read_image
from test_images import SYNTAXES, add_exif, deep, exif, signed, tif, turned
from test_predict import GRAY, RGB, dicom

HEIGHT, WIDTH = GRAY.shape
GRAY3 = np.dstack([GRAY]*3)
DEEP = deep(12).astype(float)


def linear(values, centre, width):
    "The function LINEAR of PS3.3 C.11.2.1.2.1"
    return np.clip(np.rint(((values - (centre - .5))/(width - 1) + .5)*255), 0, 255)


def sigmoid(values, centre, width):
    "The function SIGMOID of PS3.3 C.11.2.1.3.1"
    return np.rint(255/(1 + np.exp(-4*(values - centre)/width)))


def exact(values, centre, width):
    "The function LINEAR_EXACT of PS3.3 C.11.2.1.3.2"
    return np.clip(np.rint(((values - centre)/width + .5)*255), 0, 255)


def items(**tags):
    "A sequence of one item"
    pydicom = pytest.importorskip('pydicom')
    ds = pydicom.Dataset()
    for key, value in tags.items():
        setattr(ds, key, value)
    return [ds]


def dcm(a, kind='MONOCHROME2', bits=None, syntax='explicit', **tags):
    "What writes a DICOM file; a tag may be a function, which is called when pydicom is there"
    def write(p):
        ready = {key: value() if callable(value) else value for key, value in tags.items()}
        dicom(p, a.astype(a.dtype.newbyteorder('>')) if syntax == 'big' else a, kind, bits, SYNTAXES[syntax],
              **ready)
    return write


def in_group(name, **tags):
    "The tag of a functional group that all frames share"
    return lambda: items(**{name: items(**tags)})


def lookup(bits=8, order='<', first=0):
    "A table of 12-bit values that makes DEEP the picture again: inverted, so that leaving it out shows"
    entries = np.round((4095 - np.arange(4096))/4095*(2**bits - 1)).astype(f'{order}u2')
    return dict(LUTDescriptor=[4096, first, bits], LUTData=entries.tobytes())


def jpeg(a, **how):
    f = io.BytesIO()
    Image.fromarray(a).save(f, 'JPEG', quality=98, **how)
    return f.getvalue()


def j2k(a):
    f = io.BytesIO()
    Image.fromarray(a).save(f, 'JPEG2000', no_jp2=True, irreversible=False)
    return f.getvalue()


def compressed(data, a, *header, lossless=False, **tags):
    "A DICOM file whose header is of `a`, and whose data are a stream"
    def write(p):
        pydicom = pytest.importorskip('pydicom')
        syntax = pydicom.uid.JPEG2000Lossless if lossless else pydicom.uid.JPEGBaseline8Bit
        kind, bits = (*header, None, None)[:2]
        dicom(p, a, kind or 'MONOCHROME2', bits, syntax, PixelData=pydicom.encaps.encapsulate([data]), **tags)
    return write


def palette(entries, first=0, **how):
    "An inverted palette of some entries"
    order = '>' if how.get('syntax') == 'big' else '<'
    table = (np.arange(entries)[::-1]*(65535//(entries - 1))).astype(f'{order}u2').tobytes()
    tags = {f'{colour}PaletteColorLookupTable{key}': value for colour in ('Red', 'Green', 'Blue')
            for key, value in (('Descriptor', [entries, first, 16]), ('Data', table))}
    return dict(kind='PALETTE COLOR', **tags, **how)


def ybr422(p):
    "Colours that are halved across, as the header says"
    ybr = np.asarray(Image.fromarray(GRAY3).convert('YCbCr'))
    light, blue, red = ybr[..., 0].reshape(HEIGHT, -1, 2), ybr[:, ::2, 1:2], ybr[:, ::2, 2:3]
    data = np.concatenate([light, blue.reshape(HEIGHT, -1, 1), red.reshape(HEIGHT, -1, 1)], 2)
    dicom(p, ybr, 'YBR_FULL_422', PixelData=data.tobytes())


def damaged_number(p):
    "NumberOfFrames is the text 1A"
    dicom(p, GRAY, NumberOfFrames=11)
    p.write_bytes(p.read_bytes().replace(b'IS\2\x0011', b'IS\2\x001A'))


YBR = np.asarray(Image.fromarray(RGB).convert('YCbCr'))
GREATER = np.kron(GRAY, np.ones((2, 2), np.uint8))
PADDED = np.where(np.indices(GRAY.shape)[1] < 9, -2000, deep(10).astype(int) - 500).astype(np.int16)
WINDOW = dict(WindowCenter=1000, WindowWidth=800)
FRAMES = np.stack([deep(12)]*2)

DICOM = {  # name: what writes it, the gray or colour picture, tolerance
    'sigmoid': (dcm(deep(12), bits=12, VOILUTFunction='SIGMOID', **WINDOW), sigmoid(DEEP, 1000, 800), 1),
    'exact': (dcm(deep(12), bits=12, VOILUTFunction='LINEAR_EXACT', **WINDOW), exact(DEEP, 1000, 800), 1),
    'linear': (dcm(deep(12), bits=12, **WINDOW), linear(DEEP, 1000, 800), 1),
    'unknown function': (dcm(deep(12), bits=12, VOILUTFunction='', **WINDOW), linear(DEEP, 1000, 800), 1),
    'first of two windows': (dcm(deep(12), bits=12, WindowCenter=[1000, 9], WindowWidth=[800, 5]),
                             linear(DEEP, 1000, 800), 1),
    'sigmoid in a group': (
        dcm(deep(12), bits=12, SharedFunctionalGroupsSequence=in_group(
            'FrameVOILUTSequence', VOILUTFunction='SIGMOID', **WINDOW)), sigmoid(DEEP, 1000, 800), 1),
    'rescale in a group': (
        dcm(deep(12), bits=12, SharedFunctionalGroupsSequence=lambda: items(
            FrameVOILUTSequence=items(WindowCenter=2100, WindowWidth=1600),
            PixelValueTransformationSequence=items(RescaleSlope=2, RescaleIntercept=100))),
        linear(DEEP*2 + 100, 2100, 1600), 1),
    'white is zero, 12 bits': (dcm(4095 - deep(12), 'MONOCHROME1', 12), GRAY, 0),
    'white is zero, 16 bits': (dcm(65535 - deep(16), 'MONOCHROME1'), GRAY, 0),
    'white is zero, window': (dcm(4095 - deep(12), 'MONOCHROME1', 12, WindowCenter=3000, WindowWidth=800),
                              255 - linear(4095 - DEEP, 3000, 800), 1),
    'shape inverse': (dcm(255 - GRAY, PresentationLUTShape='INVERSE'), GRAY, 0),
    'negative slope': (dcm(4095 - deep(12), bits=12, RescaleSlope=-1, RescaleIntercept=4095), GRAY, 0),
    'signed, 8 bits': (dcm(signed(8)), GRAY, 0),
    'signed, 12 bits': (dcm(signed(12), bits=12), GRAY, 0),
    'signed, 12 of 16 bits': (dcm(signed(12)), GRAY, 0),
    'signed, 16 bits, big endian': (dcm(signed(16), syntax='big'), GRAY, 0),
    'signed, none below zero': (dcm(deep(12).astype(np.int16)), GRAY, 0),
    'signed with rescale and window': (
        dcm(signed(12), RescaleSlope=2, RescaleIntercept=100, WindowCenter=500, WindowWidth=3000),
        linear((DEEP - 2048)*2 + 100, 500, 3000), 1),
    'table of values': (dcm(4095 - deep(12), bits=12, VOILUTSequence=lambda: items(**lookup())), GRAY, 1),
    'table of 16 bits': (dcm(4095 - deep(12), bits=12, VOILUTSequence=lambda: items(**lookup(16))), GRAY, 1),
    'table, big endian': (dcm(4095 - deep(12), bits=12, syntax='big',
                              VOILUTSequence=lambda: items(**lookup(order='>'))), GRAY, 1),
    'table in a group': (dcm(4095 - deep(12), bits=12, SharedFunctionalGroupsSequence=lambda: items(
        FrameVOILUTSequence=items(VOILUTSequence=items(**lookup())))), GRAY, 1),
    'modality table': (dcm(4095 - deep(12), bits=12, ModalityLUTSequence=lambda: items(**lookup(16))),
                       GRAY, 1),
    'modality table, window': (
        dcm(4095 - deep(12), bits=12, ModalityLUTSequence=lambda: items(**lookup(12)), **WINDOW),
        linear(DEEP, 1000, 800), 1),
    'upper bits': (dcm(deep(12) << np.uint16(4), bits=12, HighBit=15), GRAY, 0),
    'upper bits, big endian': (dcm(deep(12) << np.uint16(4), bits=12, HighBit=15, syntax='big'), GRAY, 0),
    'upper bits in the header only': (dcm(deep(12), bits=12, HighBit=15), GRAY, 0),
    'no bits stored': (dcm(GRAY, BitsStored=0), GRAY, 0),
    'more bits than there are': (dcm(GRAY, BitsStored=16, HighBit=15), GRAY, 0),
    '7 bits': (dcm(GRAY >> 1, bits=7), np.rint((GRAY >> 1).astype(int)*255/127), 1),
    'overlay in unused bits': (
        dcm(deep(12) | (np.indices(GRAY.shape)[0] % 2*0x8000).astype(np.uint16), bits=12), GRAY, 0),
    'planes': (dcm(RGB, 'RGB', PlanarConfiguration=1, PixelData=np.moveaxis(RGB, 2, 0).tobytes()), RGB, 0),
    'planes of YBR': (dcm(YBR, 'YBR_FULL', PlanarConfiguration=1, PixelData=np.moveaxis(YBR, 2, 0).tobytes()),
                      RGB, 3),
    'YBR': (dcm(YBR, 'YBR_FULL'), RGB, 3),
    'YBR, halved': (ybr422, GRAY3, 1),
    'YBR, said to be halved': (dcm(YBR, 'YBR_FULL_422'), RGB, 3),
    'YBR of old, said to be halved': (dcm(YBR, 'YBR_PARTIAL_422'), RGB, 3),
    'floating point, an empty field beside': (
        lambda p: dicom(p, GRAY.astype(np.uint32), PixelData=None,
                        FloatPixelData=(GRAY/255).astype('<f4').tobytes()),
        GRAY, 0),
    'colour of 16 bits': (dcm(deep(16, True), 'RGB'), RGB, 0),
    'colour, 12 of 16 bits': (dcm(deep(12, True), 'RGB'), RGB, 0),
    'colour of 16 bits, big endian': (dcm(deep(16, True), 'RGB', syntax='big'), RGB, 0),
    'palette of 200 from 40': (dcm(239 - np.clip(GRAY, 0, 199), **palette(200, 40)),
                               np.clip(GRAY.astype(int), 0, 199)*(65535//199) >> 8, 1),
    'palette of 4096': (dcm(4095 - deep(12), **palette(4096, bits=12)), GRAY, 1),
    'palette of 4096, big endian': (dcm(4095 - deep(12), **palette(4096, bits=12, syntax='big')), GRAY, 1),
    'palette that is missing': (dcm(GRAY, 'PALETTE COLOR'), GRAY, 0),
    'a name of the old days': (dcm(GRAY, 'MONOCHROME'), GRAY, 0),
    'a name in small letters': (dcm(4095 - deep(12), 'monochrome1', 12), GRAY, 0),
    'a name with a space': (dcm(GRAY, 'MONOCHROME2 '), GRAY, 0),
    'JPEG in colour, header gray': (compressed(jpeg(GRAY3), GRAY), GRAY3, 8),
    'JPEG in gray, header colour': (compressed(jpeg(GRAY), GRAY3, 'RGB'), GRAY, 8),
    'JPEG of 8 bits, header 16': (compressed(jpeg(GRAY), GRAY.astype(np.uint16)), GRAY, 8),
    'JPEG greater than its header': (compressed(jpeg(GREATER), GRAY), GREATER, 12),
    'JPEG smaller than its header': (compressed(jpeg(GRAY), GREATER), GRAY, 8),
    'JPEG with an orientation': (compressed(jpeg(GRAY, exif=exif(6)), GRAY), GRAY, 8),
    'JPEG 2000 in colour, header gray': (compressed(j2k(GRAY3), GRAY, lossless=True), GRAY3, 0),
    'JPEG 2000 of 16 bits, header 8': (compressed(j2k(deep(16)), GRAY, lossless=True), GRAY, 0),
    'JPEG 2000 of 8 bits, header 16': (compressed(j2k(GRAY), deep(16), lossless=True), GRAY, 0),
    'JPEG 2000, said to be signed, and is': (
        compressed(j2k(signed(16).view(np.uint16)), signed(16), lossless=True), GRAY, 0),
    'number of frames that is none': (damaged_number, GRAY, 0),
    'JPEG 2000, header signed': (compressed(j2k(deep(16)), signed(16), lossless=True), GRAY, 0),
    'fewer frames than data': (dcm(np.stack([GRAY]*2), NumberOfFrames=1), GRAY, 0),
}


def png(rows, bits, colour, **chunks):
    "A PNG of packed rows, with chunks before its data"
    def write(p):
        size = rows.shape[1]*8//bits//{0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour], len(rows)
        lines = np.pad(rows, ((0, 0), (1, 0))).tobytes()
        parts = {'IHDR': struct.pack('>IIBBBBB', *size, bits, colour, 0, 0, 0), **chunks,
                 'IDAT': zlib.compress(lines), 'IEND': b''}
        out = b'\x89PNG\r\n\x1a\n'
        for kind, data in parts.items():
            body = kind.encode() + data
            out += struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))
        p.write_bytes(out)
    return write


def words(a):
    "Rows of 16 bits, as a PNG stores them"
    return a.astype('>u2').reshape(len(a), -1).view(np.uint8)


def packed(bits):
    "Rows of 1, 2 or 4 bits, eight bits in a byte"
    few = GRAY >> (8 - bits)
    return np.packbits(np.unpackbits(few[..., None], axis=2)[..., 8 - bits:].reshape(HEIGHT, -1), axis=1)


def few(bits):
    "The picture of 1, 2 or 4 bits"
    return np.rint((GRAY >> (8 - bits)).astype(int)*255/(2**bits - 1))


def bare_tiff(bits, white, order):
    "A TIFF of 1, 2 or 4 bits"
    def write(p):
        data = (~packed(bits) if white else packed(bits)).tobytes()
        tags = [(256, WIDTH), (257, HEIGHT), (258, bits), (259, 1), (262, 1 - white), (273, 8 + 2 + 9*12 + 4),
                (277, 1), (278, HEIGHT), (279, len(data))]
        rows = b''.join(struct.pack(order + 'HHII', tag, 4, 1, value) for tag, value in tags)
        sign = b'II*\0' if order == '<' else b'MM\0*'
        p.write_bytes(sign + struct.pack(order + 'IH', 8, len(tags)) + rows + bytes(4) + data)
    return write


def with_alpha(a, alpha):
    "A picture with another channel"
    return np.dstack([a, np.full(a.shape[:2], alpha, a.dtype)])


def planes(a, orientation=1, order='<', **how):
    "A TIFF whose colours are stored apart"
    def write(p):
        stored = np.ascontiguousarray(np.moveaxis(turned(a, orientation), 2, 0))
        tag = [(274, 'H', 1, orientation, True)]
        pytest.importorskip('tifffile').imwrite(p, stored, photometric='rgb', planarconfig='separate',
                                                byteorder=order, extratags=tag, **how)
    return write


def written(a, **how):
    return lambda p: Image.fromarray(a).save(p, **how)


def netpbm(sign, most, colour=False):
    "A PGM or PPM of any greatest value"
    def write(p):
        values = np.rint((RGB if colour else GRAY)/255*most).astype('>u2' if most > 255 else 'u1')
        p.write_bytes(f'{sign}\n{WIDTH} {HEIGHT}\n{most}\n'.encode() + values.tobytes())
    return write


def turned_png(p):
    "16 bits of gray with alpha, turned by an eXIf chunk"
    png(words(with_alpha(turned(deep(16), 6), 65535)), 16, 4)(p)
    add_exif(p, 6)


LIGHT = np.asarray(Image.fromarray(RGB).convert('CMYK').convert('RGB'))
HALF = with_alpha(deep(16, True)//2, 2**15) # colours that were multiplied by an alpha of a half
FILES = {  # name of the file: what writes it, the picture, tolerance
    'gray and alpha 16.png': (png(words(with_alpha(deep(16), 65535)), 16, 4), GRAY, 0),
    'gray and alpha 0.png': (png(words(with_alpha(deep(16), 0)), 16, 4), GRAY, 0),
    'gray and alpha 12.png': (png(words(with_alpha(deep(12), 4095)), 16, 4), GRAY, 0),
    'gray and alpha turned.png': (turned_png, GRAY, 0),
    'colour and alpha 12.png': (png(words(with_alpha(deep(12, True), 4095)), 16, 6), RGB, 0),
    'transparent gray.png': (png(words(deep(16)), 16, 0, tRNS=bytes(2)), GRAY, 0),
    'transparent colour.png': (png(words(deep(16, True)), 16, 2, tRNS=bytes(6)), RGB, 0),
    'gamma.png': (png(GRAY, 8, 0, gAMA=struct.pack('>I', 100000)), GRAY, 0),
    **{f'{bits} bits.png': (png(packed(bits), bits, 0), few(bits), 0) for bits in (1, 2, 4)},
    **{f'{bits} bits {white} {ord(order)}.tif': (bare_tiff(bits, white, order), few(bits), 0)
       for bits in (1, 2, 4) for white in (0, 1) for order in '<>'},
    **{f'planes {bits} {o} {ord(order)} {how}.tif': (
           planes(deep(bits, True), o, order, compression=how), RGB, 0)
       for bits in (8, 12, 16) for o, order in ((1, '<'), (6, '>')) for how in (None, 'zlib')},
    'planes in tiles.tif': (planes(deep(16, True), 3, tile=(16, 16)), RGB, 0),
    'alpha 16.tif': (tif(with_alpha(deep(16, True), 65535), 6, '>', 'rgb', extrasamples=['unassalpha']),
                     RGB, 0),
    'multiplied 16.tif': (tif(HALF, 1, '<', 'rgb', extrasamples=['assocalpha']), RGB, 1),
    'multiplied planes 16.tif': (planes(HALF, extrasamples=['assocalpha']), RGB, 1),
    'big.tif': (tif(GRAY, bigtiff=True), GRAY, 0),
    'big turned 16.tif': (tif(deep(16), 6, '>', bigtiff=True), GRAY, 0),
    'tiles turned.tif': (tif(GRAY, 8, tile=(16, 16)), GRAY, 0),
    'half.tif': (tif((GRAY/255).astype(np.float16)), GRAY, 1),
    'float colour.tif': (tif((RGB/255).astype(np.float32), photometric='rgb'), RGB, 0),
    'float white.tif': (tif((1 - GRAY/255).astype(np.float32), photometric='miniswhite'), GRAY, 1),
    'whole 32.tif': (tif(deep(16).astype(np.uint32)), GRAY, 0),
    'whole 64.tif': (tif(deep(12).astype(np.int64)), GRAY, 0),
    'palette.tif': (tif(255 - GRAY, photometric='palette',
                        colormap=np.stack([np.arange(256)[::-1]*257]*3).astype(np.uint16)), GRAY3, 0),
    'palette of 8 bits.tif': (tif(255 - GRAY, photometric='palette',
                                  colormap=np.stack([np.arange(256)[::-1]]*3).astype(np.uint16)), GRAY3, 0),
    'inks.tif': (lambda p: Image.fromarray(RGB).convert('CMYK').save(p), LIGHT, 1),
    'jpeg.tif': (written(GRAY, compression='jpeg', quality=98), GRAY, 8),
    'zstd.tif': (written(GRAY, compression='zstd'), GRAY, 0),
    'inks.jpg': (lambda p: Image.fromarray(GRAY3).convert('CMYK').save(p, quality=98), GRAY3, 8),
    'progressive.jpg': (written(GRAY, quality=98, progressive=True), GRAY, 8),
    'turned.jpg': (written(turned(GRAY, 5), quality=98, exif=exif(5)), GRAY, 8),
    'turned.avif': (written(turned(GRAY3, 7), quality=100, exif=exif(7)), GRAY3, 8),
    'turned.webp': (written(turned(GRAY3, 8), lossless=True, exif=exif(8)), GRAY3, 0),
    'transparent.webp': (written(with_alpha(RGB, 0), lossless=True, exact=True), RGB, 0),
    **{f'{bits} bits.jp2': (written(deep(bits), irreversible=False), GRAY, 0) for bits in (10, 12, 16)},
    **{f'{most}.pgm': (netpbm('P5', most), GRAY, 2) for most in (100, 255, 1000, 1023, 4095, 65535)},
    **{f'{most}.ppm': (netpbm('P6', most, True), RGB, 2) for most in (255, 4095, 65535)},
    'float.pfm': (lambda p: Image.fromarray(GRAY.astype(np.float32)).save(p, 'PPM'), GRAY, 0),
    'a.gif': (written(GRAY), GRAY, 0), 'a.bmp': (written(RGB), RGB, 0),
    'a.pcx': (written(GRAY), GRAY, 0), 'a.tga': (written(GRAY), GRAY, 0),
}


def check(path, want, tolerance):
    [(_, a, info)] = read_image(path)
    got = a[..., 0] if a.ndim > want.ndim else a
    got = np.dstack([got]*3) if got.ndim < want.ndim and np.ptp(want, axis=2).max() == 0 else got
    assert got.shape == want.shape
    assert np.abs(got.astype(float) - want).max() <= tolerance, info['notes']


@pytest.mark.parametrize('name', DICOM)
def test_a_kind_of_dicom(name, tmp_path):
    write, want, tolerance = DICOM[name]
    write(tmp_path/'a.dcm')
    check(tmp_path/'a.dcm', want, tolerance)
    assert image_size(tmp_path/'a.dcm') == want.shape[:2]


@pytest.mark.parametrize('name', FILES)
def test_a_kind_of_file(name, tmp_path):
    write, want, tolerance = FILES[name]
    write(tmp_path/name)
    check(tmp_path/name, want, tolerance)
    assert image_size(tmp_path/name) == want.shape[:2]


def test_each_frame_has_its_own_window(tmp_path):
    def group(function, centre, width):
        window = dict(WindowCenter=centre, WindowWidth=width, VOILUTFunction=function)
        return items(FrameVOILUTSequence=items(**window))[0]
    groups = [group('LINEAR', 1000, 800), group('SIGMOID', 2000, 900)]
    dicom(tmp_path/'a.dcm', FRAMES, bits=12, PerFrameFunctionalGroupsSequence=groups)
    (_, one, _), (_, two, _) = read_image(tmp_path/'a.dcm')
    assert np.abs(one - linear(DEEP, 1000, 800)).max() <= 1
    assert np.abs(two - sigmoid(DEEP, 2000, 900)).max() <= 1


def test_padding_takes_no_part_in_the_range(tmp_path):
    "Pixels beside the fan are stored as -2000: they become black, and the picture keeps its contrast"
    dicom(tmp_path/'a.dcm', PADDED, PixelPaddingValue=-2000)
    [(_, a, _)] = read_image(tmp_path/'a.dcm')
    assert (a[:, :9] == 0).all() and np.corrcoef(a[:, 9:].ravel(), GRAY[:, 9:].ravel())[0, 1] > .999
    assert np.ptp(a[:, 9:]) > .9*np.ptp(GRAY[:, 9:])


@pytest.mark.parametrize('name, says', [
    ('JPEG greater than its header', 'its data 160x120'),
    ('JPEG in colour, header gray', 'its data are colour'),
    ('JPEG of 8 bits, header 16', 'its data 8 bits'), ('palette that is missing', 'no palette'),
    ('a name of the old days', 'DICOM does not know'), ('no bits stored', 'states 0 bits'),
    ('JPEG 2000, header signed', 'smoother picture'), ('number of frames that is none', 'no number'),
    ('YBR, said to be halved', 'its data are YBR_FULL'), ('upper bits', 'in bits 4 to 15')])
def test_a_header_that_is_not_believed_is_noted(name, says, tmp_path):
    DICOM[name][0](tmp_path/'a.dcm')
    assert any(says in note for note in read_image(tmp_path/'a.dcm')[0][2]['notes'])


def test_another_size_than_the_header_has_no_scale(tmp_path):
    "PixelSpacing was made for the size that the header states"
    compressed(jpeg(GREATER), GRAY, PixelSpacing=[.3, .3])(tmp_path/'a.dcm')
    assert not read_image(tmp_path/'a.dcm')[0][2]['scale']


@pytest.mark.parametrize('name, write, says', [
    ('hsv.dcm', dcm(GRAY3, 'HSV'), 'has the photometric interpretation HSV'),
    ('a.sgi', written(GRAY), '(a file of type SGI)'),
    ('a.dds', written(RGB), '(a file of type DDS)'), ('a.ico', written(RGB), '(a file of type ICO)'),
    ('a.eps', written(RGB), '(a file of type EPS)')])
def test_what_is_not_read_says_what_it_is(name, write, says, tmp_path):
    write(tmp_path/name)
    with pytest.raises(BusisegError) as e:
        read_image(tmp_path/name)
    assert says in str(e.value) and 'damaged' not in str(e.value) and e.value.remedy


PLANES = {  # of values that use so many bits: the picture, or why not
    16: RGB, 12: None}


@pytest.mark.parametrize('bits', PLANES)
def test_planes_that_tifffile_cannot_decode(bits, tmp_path, monkeypatch):
    "As where they are compressed by LZW: Pillow's upper bytes are the picture, if the values use 16 bits"
    tifffile = pytest.importorskip('tifffile')
    planes(deep(bits, True), compression='zlib')(tmp_path/'a.tif')

    def lacks(self, *args, **how):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, 'asarray', lacks)
    if PLANES[bits] is None:
        with pytest.raises(BusisegError, match='fewer than 16 bits in planes of 16'):
            read_image(tmp_path/'a.tif')
        return
    [(_, a, info)] = read_image(tmp_path/'a.tif')
    assert np.array_equal(a, PLANES[bits]) and 'upper 8 of its 16 bits' in info['notes'][0]

"""One table of bad input: each case prepares something bad in a folder of its own and gives the command that
meets it.

The folder holds, all of it good and small: `data` (BUSI's layout), `own` (images, masks, classes.json),
`model`, `run` (of `data`), `scan.png`, and the outputs of earlier work in `out`, `runs` and `cache`. The
command runs there. It must end with status 2 and one line that names what the case says and, behind a
semicolon, what to do; nothing in the folder may have changed.
"""
import io
import json
import os
import pickle
import shutil
import struct
import zlib
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
import torch
from PIL import Image

from busiseg_nb.dataset import find_cases, fingerprint
from busiseg_nb.files import write_json
from busiseg_nb.models import build_model, save_model
from busiseg_nb.phantom import make_phantom, make_xray_phantom
from busiseg_nb.splits import save_split, split_cases
from fuzz_targets import NET, counts_table, damaged_exif, result
from test_predict import FORMATS, GRAY, dicom

TINY = NET['name']
EPS = '%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n'
REPRODUCE = ['reproduce', '--data', 'data', '--profile', 'demo', '--model', TINY, '--epochs', '1', '--runs',
             'runs', '--cache', 'cache', '--no-progress']
TRAIN = ['train', '--data', 'own', '--from', 'none', '--model', TINY, '--tile', '32', '--epochs', '1',
         '--runs', 'runs', '--cache', 'cache', '--no-progress']
PREDICT = ['predict', '--model', 'model', '-o', 'out']
TEST = ['test', 'run', '--data', 'data', '--no-progress']
SPLIT = ['split', 'out/split.json', '--data', 'data']


class Bad(NamedTuple):
    "A case: its name, what makes the folder bad, the command, and what its line must name"
    name: str
    make: Callable   # the folder -> None
    args: list       # of busiseg
    says: str        # part of the line


def make_good(root):
    "The folder before anything in it is bad"
    make_phantom(root/'data', n=(3, 3, 3), seed=1, scale=.2)
    make_xray_phantom(root/'own', 6, 32)
    torch.manual_seed(0)
    save_model(build_model(**NET), root/'model')
    shutil.copytree(root/'model', root/'run'/'best')
    cases = find_cases(root/'data')
    save_split(split_cases(cases, (.4, .3, .3)), root/'run'/'split.json')
    write_json(result() | {'data': {'images': 9, 'is_busi': False, 'fingerprint': fingerprint(cases)}},
               root/'run'/'results.json')
    counts_table().to_csv(root/'run'/'counts.csv', index=False)
    Image.fromarray(GRAY).save(root/'scan.png')
    for d in ('out', 'runs', 'cache'):
        put(root/d/'earlier.txt', b'earlier work')


def put(path, data=b''):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def nothing(root):
    pass


def png(width, height, data=b''):
    "A gray PNG of this header, whatever its data"
    def chunk(kind, body):
        return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + header + chunk(b'IDAT', zlib.compress(data)) + chunk(b'IEND', b'')


# ---- data sets in BUSI's layout ----

IMAGE, MASK = 'data/benign/benign (2).png', 'data/benign/benign (2)_mask.png'


def size(root):
    return Image.open(root/IMAGE).size


def mask(values):
    def do(root):
        gray = np.array(Image.open(root/MASK).convert('L'))
        Image.fromarray(values(gray)).save(root/MASK, format='TIFF')
    return do


def cut(name, n):
    return lambda root: os.truncate(root/name, n)


def text(name, words='hello, I am no image'):
    return lambda root: put(root/name, words)


def rm(*names):
    return lambda root: [(shutil.rmtree if (root/n).is_dir() else os.unlink)(root/n) for n in names]


def copy(old, new):
    "Copy an image and its masks to another name"
    def do(root):
        for p in (root/old).parent.glob(f'{Path(old).name}*.png'):
            shutil.copy(p, root/f'{new}{p.name.removeprefix(Path(old).name)}')
    return do


def link(name, to):
    def do(root):
        rm(name)(root)
        os.symlink(to, root/name)
    return do


def empty_classes(root):
    for p in root.glob('data/*/*.png'):
        p.unlink()


DATA = [Bad(name, make, REPRODUCE, says) for name, make, says in [
    ('missing root', rm('data'), 'data: does not exist'),
    ('file for a folder', lambda r: (rm('data')(r), text('data')(r)), 'data: is a file'),
    ('no class folders', rm('data/benign', 'data/malignant', 'data/normal'),
     'data: has no folder named benign'),
    ('empty classes', empty_classes, 'data: holds no PNG image'),
    ('image without mask', rm(MASK), 'benign (2).png: has no mask'),
    ('mask without image', rm(IMAGE), 'benign (2)_mask.png: orphan mask'),
    ('lost mask among several', lambda r: shutil.copy(r/MASK, r/'data/benign/benign (2)_mask_7.png'),
     'benign (2).png: missing mask'),
    ('same name in two classes', copy('data/normal/normal (1)', 'data/benign/normal (1)'),
     'more than one image named normal (1)'),
    ('names differing in case', copy('data/benign/benign (1)', 'data/benign/Benign (1)'), 'benign (1)'),
    ('mask larger', mask(lambda m: np.pad(m, 1)), 'benign (2)_mask.png: wrong size'),
    ('mask smaller', mask(lambda m: m[1:]), 'benign (2)_mask.png: wrong size'),
    ('mask transposed', mask(lambda m: m.T.copy()), 'benign (2)_mask.png: wrong size'),
    ('mask all 127', mask(lambda m: np.full_like(m, 127)), 'benign (2)_mask.png: full mask'),
    ('mask all 0', mask(lambda m: m*0), 'benign (2)_mask.png: empty mask'),
    ('mask of grays', mask(lambda m: np.arange(m.size).reshape(m.shape).astype(np.uint8)),
     'benign (2)_mask.png: not binary'),
    ('float mask', mask(lambda m: m.astype(np.float32)), 'benign (2)_mask.png: unreadable'),
    ('16-bit mask', mask(lambda m: m.astype(np.uint16)*257), 'benign (2)_mask.png: unreadable'),
    ('tumour in a normal image', lambda r: shutil.copy(r/MASK, r/'data/normal/normal (1)_mask.png'),
     'normal (1)_mask.png: '),
    ('truncated mask', cut(MASK, 60), 'benign (2)_mask.png: unreadable'),
    ('truncated case', cut(IMAGE, 500), 'benign (2).png: unreadable'),
    ('text for a case', text(IMAGE), 'benign (2).png: unreadable'),
    ('empty case', cut(IMAGE, 0), 'benign (2).png: unreadable'),
    ('EPS for a case', text(IMAGE, EPS), 'benign (2).png: unreadable'),
    ('link that leads nowhere', link(IMAGE, 'gone.png'), 'benign (2).png: unreadable'),
    ('link to itself', link(IMAGE, 'benign (2).png'), 'benign (2).png: unreadable'),
    ('class folder linked to itself', link('data/benign', 'benign'), 'data/benign: '),
    ('root linked to itself', link('data', 'data'), 'data: does not exist'),
    ('bad name: newline', lambda r: put(r/'data/benign/a\nb.png', 'x'), 'data/benign/a b.png: has no mask'),
    ('bad name: escape sequence', lambda r: put(r/'data/benign/\x1b[2Jbenign.png', 'x'),
     'data/benign/?[2Jbenign.png: has no mask'),
]]


# ---- data sets of one's own ----

def own(what):
    "Put other content in the place of a mask, or of what `what` names"
    return lambda root: what.save(root/'own/masks/x002.png')


def turned(root):
    im = Image.new('L', (32, 32))
    im.getexif()[0x112] = 6
    im.save(root/'own/images/x002.png', exif=im.getexif())


def classes(text):
    return lambda root: put(root/'own/classes.json', text)


OWN = [Bad(name, make, TRAIN, says) for name, make, says in [
    ('own: missing root', rm('own'), 'own: does not exist'),
    ('own: no classes', rm('own/classes.json'),
     'classes.json: is missing; write for example {"background": 0, "nodule": 1}'),
    ('own: classes are no JSON', classes('background, mass'), 'classes.json: is not JSON'),
    *[(f'own: classes {c[:40]}', classes(c), f'classes.json: {says}') for c, says in [
        ('[1, 2]', 'does not name 2 to 255 classes'), ('{"background": 0}', 'does not name 2 to 255'),
        ('{"background": 0, "mass": "red"}', 'gives mass the value "red"'),
        ('{"background": 0, "mass": 256}', 'gives mass the value 256'),
        ('{"background": 0, "mass": true}', 'gives mass the value true'),
        ('{"background": 0, "mass": [1, 2]}', 'gives mass the value [1, 2]'),
        ('{"background": 0, "mass": 0}', 'gives background and mass the same value'),
        ('{"background": 0, "mass": 1, "mass": 2}', 'names mass twice'),
        ('{"mass": 1, "background": 0, "calcification": 2}', 'lists the class numbers as 1, 0, 2'),
        ('{"background": 0, "foreground": 1}', 'cannot call a class'),
        ('{"background": 0, "1": 1}', "cannot call a class '1'"),
        ('{"background": 0, "a/b": 1}', 'cannot call a class'),
        ('{"background": 0, "mass": ' + '9'*5000 + '}', 'is not JSON'), ('['*100000, 'is not JSON')]],
    ('own: value that is no class', classes('{"background": 0, "mass": 1}'),
     'pixels of values that are no class, first 2'),
    ('own: no masks folder', rm('own/masks'), 'masks: is missing'),
    ('own: no folders', rm('own/masks', 'own/images'), 'images: is missing'),
    ('own: empty folders', lambda r: [p.unlink() for p in r.glob('own/*/*.png')], 'images: holds no image'),
    ('own: image without mask', rm('own/masks/x002.png'), 'x002.png: has no mask'),
    ('own: mask without image', rm('own/images/x002.png'), 'x002.png: has no image'),
    ('own: mask of another size', own(Image.new('L', (20, 30))), 'x002.png: is 20x30, its image 32x32'),
    ('own: mask all 127', own(Image.new('L', (32, 32), 127)),
     'x002.png: has 1024 pixels of values that are no class, first 127'),
    ('own: mask of a colour', own(Image.new('RGB', (32, 32), (1, 2, 3))), 'first [1, 2, 3]'),
    ('own: 16-bit mask', own(Image.fromarray(np.zeros((32, 32), np.uint16))),
     'x002.png: has pixels of mode I'),
    ('own: truncated mask', cut('own/masks/x002.png', 60), 'x002.png: cannot be read as an image ('),
    ('own: truncated image', lambda r: os.truncate(r/'own/images/x002.png',
                                                   (r/'own/images/x002.png').stat().st_size//2),
                                                   'x002.png: cannot be read ('),
    ('own: text for an image', text('own/images/x002.png'), 'x002.png: is no image that can be read'),
    ('own: two images of one stem', lambda r: shutil.copy(r/'own/images/x002.png', r/'own/images/x002.jpg'),
     'the same stem as'),
    ('own: two masks of one stem', lambda r: shutil.copy(r/'own/masks/x002.png', r/'own/masks/x002.tif'),
     'the same stem as'),
    ('own: stems differing in case', lambda r: [shutil.copy(r/f'own/{d}/x002.png', r/f'own/{d}/X002.png')
                                                for d in ('images', 'masks')], 'the same stem as'),
    ('own: image stored turned', turned, 'x002.png: is stored turned'),
    ('own: damaged EXIF', lambda r: put(r/'own/images/x002.png', damaged_exif()),
     'x002.png: has damaged EXIF data'),
    ('own: link to itself', link('own/images/x002.png', 'x002.png'), 'x002.png: cannot be read ('),
]]


# ---- images to predict ----

def file(name, write, says=''):
    return Bad(f'image: {name}', lambda root: write(root/name), [*PREDICT, name], f'{name}: {says}')


def part(name, share):
    "A good file of test_predict.FORMATS cut off"
    def write(p):
        FORMATS[name][0](p)
        os.truncate(p, int(p.stat().st_size*share))
    return file(f'cut-at-{share:.0%}-{name}', write)


def flipped(p):
    FORMATS[f'gray{p.suffix}'][0](p)
    b = bytearray(p.read_bytes())
    b[60:400] = bytes(x ^ 255 for x in b[60:400])
    p.write_bytes(b)


def values(v):
    return lambda p: Image.fromarray(np.where(GRAY > 99, v, GRAY).astype(np.float32)).save(p)


def second_page_bad(p):
    Image.fromarray(GRAY).save(p, save_all=True,
                               append_images=[Image.fromarray(np.full((9, 9), np.nan, np.float32))])


# ---- small files that ask for gigabytes ----

BLACK = Image.new('RGB', (32, 24))


def saved(im, kind, **how):
    to = io.BytesIO()
    im.save(to, kind, **how)
    return bytearray(to.getvalue())


def canvas(p, side=31000):
    "Two frames of 32x24 pixels on a canvas of 961 million: 15 GB in Pillow"
    d = saved(BLACK, 'WEBP', save_all=True, append_images=[Image.new('RGB', (32, 24), 'white')],
              lossless=True)
    i = d.index(b'VP8X') + 12
    d[i:i + 6] = (side - 1).to_bytes(3, 'little')*2
    put(p, bytes(d))


def scans(p, side=31000):
    "A progressive JPEG, of which libjpeg keeps all coefficients: 6 GB"
    d = saved(BLACK, 'JPEG', progressive=True, subsampling=0)
    i = d.index(b'\xff\xc2') + 5
    d[i:i + 4] = struct.pack('>HH', side, side)
    put(p, bytes(d))


def tiles(*more):
    "A TIFF that states tiles of 671 million pixels, and perhaps others too: 2 GB"
    # of several, libtiff goes by the first and Pillow by the last
    def write(p):
        d = saved(BLACK, 'TIFF', compression='tiff_lzw')
        at, = struct.unpack('<I', d[4:8])
        rows = [bytes(d[i:i + 12]) for i in range(at + 2, at + 2 + 12*struct.unpack_from('<H', d, at)[0], 12)]
        rows += [struct.pack('<HHII', tag, 4, 1, v) for tag, v in ((322, 2**24 - 16), (323, 40), *more)]
        rows.sort(key=lambda r: r[:2][::-1])
        put(p, bytes(d[:4]) + struct.pack('<I', len(d)) + bytes(d[8:]) + struct.pack('<H', len(rows))
            + b''.join(rows) + bytes(4))
    return write


def chunk(p):
    "A colour PNG of 400 million pixels, which OpenCV is to read, and a chunk of 2 GB"
    d = png(20000, 20000).replace(b'\x08\0\0\0\0', b'\x08\2\0\0\0', 1)
    put(p, d[:29] + struct.pack('>I', zlib.crc32(d[12:29])) + struct.pack('>I', 2**31) + b'IDATx\x9c')


def inflates(p):
    "A DICOM file of 0.6 MB that is compressed as a whole, and 0.6 GB of zeros"
    from pydicom.filereader import read_dataset, read_preamble
    dicom(p, GRAY, syntax='1.2.840.10008.1.2.1.99')
    with open(p, 'r+b') as f:
        read_preamble(f, True)
        read_dataset(f, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
        f.truncate()
        z = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        for _ in range(600):
            f.write(z.compress(bytes(10**6)))
        f.write(z.flush())


def zeros(p, start=b''):
    "What an interrupted copy leaves: 200 MB of zeros"
    put(p, start)
    with open(p, 'r+b') as f:
        f.truncate(2*10**8)


def apart(compression=None, big=False, pages=1, **claims):
    "A small TIFF of 16 bits, its colours stored apart, whose last directory claims something gigantic"
    def write(p):
        import tifffile
        values = np.zeros((3, 8, 8), np.uint16)
        with tifffile.TiffWriter(p, bigtiff=big) as f:
            for _ in range(pages):
                f.write(values, photometric='rgb', planarconfig='separate', compression=compression,
                        metadata=None)
        with tifffile.TiffFile(p, mode='r+') as f:
            tags = f.pages[pages - 1].tags
            for name, value in claims.items():
                tags[name].overwrite(value, dtype=16 if big else 4)
    return write


def described(p, pages=40):
    "Many pages that share a description of 4 MB: each would have a copy of its own"
    import tifffile
    with tifffile.TiffWriter(p, byteorder='<') as f:
        for k in range(pages):
            f.write(np.zeros((8, 8), np.int64), metadata=None, description='x'*(5 if k else 2**22))
    with tifffile.TiffFile(p, mode='r+') as f:
        first, *others = [page.tags['ImageDescription'] for page in f.pages]
        f.pages[pages - 1].tags['ImageWidth'].overwrite(2**30)
    with open(p, 'r+b') as f:
        for tag in others:
            f.seek(tag.offset + 4)
            f.write(struct.pack('<II', first.count, first.valueoffset))


def repeated(p, times=500):
    "A directory that says 500 times where the strips are, each time in 2 MB"
    data = bytes(2**21)
    rows = struct.pack('<HHII', 256, 4, 1, 8) + struct.pack('<HHII', 258, 3, 1, 64)
    rows += struct.pack('<HHII', 273, 3, 2**20, 8)*times
    head = b'II*\0' + struct.pack('<I', 8 + len(data))
    put(p, head + data + struct.pack('<H', times + 2) + rows + bytes(4))


def swollen(p, times=2**27):
    "A strip of 128 bytes that inflates to 128 MB"
    apart('zlib')(p)
    z = zlib.compressobj(9)
    data = b''.join([*(z.compress(bytes(2**20)) for _ in range(times//2**20)), z.flush()])
    import tifffile
    with tifffile.TiffFile(p, mode='r+') as f:
        tags = f.pages[0].tags
        size = p.stat().st_size
        tags['StripOffsets'].overwrite([size + 4096]*3, dtype=4)
        tags['StripByteCounts'].overwrite([len(data)]*3, dtype=4)
    with open(p, 'r+b') as f:
        f.seek(size + 4096)
        f.write(data)


APART = [file(name, write, says) for name, write, says in [
    ('wide-apart.tif', apart(ImageWidth=2**30), 'would have 8,589,934,592 pixels'),
    ('large-apart.tif', apart(ImageWidth=9999, ImageLength=9999), 'would take 599,880,006 bytes'),
    ('large-deflate.tif', apart('zlib', ImageWidth=9999, ImageLength=9999), 'would take 599,880,006 bytes'),
    ('large-big.tif', apart(big=True, ImageWidth=9999, ImageLength=9999), 'would take 599,880,006 bytes'),
    ('second-apart.tif', apart(pages=2, ImageWidth=9999, ImageLength=9999), 'would take 599,880,006 bytes'),
    ('samples.tif', apart(SamplesPerPixel=65535), ''),
    ('rows.tif', apart('zlib', RowsPerStrip=2**32 - 1, ImageLength=2**20), 'would take 50,331,648 bytes'),
    ('counts.tif', apart('zlib', StripByteCounts=[2**31]*3), 'states more data than its file holds'),
    ('counts-big.tif', apart('zlib', True, StripByteCounts=[2**40]*3),
     'states more data than its file holds'),
    ('swollen.tif', swollen, 'holds a strip of more than 384 bytes'),
    ('described.tif', described, 'would have 8,589,934,592 pixels'),
    ('repeated.tif', repeated, 'states more values than its file could hold'),
    ('rows.png', lambda p: put(p, png(1, 900_000_000)), 'would have a side of 900,000,000 pixels')]]

HUNGRY = [file(name, write, says) for name, write, says in [
    ('canvas.webp', canvas, 'is an animation of 31000x31000 pixels'),
    ('scans.jpg', scans, 'is a progressive JPEG of 31000x31000 pixels'),
    ('tiles.tif', tiles(), 'states tiles of 16777200x40 pixels'),
    ('tiles-twice.tif', tiles((322, 32), (323, 32)), 'states the size of its tiles twice'),
    ('chunk.png', chunk, 'cannot be read'), ('inflates.dcm', inflates,
                                             'would take more than 536,870,912 bytes')]]
HUNGRY += APART

IMAGES = [file(name, write, says) for name, write, says in [
    ('empty.png', lambda p: put(p), 'is empty'), ('text.png', lambda p: put(p, 'hello, I am no image'),
                                                  'is no image that can be read'),
    ('page.jpg', lambda p: put(p, '<html>404 not found</html>'), 'is no image that can be read'),
    ('flipped.png', flipped, 'cannot be read'), ('flipped.tif', flipped, 'cannot be read'),
    ('bomb.png', lambda p: put(p, png(60000, 60000)), 'would have 3,600,000,000 pixels'),
    ('wide.png', lambda p: put(p, png(2**31 - 1, 1)), 'would have 2,147,483,647 pixels'),
    ('zero.png', lambda p: put(p, png(0, 0)), ''), ('zero-wide.png', lambda p: put(p, png(0, 9)), ''),
    ('short.png', lambda p: put(p, png(99, 99, b'abc')), 'cannot be read'),
    ('nan.tif', values(np.nan), 'has values that are not finite'),
    ('infinite.tif', values(np.inf), 'has values that are not finite'),
    ('second-page.tif', second_page_bad, 'has values that are not finite'),
    ('zero.dcm', lambda p: dicom(p, GRAY, Rows=0, Columns=0), 'has no pixels'),
    ('bomb.dcm', lambda p: dicom(p, GRAY, Rows=65535, Columns=65535), 'would have 4,294,836,225 pixels'),
    ('short.dcm', lambda p: dicom(p, GRAY, PixelData=b'\0'*100), 'cannot be read'),
    ('frames.dcm', lambda p: dicom(p, GRAY, NumberOfFrames=1000), 'cannot be read'),
    ('second-frame.dcm', lambda p: dicom(p, np.stack([GRAY, GRAY]), NumberOfFrames=3), 'cannot be read'),
    ('report.dcm', lambda p: dicom(p, GRAY, PixelData=None), 'holds no pixel data'),
    ('text.dcm', lambda p: put(p, 'patient: none'), 'holds no pixel data'),
    ('zeros.dcm', zeros, 'is nothing but zeros'), ('zeros.png', zeros, 'is nothing but zeros'),
    ('fields.dcm', lambda p: zeros(p, bytes(128) + b'DICM'), 'has more than 524,288 fields'),
    ('strange.dcm', lambda p: dicom(p, GRAY, 'XYZ'), ''), ('folder.png', lambda p: p.mkdir(), 'is a folder'),
    ('picture.svg', lambda p: put(p, '<svg/>'), 'is no image that can be read'),
    ('script.eps', lambda p: put(p, EPS), 'is no image that can be read'),
    ('missing.png', lambda p: None, 'does not exist'), ('no*match.png', lambda p: None, 'does not exist'),
    ('nowhere.png', lambda p: os.symlink('gone', p), ''),
    ('itself.png', lambda p: os.symlink(p.name, p), 'cannot be read')]]
IMAGES += HUNGRY
IMAGES += [part('gray.png', s) for s in (.01, .05, .1, .2, .3, .45, .6, .75, .9, .97)]
IMAGES += [part(n, s) for n, s in (('gray.jpg', .6), ('gray.tif', .6), ('lossless.webp', .6), ('rgb.bmp', .6),
                                   ('gray.gif', .3), ('mono2.dcm', .02), ('mono2.dcm', .6), ('jpeg.dcm', .8))]
IMAGES += [Bad('image: newline in its name', lambda r: put(r/'a\nb.png', 'x'), [*PREDICT, 'a\nb.png'],
               'a b.png: '),
           Bad('image: bytes in its name that are no text',
               lambda r: put(Path(os.fsdecode(os.fsencode(r) + b'/\xff.png')), 'x'),
               [*PREDICT, os.fsdecode(b'\xff.png')], '.png: '),
           Bad('image: a name too long', nothing, [*PREDICT, 'x'*5000 + '.png'], 'xxx')]


# ---- weights ----

def config(**changes):
    "Values that the configuration of the model takes; None takes one out"
    def do(root):
        d = json.loads((root/'model/config.json').read_text()) | changes
        put(root/'model/config.json', json.dumps({k: v for k, v in d.items() if v is not ...}))
    return do


def header(change):
    "Another header of the weights, of `change(length, header)`"
    def do(root):
        raw = (root/'model/model.safetensors').read_bytes()
        n = struct.unpack('<Q', raw[:8])[0]
        put(root/'model/model.safetensors', change(n, raw[8:8 + n]) + raw[8 + n:])
    return do


def not_finite(root):
    net = build_model(**NET)
    net.segmentation_head[0].bias.data[1] = np.nan
    save_model(net, root/'model')


WEIGHTS = [Bad(f'weights: {name}', make, [*PREDICT, 'scan.png'], says) for name, make, says in [
    *[(f'truncated to {n} bytes', cut('model/model.safetensors', n),
       'model.safetensors: is not a safetensors file') for n in (0, 5, 100, 100_000)],
    ('header too long', header(lambda n, h: struct.pack('<Q', 2**60) + h),
     'model.safetensors: is not a safetensors file'),
    ('header of another length', header(lambda n, h: struct.pack('<Q', n - 9) + h),
     'model.safetensors: is not a safetensors file'),
    ('header with other shapes', header(lambda n, h: struct.pack('<Q', n)
                                        + h.replace(b'[16,1,3,3]', b'[1,16,3,3]')),
     'model.safetensors: does not fit'),
    ('wrong shapes', config(decoder_channels=[8, 8, 8, 8, 16]), 'model.safetensors: does not fit'),
    ('another network', config(encoder_name='resnet18'), 'model.safetensors: does not fit'),
    ('wrong class count', config(classes=4, class_names=list('abcd')), 'model.safetensors: does not fit'),
    ('a network that no memory would hold', config(encoder_name='tu-convnextv2_huge',
                                                   decoder_channels=[4096]*5),
     'model.safetensors: does not fit'),
    ('a pickle', lambda r: put(r/'model/model.safetensors', pickle.dumps({'a': 1})),
     'model.safetensors: is not a safetensors file'),
    ('a pickle of torch', lambda r: torch.save({'a': torch.zeros(2)}, r/'model/model.safetensors'),
     'model.safetensors: is not a safetensors file'),
    ('not finite', not_finite, 'model.safetensors: holds numbers that are not finite'),
    ('missing', rm('model/model.safetensors'), 'model.safetensors: is missing'),
    ('a folder', lambda r: (rm('model/model.safetensors')(r), (r/'model/model.safetensors').mkdir()),
     'model.safetensors: is missing'),
    ('no configuration', rm('model/config.json'), 'config.json: cannot be read'),
    ('configuration is no JSON', text('model/config.json', '{'), 'config.json: is not JSON'),
    ('configuration is a list', text('model/config.json', '[]'), 'config.json: is not the configuration'),
    ('unknown network', config(encoder_name='resnext5000'), 'config.json: describes no model'),
    ('network from the internet', config(encoder_name='tu-hf-hub:someone/model'),
     'config.json: has values outside'),
    ('network from a folder', config(encoder_name='tu-local-dir:/etc'), 'config.json: has values outside'),
    *[(f'{k} {v}'[:60], config(**{k: v}), 'config.json: ') for k, v in [
        ('classes', 'three'), ('classes', -1), ('classes', 10**9), ('classes', True), ('classes', 1e400),
        ('in_channels', 2), ('input_norm', 'magic'), ('tile_size', 33), ('tile_size', 0),
        ('resize', 7), ('resize', [256]), ('decoder_channels', []), ('decoder_channels', [10**9]*5),
        ('decoder_channels', ['x']*5), ('encoder_name', None), ('encoder_name', 'x'*9999),
        ('class_names', ['a', 'b']), ('class_names', ['a', 'a', 'b']), ('class_names', ['a', 'b', '\ud800']),
        ('class_names', ['a', 'b', 'c\nd']), ('meta', [1])]],
    ('no folder', rm('model'), 'model: is not a folder with a model'),
    ('a file', lambda r: (rm('model')(r), text('model')(r)), 'model: is not a folder with a model'),
]]


# ---- splits and results ----

def edit(name, change):
    "Change the JSON in a file"
    def do(root):
        d = json.loads((root/name).read_text())
        put(root/name, json.dumps(change(d) or d))
    return do


def split(change):
    return edit('run/split.json', lambda d: change(d['parts']))
def results(change):
    return edit('run/results.json', change)


SPLITS = [Bad(f'run: {name}', make, TEST, says) for name, make, says in [
    ('no folder', rm('run'), 'run'), ('no split', rm('run/split.json'), 'split.json: cannot be read'),
    ('split is no JSON', text('run/split.json', '{'), 'split.json: is not JSON'),
    ('split without parts', edit('run/split.json', lambda d: d.pop('parts') and None),
     'split.json: is not a split'),
    ('split without a part', split(lambda p: p.pop('test') and None), 'split.json: is not a split'),
    ('split of numbers', split(lambda p: p.update(test=3)), 'split.json: is not a split'),
    ('unknown names', split(lambda p: p['test'].append('nobody')), 'unknown cases, first nobody'),
    ('parts that overlap', split(lambda p: p['test'].append(p['train'][0])), 'split.json: has '),
    ('edited parts', split(lambda p: p['test'].append(p['train'].pop())),
     'split.json: does not match its own checksum'),
    ('data set with other files', lambda r: shutil.copy(r/'data/normal/normal (1).png',
                                                        r/'data/normal/normal (2).png'),
     'data: is not the data of this run'),
    ('results are a list', text('run/results.json', '[]'), 'results.json: does not hold the result'),
    ('results without scores', results(lambda d: d.pop('scores') and None),
     'results.json: does not hold the result'),
    ('results with text for a score', results(lambda d: d['scores'].update(iou_mean=['x', None, None])),
     'results.json: has no [value, low, high] for iou_mean'),
    ('results with a score of 9', results(lambda d: d['scores'].update(iou_mean=[9, None, None])),
     'results.json: has no [value, low, high] for iou_mean'),
    ('results with half an interval', results(lambda d: d['scores'].update(iou_mean=[.5, .4, None])),
     'results.json: has no [value, low, high] for iou_mean'),
    ('weights of other classes', lambda r: save_model(build_model(**{**NET, 'classes': 2}), r/'run/best'),
     'run/best'),
]]


# ---- arguments ----

def using(base, *args):
    return [*base, *map(str, args)]


ARGUMENTS = [Bad(f'argument: {name}', make if callable(make) else nothing, args, says)
             for name, make, args, says in [
    ('batch of 0', 0, using(REPRODUCE, '--batch-size', 0), 'batch size 0'),
    ('batch that is no number', 0, using(REPRODUCE, '--batch-size', 'many'), '--batch-size'),
    ('negative minutes', 0, using(REPRODUCE, '--minutes', -1), '-1.0 minutes'),
    ('minutes that are no number', 0, using(REPRODUCE, '--minutes', 'nan'), 'nan minutes'),
    ('no epochs', 0, using(REPRODUCE, '--epochs', 0), '0 epochs'),
    ('learning rate 0', 0, using(REPRODUCE, '--lr', 0), 'learning rate 0'),
    ('infinite learning rate', 0, using(REPRODUCE, '--lr', 'inf'), 'learning rate inf'),
    ('negative seed', 0, using(REPRODUCE, '--seed', -1), 'seed: -1'),
    ('limit of 0', 0, using(REPRODUCE, '--limit', 0), 'limit 0'),
    ('negative limit', 0, using(REPRODUCE, '--limit', -3), 'limit -3'),
    ('unknown model', 0, using(REPRODUCE, '--model', 'resnext5000'), 'resnext5000'),
    ('unknown profile', 0, using(REPRODUCE, '--profile', 'papre'), 'papre'),
    ('unknown weights', 0, using(REPRODUCE, '--model', 'resnext101', '--weights', 'imagenet'), 'imagenet'),
    ('unknown split', 0, using(REPRODUCE, '--split', 'fair'), 'fair'),
    ('weights from a hub out of reach', 0, using(REPRODUCE, '--model', 'resnext50', '--weights', 'imagenet'),
     '--weights none'),
    ('groups that are not there', 0, using(REPRODUCE, '--groups', 'nothing.csv'), 'nothing.csv'),
    ('groups that are no table', 0, using(REPRODUCE, '--groups', 'scan.png'), 'scan.png'),
    ('groups without names', text('g.csv', 'group\n1\n'), using(REPRODUCE, '--groups', 'g.csv'),
     'g.csv: lacks'),
    ('groups of unknown names', text('g.csv', 'group,name\n1,nobody\n1,normal (1)\n'),
     using(SPLIT, '--groups', 'g.csv'), 'nobody'),
    ('groups with a missing name', text('g.csv', 'group,name\n1,\n1,normal (1)\n'),
     using(SPLIT, '--groups', 'g.csv'), 'g.csv'),
    ('runs folder is a file', 0, using(REPRODUCE, '--runs', 'scan.png'), 'scan.png'),
    ('finished run', lambda r: shutil.copytree(r/'run', r/'runs/a'), using(REPRODUCE, '--name', 'a'),
     'already holds a finished run'),
    ('cache folder is a file', 0, using(REPRODUCE, '--cache', 'scan.png'), 'scan.png'),
    ('unknown command', 0, ['reproduec'], 'reproduec'),
    ('unknown option', 0, using(REPRODUCE, '--bach-size', 3), '--bach-size'),
    ('no input', 0, ['predict'], 'Missing argument'),
    ('no data', 0, ['verify'], 'BUSI_ROOT'),
    ('tile 0', 0, using(TRAIN, '--tile', 0), 'tile size 0'),
    ('tile 100', 0, using(TRAIN, '--tile', 100), 'tile size 100'),
    ('negative tile', 0, using(TRAIN, '--tile', -32), 'tile size -32'),
    ('working size 7', 0, using(TRAIN, '--resize', 7), '--resize 7'),
    ('start that is not there', 0, using(TRAIN, '--from', 'nowhere'), 'nowhere'),
    ('minutes below 0 on own data', 0, using(TRAIN, '--minutes', -1), '-1.0 minutes'),
    ('overlap 1', 0, using(PREDICT, 'scan.png', '--overlap', 1), 'overlap=1'),
    ('negative overlap', 0, using(PREDICT, 'scan.png', '--overlap', -.1), 'overlap=-0.1'),
    ('overlap that is no number', 0, using(PREDICT, 'scan.png', '--overlap', 'nan'), 'overlap=nan'),
    ('no files at a time', 0, using(PREDICT, 'scan.png', '--jobs', 0), 'jobs=0'),
    ('unknown augmentation', 0, using(PREDICT, 'scan.png', '--tta', 'spin'), 'spin'),
    ('working size x', 0, using(PREDICT, 'scan.png', '--resize', 'x'), '--resize x'),
    ('output is a file', 0, ['predict', '--model', 'model', 'scan.png', '-o', 'run/split.json'],
     'run/split.json'),
    ('output below a file', 0, ['predict', '--model', 'model', 'scan.png', '-o', 'run/split.json/x'],
     'run/split.json'),
    ('split over an image', 0, ['split', IMAGE, '--data', 'data'], IMAGE),
    ('split over another JSON', 0, ['split', 'own/classes.json', '--data', 'data'], 'own/classes.json'),
    ('split of unknown kind', 0, using(SPLIT, '--kind', 'fair'), 'fair'),
    ('shares above 1', 0, using(SPLIT, '--train', .9), 'fractions'),
    ('negative share', 0, using(SPLIT, '--train', -.7, '--valid', 1.6), 'fractions'),
    ('share that is no number', 0, using(SPLIT, '--train', 'nan'), 'fractions'),
    ('phantom over other files', 0, ['phantom', 'own'], 'own'),
    ('phantom of negative count', 0, ['phantom', 'p', '--benign', '-1'], 'counts and scale'),
    ('phantom of no scale', 0, ['phantom', 'p', '--scale', 'nan'], 'scale'),
    ('ONNX of another name', 0, ['export', 'scan.png', '--model', 'model'], 'scan.png'),
    ('upload of no size', 0, ['app', '--model', 'model', '--max-mb', '0'], '0'),
]]

# ---- rights: what to take away, from which file or folder ----

RIGHTS = [('image', IMAGE, 0, REPRODUCE, 'benign (2).png: unreadable'),
          ('mask', MASK, 0, REPRODUCE, 'benign (2)_mask.png: unreadable'),
          ('class folder', 'data/benign', 0, REPRODUCE, 'data/benign: cannot be read'),
          ('image of own data', 'own/images/x002.png', 0, TRAIN, 'x002.png: cannot be read'),
          ('images of own data', 'own/images', 0, TRAIN, 'own/images: cannot be read'),
          ('image to predict', 'scan.png', 0, using(PREDICT, 'scan.png'), 'scan.png: cannot be read'),
          ('folder to predict', 'own/images', 0, using(PREDICT, 'own/images'), 'own/images: '),
          ('weights', 'model/model.safetensors', 0, using(PREDICT, 'scan.png'), 'model.safetensors: '),
          ('configuration', 'model/config.json', 0, using(PREDICT, 'scan.png'),
           'config.json: cannot be read'),
          ('split', 'run/split.json', 0, TEST, 'split.json: cannot be read'),
          ('results to write', 'out', 0o555, using(PREDICT, 'scan.png'), 'out/scan.json: cannot be written'),
          ('split to write', 'out', 0o555, SPLIT, 'out/split.json: cannot be written'),
          ('run to write', 'runs', 0o555, REPRODUCE, 'cannot be written'),
          ('cache to write', 'cache', 0o555, REPRODUCE, 'cannot be written')]


CASES = [*DATA, *OWN, *IMAGES, *WEIGHTS, *SPLITS, *ARGUMENTS]
assert len({c.name for c in CASES}) == len(CASES)

"Tiles: exact round trips, order, overlap and blending, streaming, bad arguments"
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from busiseg_nb.core import BusisegError
from busiseg_nb.tiling import BandMerger, blend_window, make_grid, merge_tiles, stream_tiles, tile_image

DTYPES = ['uint8', 'bool', 'int16', 'int64', 'float16', 'float32', 'float64']
BLENDS = [None, 'mean', 'gaussian']
sides = st.integers(1, 600)
tails = st.sampled_from([(), (1,), (3,), (5,)])
shapes = st.tuples(sides, sides, tails).map(lambda sides_and_tail: (*sides_and_tail[:2], *sides_and_tail[2]))
SLOW = dict(deadline=None, derandomize=True)


def values(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 256, shape)
    if dtype.startswith('float'):
        a = a/255
    elif dtype == 'bool':
        a = a % 2
    return a.astype(dtype)


def plain_tiles(a, size, stride):
    "The definition, slowly: pad with zeros right and bottom until every pixel is covered, then cut"
    n = [1 + max(0, int(np.ceil((s - size)/stride))) for s in a.shape[:2]]
    p = np.zeros([(k - 1)*stride + size for k in n] + list(a.shape[2:]), a.dtype)
    p[:a.shape[0], :a.shape[1]] = a
    starts = [(r*stride, c*stride) for r in range(n[0]) for c in range(n[1])]
    return np.stack([p[y:y+size, x:x+size] for y, x in starts]), p.shape[:2]


@settings(max_examples=80, **SLOW)
@given(h=sides, w=sides, tail=tails, dtype=st.sampled_from(DTYPES), size=st.sampled_from([256, 64, 100, 33]),
       blend=st.sampled_from(BLENDS))
def test_round_trip(h, w, tail, dtype, size, blend):
    a = values((h, w, *tail), dtype)
    tiles, grid = tile_image(a, size)
    want, padded = plain_tiles(a, size, size)
    assert tiles.dtype == a.dtype and grid.padded == padded
    np.testing.assert_array_equal(tiles, want)
    back = merge_tiles(tiles, grid, blend)      # no overlap, nothing to blend: exact for labels too
    assert back.dtype == a.dtype and back.shape == a.shape
    np.testing.assert_array_equal(back, a)


@settings(max_examples=40, **SLOW)
@given(h=sides, w=sides, tail=tails, size=st.integers(1, 300), overlap=st.floats(0, .8),
       dtype=st.sampled_from(DTYPES))
def test_overlapping_round_trip(h, w, tail, size, overlap, dtype):
    size = max(size, h//8, w//8)                         # not more tiles than a test needs
    a = values((h, w, *tail), dtype)
    tiles, grid = tile_image(a, size, overlap)
    assert grid.stride == max(1, round(size*(1 - overlap)))
    np.testing.assert_array_equal(tiles, plain_tiles(a, size, grid.stride)[0])
    np.testing.assert_array_equal(merge_tiles(tiles, grid), a)


@settings(max_examples=30, **SLOW)
@given(h=sides, w=sides, tail=tails, dtype=st.sampled_from(DTYPES), overlap=st.sampled_from([0, .5]))
def test_torch_equals_numpy(h, w, tail, dtype, overlap):
    a = values((h, w, *tail), dtype)
    t = torch.from_numpy(a)
    tiles, grid = tile_image(a, overlap=overlap)
    ttiles, tgrid = tile_image(t, overlap=overlap)
    assert isinstance(ttiles, torch.Tensor) and ttiles.dtype == t.dtype and tgrid == grid
    np.testing.assert_array_equal(ttiles.numpy(), tiles)
    back = merge_tiles(ttiles, tgrid)
    assert isinstance(back, torch.Tensor) and torch.equal(back, t)
    if dtype.startswith('float'):
        back = merge_tiles(ttiles, grid, 'gaussian')
        assert back.dtype == t.dtype
        np.testing.assert_allclose(back.numpy(), merge_tiles(tiles, grid, 'gaussian'), atol=1e-6)


@pytest.mark.parametrize('order', ['F', 'flipped', 'channels last', 'memmap'])
def test_any_memory_layout(order, tmp_path):
    a = values((300, 410, 3), 'uint8')
    if order == 'F':
        a = np.asfortranarray(a)
    if order == 'flipped':
        a = a[::-1, ::-2]
    if order == 'channels last':
        a = np.moveaxis(values((3, 300, 410), 'uint8'), 0, -1)
    if order == 'memmap':
        np.save(tmp_path/'a.npy', a)
        a = np.load(tmp_path/'a.npy', mmap_mode='r')
    tiles, grid = tile_image(a)
    np.testing.assert_array_equal(tiles, plain_tiles(a, 256, 256)[0])
    np.testing.assert_array_equal(merge_tiles(tiles, grid), a)
    from_network = torch.from_numpy(np.ascontiguousarray(tiles)).permute(0, 3, 1, 2).contiguous()
    np.testing.assert_array_equal(merge_tiles(from_network.permute(0, 2, 3, 1), grid), a)


def test_input_is_left_alone():
    a = values((300, 300), 'float32')
    before = a.copy()
    tiles, grid = tile_image(a, overlap=.5)
    tiles_before = tiles.copy()
    for blend in BLENDS:
        merge_tiles(tiles, grid, blend)
    np.testing.assert_array_equal(a, before)
    np.testing.assert_array_equal(tiles, tiles_before)
    tiles[:] = -1
    np.testing.assert_array_equal(a, before)             # tiles are copies, not views


def test_order_is_row_by_row():
    a = np.add.outer(np.arange(5)//2*10, np.arange(7)//2)         # each 2x2 block holds its row*10 + column
    tiles, grid = tile_image(a, 2)
    assert (grid.rows, grid.cols, len(grid)) == (3, 4, 12)
    assert tiles[:, 0, 0].tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert grid.origins == [(y, x) for y in (0, 2, 4) for x in (0, 2, 4, 6)]
    wrong = merge_tiles(tiles.reshape(3, 4, 2, 2).swapaxes(0, 1).reshape(12, 2, 2), grid)
    assert (wrong != a).any()


@pytest.mark.parametrize('shape', [(1, 1), (1, 257), (190, 335), (256, 256), (300, 513, 3), (600, 599, 2)])
@pytest.mark.parametrize('overlap', [0, .25, .5, .75])
@pytest.mark.parametrize('blend', BLENDS)
def test_identity(shape, overlap, blend):
    for dtype in ('float32', 'float64', 'float16'):
        a = values(shape, dtype)
        tiles, grid = tile_image(a, overlap=overlap)
        back = merge_tiles(tiles, grid, blend)
        assert back.dtype == a.dtype
        np.testing.assert_allclose(back, a, rtol=0, atol=1e-6)
    t = torch.from_numpy(values(shape, 'float32')).bfloat16()
    back = merge_tiles(*tile_image(t, overlap=overlap), blend)
    assert back.dtype == torch.bfloat16 and (back.float() - t.float()).abs().max() <= 1e-6


@settings(max_examples=60, **SLOW)
@given(shape=shapes, size=st.sampled_from([64, 100, 256]), overlap=st.sampled_from([0, .25, .5, .7]),
       blend=st.sampled_from(BLENDS), dtype=st.sampled_from(['uint8', 'float16', 'float32']),
       torched=st.booleans())
def test_streaming_equals_the_whole(shape, size, overlap, blend, dtype, torched):
    a = values(shape, dtype)
    if blend and overlap and dtype == 'uint8':
        a = a.astype('float64')                          # labels are not averaged
    if torched:
        a = torch.from_numpy(a)
    grid = make_grid(a.shape, size, overlap)
    merger, asked, bands, all_tiles, buffer = BandMerger(grid, blend), [], [], [], a[:0]

    def read(y0, y1):
        nonlocal buffer
        asked.append((y0, y1))
        if len(buffer):
            buffer[:] = 0                               # a reader may use its own memory again
        buffer = a[y0:y1].clone() if torched else a[y0:y1].copy()
        return buffer

    noise = np.random.default_rng(1)                     # a network whose tiles disagree where they overlap
    for tiles in stream_tiles(read, grid):
        all_tiles.append(tiles)
        k = int(noise.integers(0, 9))
        bands.append(merger.add(tiles*k))
    assert [y for y, _ in asked] == [0] + [y for _, y in asked[:-1]]     # every row once, in order
    assert asked[-1][1] == shape[0]
    whole, _ = tile_image(a, size, overlap)
    stack = torch.cat if torched else np.concatenate
    np.testing.assert_array_equal(stack(all_tiles), whole)
    noise = np.random.default_rng(1)
    rows = [whole[r*grid.cols:(r+1)*grid.cols] for r in range(grid.rows)]
    out = stack([row*int(noise.integers(0, 9)) for row in rows])
    np.testing.assert_array_equal(stack(bands), merge_tiles(out, grid, blend))
    assert all(len(b) for b in bands) and merger.row == grid.rows
    with pytest.raises(BusisegError, match='already'):
        merger.add(tiles)


def test_streaming_holds_only_bands():
    "6000x6000 pixels, three float classes (432 MB as a whole) through a few bands"
    grid, rows = make_grid((6000, 6000), overlap=.5), 0
    merger = BandMerger(grid, 'gaussian')
    tracemalloc.start()
    for tiles in stream_tiles(lambda a, b: np.full((b - a, 6000), 7, np.uint8), grid):
        band = merger.add(np.repeat(tiles[..., None], 3, -1).astype(np.float32))
        assert band.shape[1:] == (6000, 3) and abs(band - 7).max() < 1e-5
        rows += len(band)
    most = tracemalloc.get_traced_memory()[1]/2**20
    tracemalloc.stop()
    assert rows == 6000
    assert most < 216, 'MB: half of the whole image'


def test_nearest_centre():
    "With blend=None a pixel comes from the tile whose centre is nearest"
    grid = make_grid((40, 70), 16, .5)
    numbers = np.arange(len(grid), dtype=np.int32)[:, None, None]*np.ones((1, 16, 16), np.int32)
    got = merge_tiles(numbers, grid)
    centres = np.array(grid.origins) + 7.5
    yx = np.stack(np.mgrid[:40, :70], -1)
    for axis in (0, 1):                                  # along each side, no tile's centre is nearer
        d = np.abs(yx[:, :, None, axis] - centres[:, axis])
        np.testing.assert_allclose(np.take_along_axis(d, got[..., None], 2)[..., 0], d.min(-1))


@pytest.mark.parametrize('blend', ['mean', 'gaussian'])
def test_blending_is_the_weighted_mean(blend):
    "Against the definition: sum of weight times value over sum of weights"
    grid, rng = make_grid((50, 61, 2), 16, .6), np.random.default_rng(0)
    tiles = rng.random((len(grid), 16, 16, 2))
    w = np.outer(blend_window(16, blend), blend_window(16, blend))[..., None]
    top, bottom = np.zeros((*grid.padded, 2)), np.zeros((*grid.padded, 1))
    for t, (y, x) in zip(tiles, grid.origins, strict=True):
        top[y:y+16, x:x+16] += w*t
        bottom[y:y+16, x:x+16] += w
    np.testing.assert_allclose(merge_tiles(tiles, grid, blend), (top/bottom)[:50, :61], atol=1e-12)


def test_gaussian_is_the_usual_one():
    "sigma = size/8 (nnU-Net, MONAI), positive everywhere, symmetric, largest in the middle"
    for size in (1, 2, 7, 256):
        w = blend_window(size)
        assert w.min() >= 1e-3 and w.max() <= 1 and np.array_equal(w, w[::-1])
        assert w.argmax() in (size//2, (size - 1)//2)
    w = blend_window(257)
    np.testing.assert_allclose(w[128 + 32], np.exp(-.5*(32/(257/8))**2))
    x = np.arange(256) - 127.5           # MONAI's map for sigma_scale=0.125: the product is kept above 0.001
    theirs = np.maximum(np.exp(-.5*(np.add.outer(x**2, x**2))/32**2), 1e-3)
    w = blend_window(256)
    assert np.abs(np.outer(w, w) - theirs).max() <= 1.001e-3       # we keep each side above 0.001


BAD = [
    (lambda a: tile_image(a, 0), 'size=0'),
    (lambda a: tile_image(a, -3), 'size=-3'),
    (lambda a: tile_image(a, 25.6), 'size=25.6'),
    (lambda a: tile_image(a, True), 'size=True'),
    (lambda a: tile_image(a, '256'), "size='256'"),
    (lambda a: tile_image(a, 256, 1), 'overlap=1'),
    (lambda a: tile_image(a, 256, -.1), 'overlap=-0.1'),
    (lambda a: tile_image(a, 256, float('nan')), 'overlap=nan'),
    (lambda a: tile_image(a, 256, 'half'), "overlap='half'"),
    (lambda a: tile_image(a[:0]), 'no pixels'),
    (lambda a: tile_image(a[:, :0]), 'no pixels'),
    (lambda a: tile_image(a[0]), 'no pixels'),
    (lambda a: tile_image(a[None, None]), 'no pixels'),
    (lambda a: tile_image(3), 'no pixels'),
    (lambda a: merge_tiles(tile_image(a)[0][:3], make_grid(a.shape)), r'\(3, 256, 256\): do not fit'),
    (lambda a: merge_tiles(tile_image(a, 128)[0][:4], make_grid(a.shape)), 'do not fit'),
    (lambda a: merge_tiles(tile_image(a)[0][..., None, None], make_grid(a.shape)), 'do not fit'),
    (lambda a: merge_tiles(a, make_grid(a.shape)), 'do not fit'),
    (lambda a: merge_tiles(*tile_image(a), 'cubic'), "blend='cubic'"),
    (lambda a: merge_tiles(*tile_image(a, overlap=.5), 'mean'), 'uint8 tiles: overlap'),
    (lambda a: merge_tiles(*tile_image(torch.from_numpy(a), overlap=.5), 'gaussian'), 'uint8 tiles: overlap'),
    (lambda a: merge_tiles(*tile_image(a > 9, overlap=.5), 'gaussian'), 'bool tiles: overlap'),
    (lambda a: BandMerger(make_grid(a.shape), 'cubic'), "blend='cubic'"),
    (lambda a: BandMerger(make_grid(a.shape)).add(tile_image(a)[0]), 'do not fit'),
    (lambda a: list(stream_tiles(lambda y, z: a[y:z, :9], make_grid(a.shape))), 'rows 0 to 256'),
    (lambda a: list(stream_tiles(lambda y, z: a[:1], make_grid(a.shape))), 'rows 0 to 256'),
]


@pytest.mark.parametrize('do,line', BAD, ids=[line for _, line in BAD])
def test_bad_arguments(do, line):
    with pytest.raises(BusisegError, match=line) as e:
        do(values((300, 400), 'uint8'))
    assert '\n' not in str(e.value)


def test_light_import():
    "Tiling needs neither torch nor fastai"
    code = ("import sys, busiseg_nb.tiling; "
            "print([m for m in ('torch', 'fastai', 'pandas') if m in sys.modules])")
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == '[]'


def test_all_of_busi(busi):
    "Every image and every mask of the real data set, bit for bit; image and mask share a grid; 5,607 tiles"
    files = sorted(busi.glob('*/*.png'))
    pictures = [f for f in files if '_mask' not in f.name]
    assert (len(pictures), len(files)) == (780, 1578)

    def one(f):
        with Image.open(f) as im:
            a = np.asarray(im)
        tiles, grid = tile_image(a)
        back = merge_tiles(tiles, grid)
        return f, grid, len(tiles), back.dtype == a.dtype and np.array_equal(back, a)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(one, files))
    assert [f.name for f, _, _, same in done if not same] == []
    grids = {f: g for f, g, _, _ in done}
    assert sum(n for f, _, n, _ in done if '_mask' not in f.name) == 5607
    for f, g in grids.items():
        if '_mask' in f.name:
            assert g == grids[f.with_name(f.name.split('_mask')[0] + '.png')], f.name

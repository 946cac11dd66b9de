"Draw the committed pictures of the README and the site: nbs/images/overview.png (phantom) and nbs/images/pipeline.svg (the paper's figure 1)"
import io, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
IMAGES = ROOT/'nbs'/'images'

def overview():
    "Three phantom images, and the same with their masks: what goes in and what comes out"
    import matplotlib; matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    import numpy as np
    from PIL import Image
    from busiseg_nb.core import COLOURS, phantom_image, overlay
    fig, axs = plt.subplots(2, 3, figsize=(8, 4.6), layout='constrained', facecolor='white')
    for j, (label, seed) in enumerate((('benign', 8), ('malignant', 5), ('normal', 2))):
        img, masks = phantom_image(label, size=(300, 400), seed=seed)
        mask = np.zeros(img.shape, np.uint8)
        for m in masks: mask[m] = 1 if label == 'benign' else 2
        for i, (pic, what) in enumerate(((img, f'{label}'), (overlay(img, mask, .45), {'benign': 'benign (1)', 'malignant': 'malignant (2)'}.get(label, 'background (0) only')))):
            axs[i, j].imshow(pic, cmap='gray', vmin=0, vmax=255); axs[i, j].set_title(('image: ' if i == 0 else 'mask: ') + what, fontsize=10); axs[i, j].axis('off')
    file = io.BytesIO(); fig.savefig(file, dpi=90); plt.close(fig)
    Image.open(file).convert('RGB').quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(IMAGES/'overview.png', optimize=True)

INK, SOFT, LINE, BLUE, ORANGE = '#1d2b3a', '#556575', '#8fa1b3', '#0072b2', '#d55e00'

def box(x, y, w, h, title, lines=(), room='', fill='#ffffff', stroke=LINE):
    "A box with a bold title, small lines and the notebook that it belongs to"
    out = [f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="8" fill="{fill}" stroke="{stroke}" stroke-width="1.5"/>',
           f'<text x="{x + w/2}" y="{y + 24}" text-anchor="middle" font-weight="600" font-size="15" fill="{INK}">{title}</text>']
    out += [f'<text x="{x + w/2}" y="{y + 44 + 17*i}" text-anchor="middle" font-size="12" fill="{SOFT}">{t}</text>' for i, t in enumerate(lines)]
    if room: out.append(f'<text x="{x + w/2}" y="{y + h - 10}" text-anchor="middle" font-size="10.5" fill="{BLUE}" font-family="ui-monospace,Menlo,Consolas,monospace">{room}</text>')
    return '\n'.join(out)

def arrow(*points, label='', at=None, dash=False):
    "A line with a head through the points"
    path = 'M' + ' L'.join(f'{x} {y}' for x, y in points)
    t = f'<text x="{at[0]}" y="{at[1]}" text-anchor="middle" font-size="12" fill="{SOFT}">{label}</text>' if label else ''
    dashes = ' stroke-dasharray="5 4"' if dash else ''
    return f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.6" marker-end="url(#a)"{dashes}/>{t}'

def tiles(x, y, n=3, m=2, s=13, fill='#e6eef5'):
    "A small grid of tiles"
    return ''.join(f'<rect x="{x + j*(s + 3)}" y="{y + i*(s + 3)}" width="{s}" height="{s}" rx="1.5" fill="{fill}" stroke="{LINE}"/>' for i in range(m) for j in range(n))

def pipeline():
    "The paper's figure 1 as a block diagram, with the notebook of each block"
    w, h = 960, 430
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-labelledby="t d" font-family="system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif">',
             '<title id="t">The method as a block diagram</title>',
             '<desc id="d">Ultrasound images and their mask files are merged to class masks, padded and cut into 256 by 256 tiles, split into training, validation and test images, '
             'and train a U-Net. A new image is padded and cut in the same way, each tile is segmented, and the tiles are merged into a mask of the image\'s own size, which is scored.</desc>',
             f'<defs><marker id="a" viewBox="0 0 10 10" refX="8.5" refY="5" markerWidth="8" markerHeight="8" orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{INK}"/></marker></defs>',
             f'<rect width="{w}" height="{h}" rx="12" fill="#f5f8fb"/>']
    head = lambda y, t: f'<text x="24" y="{y}" font-size="12.5" font-weight="600" letter-spacing="1" fill="{SOFT}">{t}</text>'
    parts += [head(34, 'TRAINING')]
    y, bh = 48, 128
    xs = [24, 214, 404, 594, 784]; bw = 152
    parts += [box(xs[0], y, bw, bh, 'BUSI', ['780 images, 798 masks', 'benign, malignant,', 'normal'], '01_dataset'),
              box(xs[1], y, bw, bh, 'Preprocessing', ['all masks of an image', 'merged; values', '0, 1, 2'], '02_preprocessing'),
              box(xs[2], y, bw, bh, 'Tiling', ['padded right, below;', 'cut to 256 × 256'], '03_tiling'),
              box(xs[3], y, bw, bh, 'Split', ['training 70 %', 'validation 20 %', 'test 10 %'], '01_dataset'),
              box(xs[4], y, bw, bh, 'U-Net', ['VGG16, ResNeXt-50 or', 'ResNeXt-101 encoder;', 'Dice loss, Adam'], '04_models 05_training', fill='#fff4ea', stroke=ORANGE)]
    parts += [arrow((a + bw, y + bh/2), (b - 3, y + bh/2)) for a, b in zip(xs, xs[1:])]
    parts += [tiles(xs[2] + 54, y + 72)]
    y2 = 260
    parts += [f'<text x="{xs[0] + bw/2 + 14}" y="{y2 - 14}" font-size="12.5" font-weight="600" letter-spacing="1" fill="{SOFT}">ANY IMAGE</text>',
              box(xs[0], y2, bw, bh, 'Image', ['any height and width', 'H × W'], '07_inference'),
              box(xs[1], y2, bw, bh, 'Tiling', ['the same grid'], '03_tiling'),
              box(xs[2], y2, bw, bh, 'Trained U-Net', ['a mask for', 'each tile'], '07_inference', fill='#fff4ea', stroke=ORANGE),
              box(xs[3], y2, bw, bh, 'Merging', ['back in place,', 'padding cut off:', 'H × W mask'], '03_tiling'),
              box(xs[4], y2, bw, bh, 'Scores', ['IoU and Dice with', 'convention, interval'], '06_metrics')]
    parts += [arrow((a + bw, y2 + bh/2), (b - 3, y2 + bh/2)) for a, b in zip(xs, xs[1:])]
    parts += [tiles(xs[1] + 54, y2 + 58)]
    parts += [arrow((xs[4] + bw/2, y + bh), (xs[4] + bw/2, 226), (xs[2] + bw/2, 226), (xs[2] + bw/2, y2 - 3), label='best weights on the validation images', at=((xs[2] + xs[4])/2 + bw/2, 219))]
    parts += [arrow((xs[3] + 30, y + bh), (xs[3] + 30, 194), (xs[0] + bw/2, 194), (xs[0] + bw/2, y2 - 3), label='test images', at=(xs[1] + bw/2, 189), dash=True)]
    parts += [f'<text x="24" y="{h - 16}" font-size="11.5" fill="{SOFT}">After figure 1 of Katar &amp; Yildirim (2023). The notebook that holds each block is in blue.</text>', '</svg>']
    (IMAGES/'pipeline.svg').write_text('\n'.join(parts) + '\n', encoding='utf-8')

if __name__ == '__main__':
    IMAGES.mkdir(exist_ok=True); overview(); pipeline()
    for f in sorted(IMAGES.iterdir()): print(f.relative_to(ROOT), f.stat().st_size)

"Draw the pictures of the README and the site: overview.png (phantom) and pipeline.svg (the paper's figure 1)"
import argparse
import io
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT/'nbs'/'images'
EXAMPLES = (('benign', 8), ('malignant', 5), ('normal', 2))      # class and seed of a phantom
SHOWN = {'benign': 'benign (1)', 'malignant': 'malignant (2)', 'normal': 'background (0) only'}

INK, SOFT, LINE, BLUE, ORANGE = '#1d2b3a', '#4a5968', '#8fa1b3', '#005a94', '#d55e00'
SANS = 'system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif'
MONO = 'ui-monospace,Menlo,Consolas,monospace'


def overview():
    "Three phantom images, and the same with their masks: what goes in and what comes out"
    sys.path.insert(0, str(ROOT))
    import matplotlib
    import numpy as np
    from PIL import Image

    from busiseg_nb.images import overlay
    from busiseg_nb.phantom import phantom_image
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    fig, axs = plt.subplots(2, 3, figsize=(8, 4.6), layout='constrained', facecolor='white')
    for column, (label, seed) in zip(axs.T, EXAMPLES, strict=True):
        img, masks = phantom_image(label, size=(300, 400), seed=seed)
        mask = np.zeros(img.shape, np.uint8)
        for lesion in masks:
            mask[lesion] = 1 if label == 'benign' else 2
        column[0].imshow(img, cmap='gray', vmin=0, vmax=255)
        column[0].set_title(f'image: {label}', fontsize=12)
        column[1].imshow(overlay(img, mask, .45))
        column[1].set_title(f'mask: {SHOWN[label]}', fontsize=12)
    for ax in axs.flat:
        ax.axis('off')
    file = io.BytesIO()
    fig.savefig(file, dpi=180)
    plt.close(fig)
    picture = Image.open(file).convert('RGB')
    picture = picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(IMAGES/'overview.png', optimize=True)


# ------------------------------------------------------------------ the block diagram

@dataclass(frozen=True)
class Block:
    "A box of the diagram"
    title: str
    lines: tuple         # small text under the title
    room: str            # the notebook that holds it
    network: bool = False


TRAINING = (
    Block('BUSI', ('780 images, 798 masks:', 'benign, malignant, normal'), '01_dataset'),
    Block('Preprocessing', ('all masks of an image', 'merged; values 0, 1, 2'), '02_preprocessing'),
    Block('Tiling', ('padded right and below;', 'cut to 256 × 256'), '03_tiling'),
    Block('Split', ('70 % training, 20 %', 'validation, 10 % test'), '01a_splits'),
    Block('U-Net', ('VGG16 or ResNeXt inside;', 'Dice loss, Adam'), '04_models 05_training', True))
ANY_IMAGE = (
    Block('Image', ('any height and width,', 'H × W'), '07_inference'),
    Block('Tiling', ('padded and cut', 'in the same way'), '03_tiling'),
    Block('Trained U-Net', ('a mask for', 'each tile'), '07_inference', True),
    Block('Merging', ('back in place, padding', 'cut off: H × W mask'), '03_tiling'),
    Block('Scores', ('IoU and Dice, with their', 'convention and interval'), '06_metrics'))
WIDTH, BOX_WIDTH, BOX_HEIGHT, GAP, TOP = 460, 200, 94, 28, 56
LEFT, RIGHT = 16, 244
DESCRIPTION = (
    'Left, from top to bottom: BUSI, preprocessing, tiling, split, U-Net. Right: an image of any size, '
    'tiling, the trained U-Net, merging, scores. The best weights on the validation images go from left to '
    'right, and so do the test images.')


def text(x, y, words, size=13.0, **style) -> str:
    "A line of text, centred at x unless anchor says otherwise"
    rest = ''.join(f' {key.replace("_", "-")}="{value}"' for key, value in style.items())
    anchor = '' if 'text_anchor' in style else ' text-anchor="middle"'
    return f'<text x="{x}" y="{y}" font-size="{size}"{anchor}{rest}>{words}</text>'


def box(x, y, block: Block) -> str:
    "A box with a bold title, small lines and the notebook that it belongs to"
    fill, stroke = ('#fff4ea', ORANGE) if block.network else ('#ffffff', LINE)
    middle = x + BOX_WIDTH/2
    size = f'width="{BOX_WIDTH}" height="{BOX_HEIGHT}"'
    out = [f'<rect x="{x}" y="{y}" {size} rx="8" fill="{fill}" stroke="{stroke}" stroke-width="1.5"/>',
           text(middle, y + 23, block.title, 17, font_weight=600, fill=INK)]
    out += [text(middle, y + 42 + 17*i, line, 14, fill=SOFT) for i, line in enumerate(block.lines)]
    out.append(text(middle, y + BOX_HEIGHT - 8, block.room, 12.5, fill=BLUE, font_family=MONO))
    return '\n'.join(out)


def arrow(*points, dashed=False) -> str:
    "A line with a head through the points"
    path = 'M' + ' L'.join(f'{x} {y}' for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if dashed else ''
    return f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.6" marker-end="url(#a)"{dashes}/>'


def top(i: int) -> int:
    "Upper edge of the i-th box of a column"
    return TOP + i*(BOX_HEIGHT + GAP)


def pipeline():
    "The paper's figure 1 as a block diagram in two columns, which a phone shows legibly"
    height = top(len(TRAINING)) + 22
    between = (LEFT + BOX_WIDTH + RIGHT)/2
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
             f'height="{height}" role="img" aria-labelledby="t d" font-family="{SANS}">',
             '<title id="t">The method as a block diagram</title>', f'<desc id="d">{DESCRIPTION}</desc>',
             '<defs><marker id="a" viewBox="0 0 10 10" refX="8.5" refY="5" markerWidth="8" markerHeight="8" '
             f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{INK}"/></marker></defs>',
             f'<rect width="{WIDTH}" height="{height}" rx="12" fill="#f5f8fb"/>']
    for x, head, blocks in ((LEFT, 'TRAINING', TRAINING), (RIGHT, 'ANY IMAGE', ANY_IMAGE)):
        middle = x + BOX_WIDTH/2
        parts.append(text(middle, 36, head, 14, font_weight=600, letter_spacing=1, fill=SOFT))
        parts += [box(x, top(i), block) for i, block in enumerate(blocks)]
        parts += [arrow((middle, top(i) - GAP), (middle, top(i) - 3)) for i in range(1, len(blocks))]
    network, test = top(4) + BOX_HEIGHT/2, top(3) + BOX_HEIGHT/2
    trained, image = top(2) + BOX_HEIGHT/2, top(0) + BOX_HEIGHT/2
    first, second = between - 5, between + 5
    right = LEFT + BOX_WIDTH
    parts += [arrow((right, network), (second, network), (second, trained), (RIGHT - 3, trained)),
              arrow((right, test), (first, test), (first, image), (RIGHT - 3, image), dashed=True)]
    foot = 'Solid: best weights. Dashed: test images. After the paper, figure 1.'
    parts += [text(LEFT, height - 16, foot, 12, text_anchor='start', fill=SOFT), '</svg>']
    (IMAGES/'pipeline.svg').write_text('\n'.join(parts) + '\n', encoding='utf-8')


def main():
    IMAGES.mkdir(exist_ok=True)
    overview()
    pipeline()
    for file in sorted(IMAGES.iterdir()):
        print(file.relative_to(ROOT), file.stat().st_size)


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()

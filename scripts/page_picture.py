"Take the picture of the page that the docs show: nbs/images/page.png, of a phantom, in a real Chromium"
import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT/'nbs'/'images'/'page.png'
FLAGS = ('--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run')
EXAMPLES = (('malignant', 3), ('benign', 1), ('normal', 3))      # class and seed of a phantom
WIDTH, TWICE = 1200, 2                                            # CSS pixels, and pixels for each of them


def examples(folder):
    "Phantom images and one of noise: paths of PNGs"
    import numpy as np
    from PIL import Image

    from busiseg_nb.phantom import phantom_image
    pictures = {f'phantom {label}': phantom_image(label, (384, 512), seed)[0] for label, seed in EXAMPLES}
    pictures['noise'] = np.random.default_rng(0).integers(0, 256, (384, 512), dtype=np.uint8)
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder/f'{name}.png')
    return [folder/f'{name}.png' for name in pictures]


@contextmanager
def running_page():
    "The page with the model that ships: its address"
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])}
    command = [sys.executable, '-m', 'busiseg_nb.cli', 'app', '--port', '0']
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split()[0]
        finally:
            process.terminate()


def take(address, files):
    "A screenshot from the title to the downloads, as PNG bytes"
    from playwright.sync_api import sync_playwright
    chrome = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chrome, args=FLAGS)
        page = browser.new_page(viewport={'width': WIDTH, 'height': 900}, device_scale_factor=TWICE,
                                color_scheme='light')
        page.set_default_timeout(120_000)
        page.goto(address)
        page.set_input_files('#file input[type=file]', files)
        page.wait_for_selector('#overlay img')
        page.wait_for_function('''() => [...document.querySelectorAll('#overlay img, #strip img')]
          .every(img => img.complete && img.naturalWidth)''')
        end = page.locator('#mask').bounding_box()
        clip = {'x': 0, 'y': 0, 'width': WIDTH, 'height': end['y'] + end['height'] + 16}
        shot = page.screenshot(full_page=True, clip=clip)
        browser.close()
    return shot


def main():
    sys.path.insert(0, str(ROOT))
    from PIL import Image
    with tempfile.TemporaryDirectory() as folder, running_page() as address:
        picture = Image.open(io.BytesIO(take(address, examples(Path(folder))))).convert('RGB')
    picture = picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(PICTURE, optimize=True)
    print(PICTURE.relative_to(ROOT), picture.size, PICTURE.stat().st_size)


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()

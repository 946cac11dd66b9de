"The page in a real headless Chromium: upload, result, slider, downloads, broken files, nothing that leaves"
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from busiseg_nb.phantom import phantom_image

pytest.importorskip('gradio', reason='gradio is not installed (extra app)')
sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed (extra dev)')
CHROME = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
FLAGS = ('--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--disable-sync')
SERVE = '''
import faulthandler, signal, sys
faulthandler.register(signal.SIGUSR1)
import busiseg_nb.app as A
from busiseg_nb.models import load_model
predict = A.predict_image
A.predict_image = lambda *a, **k: (print('the network runs', flush=True), predict(*a, **k))[1]
A.SWEEP = float(sys.argv[3])
A.serve(load_model(sys.argv[1]), int(sys.argv[2]), 1, 'trial')
'''


@contextmanager
def serving(root, sweep=60, **kwargs):
    "The page with a small random model: its address, the folder with its files and its log, its process"
    from busiseg_nb.core import seed_everything
    from busiseg_nb.models import build_model, save_model
    seed_everything(0)
    save_model(build_model('tu-mobilenetv3_small_050', encoder_weights=None, **kwargs), root/'model')
    for d in ('tmp', 'cwd'):
        (root/d).mkdir()
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    repo = str(Path(__file__).resolve().parent.parent)
    env = {**os.environ, 'TMPDIR': str(root/'tmp'),
           'PYTHONPATH': os.pathsep.join([repo, os.environ.get('PYTHONPATH', '')]), 'HF_HUB_OFFLINE': '1',
           'GRADIO_SHARE': 'True', 'GRADIO_ALLOWED_PATHS': str(root)}
    with open(root/'log', 'w') as log:
        p = subprocess.Popen([sys.executable, '-c', SERVE, root/'model', str(port), str(sweep)],
                             cwd=root/'cwd', env=env, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = p.stdout.readline()
        told = (line, (root/'log').read_text())
        assert f'http://127.0.0.1:{port}' in line and 'not for clinical use' in line, told
        yield f'http://127.0.0.1:{port}', root, p
    finally:
        p.kill()
        p.wait()


@pytest.fixture(scope='module')
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp('app')) as s:
        yield s


@pytest.fixture(scope='module')
def page(served):
    "A browser page that notes its console, errors and requests"
    if not CHROME:
        pytest.skip('there is no Chromium on this machine')
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROME, args=FLAGS)
        page = browser.new_page(viewport={'width': 1440, 'height': 1000})
        page.errors, page.asked = [], []
        page.on('console', lambda m: page.errors.append(m.text) if m.type == 'error' else None)
        page.on('pageerror', lambda e: page.errors.append(str(e)))
        page.on('request', lambda r: page.asked.append(r.url))
        page.set_default_timeout(30_000)
        page.goto(served[0])
        page.wait_for_selector('#file input[type=file]', state='attached')
        yield page
        browser.close()


def upload(page, path):
    page.set_input_files('#file input[type=file]', path)


def download(page, button, to, name):
    "Save what a button gives, once the page has caught up and it is the file called `name`"
    for _ in range(40):
        with page.expect_download() as d:
            page.click(button)
        if d.value.suggested_filename == name and not d.value.failure():
            return d.value.save_as(to)
        page.wait_for_timeout(250)
    pytest.fail(f'{button} gives {d.value.suggested_filename}, not {name}')


def source(page, picture):
    return page.get_attribute(f'{picture} img', 'src')


def status(url):
    try:
        return urllib.request.urlopen(url, timeout=10).status
    except urllib.error.HTTPError as e:
        return e.code


def test_page_says_what_it_is(page):
    text = page.inner_text('.head')
    assert 'not for clinical use' in text and 'trial, ' in text and 'tu-mobilenetv3_small_050' in text
    assert 'up to 1 MB' in text
    assert page.locator('.result').count() == 0 or not page.locator('.result').is_visible()


def test_upload_slider_download(page, served, tmp_path):
    img, _ = phantom_image('malignant', (190, 335), seed=5)
    Image.fromarray(img).save(tmp_path/'my case.png')
    upload(page, tmp_path/'my case.png')
    page.wait_for_selector('#overlay img')
    assert 'my case.png' in page.inner_text('.title')
    assert served[2].stdout.readline() == 'the network runs\n'

    before = source(page, '#overlay')
    page.fill('#alpha input[type=number]', '90')
    page.press('#alpha input[type=number]', 'Tab')
    page.wait_for_function('old => document.querySelector("#overlay img").src != old', arg=before)

    download(page, '#mask', tmp_path/'mask.png', 'my case_mask.png')
    mask = Image.open(tmp_path/'mask.png')
    assert mask.format == 'PNG' and mask.size == (335, 190)
    values = np.asarray(mask)
    assert set(np.unique(values)) <= {0, 1, 2}
    download(page, '#report', tmp_path/'report.json', 'my case_report.json')
    report = json.loads((tmp_path/'report.json').read_text())
    assert list(report['area_px'].values()) == np.bincount(values.ravel(), minlength=3).tolist()
    assert (report['height'], report['width']) == (190, 335)
    assert page.locator('#lesions tbody tr').count() == min(25, len(report['lesions']))
    with Image.open(tmp_path/'mask.png') as m:
        assert m.getpalette()[3:6] == [86, 180, 233]


def test_broken_file_is_one_line_and_the_page_goes_on(page, served, tmp_path):
    (tmp_path/'broken.png').write_text('no image')
    upload(page, tmp_path/'broken.png')
    page.wait_for_selector('#alert p')
    text = page.inner_text('#alert')
    assert text.startswith('broken.png: ') and '\n' not in text and str(served[1]) not in text
    assert not page.locator('#overlay img').is_visible()
    page.locator('.gallery-item, .gallery button').first.click()                         # an example
    page.wait_for_selector('#overlay img')
    assert 'phantom_benign.png' in page.inner_text('.title')
    assert not page.locator('#alert p').is_visible()


PASTE = '''async () => {
  const canvas = document.createElement('canvas');
  canvas.width = 40;
  canvas.height = 30;
  canvas.getContext('2d').fillRect(0, 0, 40, 30);
  const picture = await new Promise(done => canvas.toBlob(done));
  const data = new DataTransfer();
  data.items.add(new File([picture], 'pasted.png', {type: 'image/png'}));
  document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true}));
}'''


def test_paste(page):
    page.evaluate(PASTE)
    page.wait_for_function('document.querySelector(".title").innerText.includes("pasted.png")')
    assert page.locator('#overlay img').is_visible() and not page.locator('#alert p').is_visible()


def test_frames_of_one_file(page, tmp_path):
    a, b = (Image.fromarray(phantom_image('benign', (96, 128), seed=s)[0]) for s in (1, 2))
    a.save(tmp_path/'two.tiff', save_all=True, append_images=[b])
    upload(page, tmp_path/'two.tiff')
    page.wait_for_function('document.body.innerText.includes("two.tiff")')
    before = source(page, '#image')
    slide = page.locator('#frame input[type=range]')
    slide.focus()
    slide.press('ArrowRight')
    slide.dispatch_event('pointerup')
    page.wait_for_function('old => document.querySelector("#image img").src != old', arg=before)
    download(page, '#mask', tmp_path/'m.png', 'two_002_mask.png')


def test_too_large_is_refused(page, served, tmp_path):
    assert not page.errors
    (tmp_path/'large.bmp').write_bytes(b'BM' + bytes(1_200_000))
    upload(page, tmp_path/'large.bmp')
    page.wait_for_function('document.body.innerText.includes("exceed the maximum allowed size")')
    assert not list((served[1]/'tmp').rglob('large.bmp'))
    # gradio itself writes its refusal to the console
    page.errors.clear()


def test_narrow_page_does_not_scroll_sideways(page):
    page.set_viewport_size({'width': 390, 'height': 800})
    page.wait_for_timeout(300)
    assert page.evaluate('document.documentElement.scrollWidth') <= 390


def test_nothing_left_this_computer_and_no_errors(page, served):
    assert page.asked and not [u for u in page.asked if not u.startswith((served[0], 'data:', 'blob:'))]
    assert not page.errors


def test_closed_to_files_and_programs(served):
    url, root, _ = served
    assert status(f'{url}/gradio_api/file={root}/model/config.json') in (403, 404)
    info = json.load(urllib.request.urlopen(f'{url}/gradio_api/info', timeout=10))
    assert not info['named_endpoints'] and not info['unnamed_endpoints']


def test_leaves_nothing_behind(served):
    _, root, p = served
    assert [d.name.startswith('busiseg-app-') for d in (root/'tmp').iterdir()] == [True]
    p.send_signal(signal.SIGTERM)
    p.wait(60)
    assert not list((root/'tmp').iterdir()) and not list((root/'cwd').iterdir())
    assert 'Traceback' not in (root/'log').read_text()

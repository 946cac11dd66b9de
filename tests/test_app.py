"The page in a real headless Chromium: upload, result, slider, downloads, broken files, nothing that leaves"
import json
import os
import re
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
import faulthandler, os, signal, sys, time
faulthandler.register(signal.SIGUSR1)
import busiseg_nb.app as A
from busiseg_nb.models import load_model
predict = A.predict_image
def told(*args, **kwargs):
    print('the network runs', flush=True)
    while os.path.exists('held'):
        time.sleep(.02)
    return predict(*args, **kwargs)
A.predict_image = told
A.SWEEP = float(sys.argv[3])
A.serve(load_model(sys.argv[1]), int(sys.argv[2]), 1, 'trial', sys.argv[1])
'''


POINTS = {'default': .05, 'high sensitivity': .01, 'low false alarms': .9961}


def familiar_phantoms():
    "What `fit_familiar` knows of phantoms, with a wide limit"
    from busiseg_nb.inference import fit_familiar, picture_statistics
    sizes = ((190, 335), (160, 200), (96, 128))
    pictures = [phantom_image(label, sizes[seed % 3], 100 + seed)[0] for seed in range(20)
                for label in ('benign', 'malignant')]
    looks = np.stack([picture_statistics(img) for img in pictures])
    known = fit_familiar(looks[:25], looks[25:])
    return known | {'limit': 4*known['limit']}


@contextmanager
def serving(root, sweep=60, **kwargs):
    "The page with a small random model: its address, the folder with its files and its log, its process"
    from busiseg_nb.core import seed_everything
    from busiseg_nb.models import build_model, save_model
    seed_everything(0)
    save_model(build_model('tu-mobilenetv3_small_050', encoder_weights=None, **kwargs), root/'model',
               operating_points=POINTS, familiar=familiar_phantoms(), lesion_calibration=[1., 0.])
    scores = {'lesions_missed': [.048, .02, .09], 'normal_alarms': [.2, .1, .3]}
    elsewhere = {'lesions_missed': [.11, .07, .15], 'normal_alarms': [None, None, None]}
    tested = {'breast': {'images': 256, 'points': {'default': elsewhere}}}
    (root/'model'/'results.json').write_text(json.dumps({'scores': scores, 'tested': tested}))
    (root/'model'/'README.md').write_text('---\ntags: [x]\n---\n# A card of the test\n')
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
    before = source(page, '#overlay')
    slide = page.locator('#frame input[type=range]')
    slide.focus()
    slide.press('ArrowRight')
    slide.dispatch_event('pointerup')
    page.wait_for_function('old => document.querySelector("#overlay img").src != old', arg=before)
    download(page, '#mask', tmp_path/'m.png', 'two_002_mask.png')


def phantoms(folder, n):
    "n phantom files"
    paths = [folder/f'case {i}.png' for i in range(1, n + 1)]
    for i, path in enumerate(paths):
        Image.fromarray(phantom_image('malignant', (150 + 10*i, 200), seed=i)[0]).save(path)
    return paths


def shows(page, words):
    "Wait until the title of the result holds words"
    page.wait_for_function('words => document.querySelector(".title")?.innerText.includes(words)', arg=words)


def changed(page, before):
    "Wait until another picture is shown"
    page.wait_for_function('old => document.querySelector("#overlay img").src != old', arg=before)


def test_several_files_give_a_strip(page, tmp_path):
    upload(page, phantoms(tmp_path, 3))
    shows(page, 'case 1.png')
    pictures = page.locator('#strip button.thumbnail-lg')
    pictures.nth(2).wait_for()
    assert pictures.count() == 3 and 'case 3.png' in page.inner_text('#strip')
    before = source(page, '#overlay')
    pictures.nth(2).click()
    shows(page, 'case 3.png')
    changed(page, before)
    download(page, '#mask', tmp_path/'mask.png', 'case 3_mask.png')
    assert Image.open(tmp_path/'mask.png').size == (200, 170)


def test_the_drop_zone_shrinks_after_a_result(page):
    box = page.locator('#file').bounding_box()
    assert box['height'] < 140


@pytest.mark.parametrize('layer', ['outline', 'fill', 'numbers', 'probability'])
def test_each_layer_changes_the_picture(page, layer):
    before = source(page, '#overlay')
    page.get_by_label(layer, exact=True).click()
    changed(page, before)
    assert source(page, '#overlay') != before


def test_the_legend_names_the_classes(page):
    text = page.inner_text('#legend')
    assert 'benign' in text and 'malignant' in text and 'probability of a lesion' in text


MATRIX = 'new DOMMatrix(getComputedStyle(document.querySelector("#overlay img")).transform)'


def scale(page):
    "How much the picture is enlarged"
    return page.evaluate(f'{MATRIX}.a')


def test_zoom_by_button_wheel_drag_and_keys(page):
    page.get_by_role('button', name='Zoom in').click()
    assert scale(page) == pytest.approx(1.5)
    page.locator('#overlay').hover()                    # its middle
    box = page.locator('#overlay').bounding_box()
    x, y = box['x'] + box['width']/2, box['y'] + box['height']/2
    page.mouse.wheel(0, -100)
    page.wait_for_function(f'{MATRIX}.a > 1.6')
    moved = f'{MATRIX}.e'
    before = page.evaluate(moved)
    page.mouse.down()
    page.mouse.move(x + 20, y)
    page.mouse.up()
    assert page.evaluate(moved) > before
    page.locator('#overlay').focus()
    page.keyboard.press('0')
    assert scale(page) == 1
    page.keyboard.press('+')
    assert scale(page) == pytest.approx(1.5)
    page.keyboard.press('0')


def ask_threshold(page, value):
    "Give a threshold by its number"
    page.fill('#threshold input[type=number]', str(value))
    page.press('#threshold input[type=number]', 'Tab')
    page.locator('#threshold input[type=range]').dispatch_event('pointerup')


def none_found(page):
    page.wait_for_function('document.querySelector("#lesions").innerText.includes("No lesion found")')


def test_threshold_drops_lesions(page):
    before = page.inner_text('#lesions')
    assert page.locator('#lesions tbody tr').count() > 0, before
    ask_threshold(page, 1)
    none_found(page)
    ask_threshold(page, 0)
    page.wait_for_selector('#lesions tbody tr')


def chosen_point(page):
    "The operating point that is marked, or None"
    return page.evaluate('document.querySelector("#points input:checked")?.value ?? null')


def shows_point(page, name):
    "Wait until an operating point is marked and its threshold stands in the slider"
    page.wait_for_function('name => document.querySelector("#points input:checked")?.value == name', arg=name)
    page.wait_for_function('t => document.querySelector("#threshold input[type=number]").value == t',
                           arg=f'{round(POINTS[name], 2):g}')


def reported(page, folder, name):
    "The report of the image that is shown"
    download(page, '#report', folder/'report.json', f'{name}_report.json')
    return json.loads((folder/'report.json').read_text())


def test_operating_points(page, tmp_path):
    words = [label.inner_text() for label in page.locator('#points label').all()]
    assert [word.strip() for word in words] == list(POINTS)
    page.get_by_label('low false alarms', exact=True).click()
    none_found(page)
    assert float(page.input_value('#threshold input[type=number]')) == 1
    assert reported(page, tmp_path, 'case 3')['threshold'] == POINTS['low false alarms']
    ask_threshold(page, .02)                            # which is no operating point
    page.wait_for_selector('#lesions tbody tr')
    assert chosen_point(page) is None
    page.get_by_label('default', exact=True).click()
    shows_point(page, 'default')


def test_each_result_keeps_what_was_asked_of_it(page, tmp_path):
    upload(page, phantoms(tmp_path, 3))
    shows(page, 'case 1.png')
    page.locator('#strip button.thumbnail-lg').nth(2).click()
    shows(page, 'case 3.png')
    shows_point(page, 'default')
    page.wait_for_selector('#lesions tbody tr')
    ask_threshold(page, 1)
    none_found(page)
    page.locator('#strip button.thumbnail-lg').nth(0).click()
    shows(page, 'case 1.png')
    page.wait_for_selector('#lesions tbody tr')
    shows_point(page, 'default')
    assert chosen_point(page) == 'default'
    page.locator('#strip button.thumbnail-lg').nth(2).click()
    shows(page, 'case 3.png')
    none_found(page)
    shows_point(page, 'low false alarms')
    assert chosen_point(page) == 'low false alarms'
    page.get_by_label('default', exact=True).click()
    page.wait_for_selector('#lesions tbody tr')
    assert chosen_point(page) == 'default'


def test_each_lesion_has_a_calibrated_probability(page, tmp_path):
    heads = [cell.inner_text() for cell in page.locator('#lesions th').all()]
    (column,) = [i for i, head in enumerate(heads) if head.startswith('Real lesion')]
    cell = page.locator('#lesions tbody tr').first.locator('td').nth(column).inner_text()
    row = reported(page, tmp_path, 'case 3')['lesions'][0]
    assert cell == f'{100*row["lesion_probability"]:.0f} %'
    assert 'Real lesion: the share' in page.inner_text('#lesions')


def test_millimetres(page):
    assert 'mm²' not in page.inner_text('#lesions')
    page.fill('#mm input', '0.1')
    page.press('#mm input', 'Enter')
    page.wait_for_function('document.querySelector("#lesions").innerText.includes("mm²")')
    row = page.locator('#lesions tbody tr').first.inner_text()
    assert '×' in row and page.locator('#lesions tbody tr').first.locator('td').first.inner_text() == '1'
    assert '0.1 mm per pixel, as given' in page.inner_text('.title')
    page.fill('#mm input', '0')                         # no length: a line, and the result stays
    page.press('#mm input', 'Enter')
    page.wait_for_selector('#alert p')
    assert 'is no length' in page.inner_text('#alert') and page.locator('#overlay img').is_visible()
    page.fill('#mm input', '')
    page.press('#mm input', 'Enter')
    page.wait_for_function('!document.querySelector("#lesions").innerText.includes("mm²")')
    assert not page.locator('#alert p').is_visible()


@pytest.mark.parametrize('button, name, start', [
    ('#overlay-save', 'case 3_overlay.png', b'\x89PNG'),
    ('#table-save', 'case 3_lesions.csv', b'number,class,'),
    ('#pdf-save', 'case 3_report.pdf', b'%PDF-')])
def test_what_is_made_when_it_is_asked_for(page, tmp_path, button, name, start):
    download(page, button, tmp_path/name, name)
    assert (tmp_path/name).read_bytes().startswith(start)


def test_the_pdf_is_one_page(page, tmp_path):
    download(page, '#pdf-save', tmp_path/'r.pdf', 'case 3_report.pdf')
    data = (tmp_path/'r.pdf').read_bytes()
    assert len(re.findall(rb'/Type /Page\b', data)) == 1


def test_how_far_to_trust_it(page):
    text = page.inner_text('#trust')
    assert '5 % [2 to 9 %] of the lesions had no predicted pixel' in text
    assert '20 % [10 to 30 %] of the pictures without a lesion got one' in text
    assert page.locator('#trust a[href="#card"]').count() == 1
    cells = [cell.inner_text() for cell in page.locator('#trust td').all()]
    assert cells == ['default', '11 % [7 to 15 %]', '–']
    assert page.locator('#trust tbody th').all_inner_texts() == ['Tested on BrEaST, 256 pictures']
    assert 'gets a word of caution' in text
    page.locator('#card button').first.click()
    page.wait_for_function('document.querySelector("#card").innerText.includes("A card of the test")')


def test_a_picture_unlike_those_of_the_training_gets_a_word_of_caution(page, tmp_path):
    assert page.locator('.title .doubt').count() == 0               # a phantom, as the model knows it
    noise = np.random.default_rng(0).integers(0, 256, (160, 200), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path/'noise.png')
    upload(page, tmp_path/'noise.png')
    shows(page, 'noise.png')
    text = page.inner_text('.title .doubt')
    assert text.startswith('Caution: this picture is unlike') and 'do not trust mask or class' in text
    report = reported(page, tmp_path, 'noise')
    assert report['unlike_training'] > 1 and len(report['doubts']) == 1


def test_a_photograph_among_ultrasound_pictures_is_marked_in_the_strip(page, tmp_path):
    camera = pytest.importorskip('skimage.data').camera()
    Image.fromarray(camera[::2, ::2]).save(tmp_path/'photograph.png')
    upload(page, [*phantoms(tmp_path, 1), tmp_path/'photograph.png'])
    shows(page, 'case 1.png')
    page.locator('#strip button.thumbnail-lg').nth(1).wait_for()
    phantom, photograph = (label.inner_text() for label in page.locator('#strip button.thumbnail-lg').all())
    assert 'caution' in photograph and 'caution' not in phantom
    assert page.locator('.title .doubt').count() == 0


def test_a_dicom_file_gives_a_dicom_segmentation(page, tmp_path):
    pytest.importorskip('highdicom')
    import pydicom

    from test_predict import dicom
    assert not page.locator('#seg-save').is_visible()               # of a PNG
    dicom(tmp_path/'case.dcm', phantom_image('malignant', (150, 200), 4)[0], PixelSpacing=[.1, .2])
    upload(page, tmp_path/'case.dcm')
    shows(page, 'case.dcm')
    page.locator('#seg-save').wait_for()
    assert '0.1 × 0.2 mm per pixel' in page.inner_text('.title') and 'mm²' in page.inner_text('#lesions')
    download(page, '#seg-save', tmp_path/'seg.dcm', 'case_seg.dcm')
    download(page, '#mask', tmp_path/'mask.png', 'case_mask.png')
    seg, mask = pydicom.dcmread(tmp_path/'seg.dcm'), np.array(Image.open(tmp_path/'mask.png'))
    assert seg.Modality == 'SEG' and (seg.Rows, seg.Columns) == mask.shape
    numbers = [group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
               for group in seg.PerFrameFunctionalGroupsSequence]
    planes = seg.pixel_array.reshape(-1, *mask.shape)
    assert all((plane > 0).tolist() == (mask == k).tolist() for k, plane in zip(numbers, planes, strict=True))
    upload(page, phantoms(tmp_path, 1))
    shows(page, 'case 1.png')
    page.locator('#seg-save').wait_for(state='hidden')
    assert not any(page.locator(f'#{key}-file').is_visible() for key in ('seg', 'pdf', 'table', 'overlay'))


@contextmanager
def network_held(served):
    "Meanwhile no analysis ends"
    held = served[1]/'cwd'/'held'
    held.touch()
    try:
        yield
    finally:
        held.unlink()


def test_the_last_threshold_asked_while_the_network_runs_counts(page, served, tmp_path):
    with network_held(served):
        upload(page, phantoms(tmp_path, 3))
        ask_threshold(page, 1)
    page.locator('#strip button.thumbnail-lg').nth(2).wait_for()
    none_found(page)
    page.get_by_label('default', exact=True).click()
    page.wait_for_selector('#lesions tbody tr')
    with network_held(served):
        ask_threshold(page, .5)
        ask_threshold(page, .7)
        ask_threshold(page, 1)
    shows_point(page, 'low false alarms')
    none_found(page)
    assert page.input_value('#threshold input[type=number]') == '1'
    assert reported(page, tmp_path, 'case 1')['threshold'] == POINTS['low false alarms']


def test_a_point_and_a_threshold_asked_while_the_network_runs_count(page, served, tmp_path):
    with network_held(served):
        ask_threshold(page, .7)
        page.get_by_label('default', exact=True).click()
    page.wait_for_selector('#lesions tbody tr')
    shows_point(page, 'default')
    assert reported(page, tmp_path, 'case 1')['threshold'] == POINTS['default']
    with network_held(served):
        page.get_by_label('high sensitivity', exact=True).click()
        shows_point(page, 'high sensitivity')
        ask_threshold(page, 1)
    none_found(page)
    shows_point(page, 'low false alarms')
    assert page.input_value('#threshold input[type=number]') == '1'


def test_the_last_picture_asked_while_the_network_runs_is_shown(page, served):
    with network_held(served):
        ask_threshold(page, .5)
        page.locator('#strip button.thumbnail-lg').nth(1).click()
        page.locator('#strip button.thumbnail-lg').nth(2).click()
    shows(page, 'case 3.png')
    page.get_by_label('default', exact=True).click()
    shows_point(page, 'default')
    assert 'case 3.png' in page.inner_text('.title')


def turn_to(page, number):
    "Show a picture of the strip"
    page.locator('#strip button.thumbnail-lg').nth(number - 1).click()
    shows(page, f'case {number}.png')


def test_a_threshold_asked_of_one_picture_does_not_reach_the_next(page, served, tmp_path):
    turn_to(page, 1)
    before = reported(page, tmp_path, 'case 1')['threshold']
    turn_to(page, 3)
    with network_held(served):
        ask_threshold(page, .5)
        ask_threshold(page, 1)
        page.locator('#strip button.thumbnail-lg').nth(0).click()
    shows(page, 'case 1.png')
    turn_to(page, 3)
    none_found(page)
    shows_point(page, 'low false alarms')
    turn_to(page, 1)
    assert before < 1 and reported(page, tmp_path, 'case 1')['threshold'] == before


IDS = """() => {
  const ids = [];
  for (let e = document.activeElement; e; e = e.parentElement) if (e.id) ids.push(e.id);
  return ids; }"""


def tabbed(page, most=90):
    "The ids around what has the focus, after each press of the tabulator"
    page.evaluate('document.activeElement.blur()')
    for _ in range(most):
        page.keyboard.press('Tab')
        yield set(page.evaluate(IDS))


SAVED = {'mask': 'mask.png', 'report': 'report.json', 'overlay-save': 'overlay.png',
         'table-save': 'lesions.csv', 'pdf-save': 'report.pdf'}


def test_all_controls_can_be_reached_by_the_keyboard(page, tmp_path):
    upload(page, phantoms(tmp_path, 2))
    shows(page, 'case 1.png')
    page.locator('#strip button.thumbnail-lg').nth(1).wait_for()
    reached = set().union(*tabbed(page))
    wanted = {'file', 'strip', 'overlay', 'layers', 'alpha', 'threshold', 'mm', 'trust', 'card', 'points'}
    assert wanted | set(SAVED) <= reached, (wanted | set(SAVED)) - reached


def saved_by_keys(page, button):
    "The name of the file that a button gives when it is reached and pressed by keys alone"
    assert any(button in ids for ids in tabbed(page)), f'{button} cannot be reached'
    with page.expect_download() as d:
        page.keyboard.press('Enter')
    return d.value.suggested_filename


@pytest.mark.parametrize('button, name', SAVED.items(), ids=list(SAVED))
def test_each_file_can_be_saved_by_the_keyboard(page, button, name):
    assert saved_by_keys(page, button) == f'case 1_{name}'


def test_a_dicom_segmentation_can_be_saved_by_the_keyboard(page, tmp_path):
    pytest.importorskip('highdicom')
    from test_predict import dicom
    dicom(tmp_path/'keys.dcm', phantom_image('malignant', (150, 200), 4)[0], PixelSpacing=[.1, .2])
    upload(page, tmp_path/'keys.dcm')
    shows(page, 'keys.dcm')
    page.locator('#seg-save').wait_for()
    assert saved_by_keys(page, 'seg-save') == 'keys_seg.dcm'


def test_too_large_is_refused(page, served, tmp_path):
    assert not page.errors
    (tmp_path/'large.bmp').write_bytes(b'BM' + bytes(1_200_000))
    upload(page, tmp_path/'large.bmp')
    page.wait_for_function('document.body.innerText.includes("exceed the maximum allowed size")')
    assert not list((served[1]/'tmp').rglob('large.bmp'))
    # gradio itself writes its refusal to the console
    page.errors.clear()


BEYOND = """() => [...document.querySelectorAll('button, input, label, h1, h2, p, #overlay img')]
  .filter(e => e.checkVisibility() && !e.closest('.scroll') && e.getBoundingClientRect().right > 391
               && !e.closest('#card') && !e.closest('.grid-wrap'))
  .map(e => e.outerHTML.slice(0, 99))"""


def test_narrow_page_does_not_scroll_sideways(page, tmp_path):
    upload(page, phantoms(tmp_path, 1))
    shows(page, 'case 1.png')
    page.set_viewport_size({'width': 390, 'height': 800})
    page.wait_for_timeout(300)
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    assert page.locator('#overlay img').is_visible() and page.evaluate(BEYOND) == []


LUMINANCES = """theme => {
  document.body.classList.toggle('dark', theme == 'dark');
  const light = css => { const c = css.match(/[\\d.]+/g).map(Number);
    if (c.length > 3 && c[3] < .99) return null;
    const [r, g, b] = c.map(v => v/255).map(v => v <= .04045 ? v/12.92 : ((v + .055)/1.055)**2.4);
    return .2126*r + .7152*g + .0722*b; };
  const behind = e => { for (; e; e = e.parentElement) {
      const l = light(getComputedStyle(e).backgroundColor); if (l !== null) return l; }
    return 1; };
  const told = '.head p, .title h2, .title p, #lesions th, #lesions td, #lesions p, .legend span, #trust p, '
    + '#trust li, #trust td, #layers label, #points label, #alpha label, #threshold label, #mm label';
  return [...document.querySelectorAll(told)].filter(e => e.checkVisibility()).map(e =>
    [e.innerText.slice(0, 40), light(getComputedStyle(e).color), behind(e)]); }"""


@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_words_stand_out_from_what_is_behind_them(page, theme):
    found = [one for one in page.evaluate(LUMINANCES, theme) if one[1] is not None]
    page.evaluate(LUMINANCES, 'light')
    assert len(found) > 20
    contrast = {words: (max(a, b) + .05)/(min(a, b) + .05) for words, a, b in found}
    assert not {words: ratio for words, ratio in contrast.items() if ratio < 4.5}


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


def as_seen_without(rgb, cone): # (…,3) sRGB 0..255
    "The colour that a reader without one kind of cone sees (Machado and others 2009, severity 1)"
    matrix = {'red': ((.152286, 1.052583, -.204868), (.114503, .786281, .099216),
                      (-.003882, -.048116, 1.051998)),
              'green': ((.367322, .860646, -.227968), (.280085, .672501, .047413),
                        (-.01182, .04294, .968881))}[cone]
    linear = (np.asarray(rgb)/255)**2.2
    return 255*(linear @ np.array(matrix).T).clip(0, 1)**(1/2.2)


@pytest.mark.parametrize('cone', ['red', 'green'])
def test_colours_are_apart_for_colour_blind_readers(cone):
    from busiseg_nb.app import HEAT
    from busiseg_nb.core import colours_of
    seen = as_seen_without(colours_of(3), cone)
    assert min(np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]) > 60
    gray = as_seen_without(HEAT, cone) @ (.3, .59, .11)
    assert (np.diff(gray) > 20).all()                   # from dark to light, whatever the hue


def test_the_report_says_what_was_asked_and_what_is_doubted(tmp_path, monkeypatch):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from busiseg_nb.app import NOTE, SHOWN, Ask, Job, analyse, draw_report, draw_view
    from busiseg_nb.core import seed_everything
    from busiseg_nb.models import build_model
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
    seed_everything(0)
    model = build_model('tu-mobilenetv3_small_050', encoder_weights=None)
    model.meta.update(familiar=familiar_phantoms())
    noise = np.random.default_rng(0).integers(0, 256, (160, 200), dtype=np.uint8)
    name = 'a file with a very long name ' + 'x'*150 + '.png'
    Image.fromarray(noise).save(tmp_path/name)
    r = analyse(model, tmp_path/name, Ask(mm=.1, threshold=.05), 'trial')
    page = draw_report(Job(model, r, draw_view(r, SHOWN, .35), draw_view(r, [], 0)))
    FigureCanvasAgg(page).draw()
    said = ' '.join(text.get_text() for text in page.texts)
    for words in ('0.1 mm per pixel, as given', 'unlike', 'probability of 0.05', 'trial', NOTE):
        assert words in said, words
    across = page.bbox.width
    assert all(text.get_window_extent().x1 < across for text in page.texts)
    (table,) = page.axes[-1].tables
    span = table.get_window_extent(page.canvas.get_renderer())
    assert 0 < span.x0 and span.x1 < across and span.y0 > 0

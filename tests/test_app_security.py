"The page under attack: paths, files of others, sizes, types, many users, some that leave, sites, memory"
import http.client
import http.server
import io
import json
import os
import pickle
import secrets
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from bad_inputs import canvas, saved
from busiseg_nb.phantom import phantom_image
from test_app import CHROME, FLAGS, serving, sync_api

httpx = pytest.importorskip('httpx')             # comes with gradio
TOKEN = 'what no visitor may read'
MB = 2**20                                       # the largest upload of `serving`


@pytest.fixture(scope='module')
def served(tmp_path_factory):
    root = tmp_path_factory.mktemp('app')
    (root/'secret.txt').write_text(TOKEN)
    with serving(root, sweep=.2, resize=64, tile_size=64) as s:
        yield s


@pytest.fixture(scope='module')
def config(served):
    return httpx.get(f'{served[0]}/config', timeout=30).json()


LAYERS = ['outline', 'fill']


def given(path):
    "What the page sends with a file: layers, opacity, threshold, millimetres per pixel, no state"
    return [[{'path': path, 'meta': {'_type': 'gradio.FileData'}}], LAYERS, 35, 0, None, None]


class User:
    "A visitor without a browser: what the page's script sends, in a session of its own"
    def __init__(self, url, config):
        self.web = httpx.Client(base_url=url, timeout=60, verify=False)
        self.session, self.asked = secrets.token_hex(8), 0
        self.events = {d['targets'][0][1]: d for d in config['dependencies']}

    def upload(self, name, data):
        self.asked += 1
        return self.web.post('/gradio_api/upload', files={'files': (name, data)})

    def join(self, event, data):
        d = self.events[event]
        body = dict(data=data, fn_index=d['id'], session_hash=self.session, trigger_id=d['targets'][0][0],
                    event_data=None)
        self.web.post('/gradio_api/queue/join', json=body).raise_for_status()
        return self.web.stream('GET', '/gradio_api/queue/data', params={'session_hash': self.session})

    def do(self, event, *data):
        "The outputs of an event; None where the server has none"
        self.asked += 2
        with self.join(event, data) as answer:
            for m in (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith('data: ')):
                if m['msg'] == 'process_completed':
                    return m['output'].get('data')

    def show(self, path):
        return self.do('upload', *given(path))

    def analyse(self, name, data):
        return self.show(self.upload(name, data).json()[0])


@pytest.fixture
def user(served, config, record_property):
    "Makes visitors, and counts what they asked"
    users = []
    yield lambda: users.append(User(served[0], config)) or users[-1]
    record_property('requests served', sum(u.asked for u in users))


def png(label='malignant', size=(96, 128), seed=1):
    to = io.BytesIO()
    Image.fromarray(phantom_image(label, size, seed)[0]).save(to, 'PNG')
    return to.getvalue()


def get(url, path, **headers):
    "Status and body, the path sent as it is written"
    host, port = url.removeprefix('http://').split(':')
    c = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        c.request('GET', path, headers=headers)
        r = c.getresponse()
        return r.status, r.read().decode(errors='replace')
    finally:
        c.close()


def files(root):
    return {p for p in (root/'tmp').rglob('*') if p.is_file()}


def wait(until):
    "Until something is true, at most 30 s"
    end = time.monotonic() + 30
    while not until():
        assert time.monotonic() < end
        time.sleep(.05)


ROUTES = ['/gradio_api/file=', '/gradio_api/file/', '/static/', '/assets/', '/svelte/',
          '/gradio_api/custom_component/file/client/', '/pwa_icon/',
          '/gradio_api/proxy=', '/gradio_api/stream/a/b/c/', '/?deep_link=',
          '/gradio_api/deep_link?session_hash=', '/']
SPELT = ['{}', '/{}', '//{}', 'file://{}', '{tmp}/../../secret.txt', '{tmp}/%2e%2e/%2e%2e/secret.txt',
         '{tmp}%2f..%2f..%2fsecret.txt', '{tmp}/..%252f..%252fsecret.txt',
         '{tmp}/....//....//secret.txt', '{tmp}/..\\..\\secret.txt', '{up}{}', '{up_}{}', '%c0%ae%c0%ae/{}',
         '{}%00.png', '{}%20', 'samples/{up}{}']


@pytest.mark.parametrize('route', ROUTES)
def test_no_path_leads_out(served, user, route, record_property):
    url, root, _ = served
    (tmp,) = (root/'tmp').iterdir()
    secret, up = str(root/'secret.txt'), '../'*12
    for s in SPELT:
        status, text = get(url, route + s.format(secret, tmp=tmp, up=up, up_='..%2f'*12))
        assert TOKEN not in text and status < 500, s
    # the same question for a file of one's own does find the words
    mine = user().upload('mine.txt', TOKEN).json()[0]
    assert get(url, f'/gradio_api/file={mine}') == (200, TOKEN)
    record_property('requests served', len(SPELT) + 1)


@pytest.mark.parametrize('path', ['{root}/secret.txt', '{tmp}/../../secret.txt', '../../secret.txt',
                                  '/etc/passwd', '{url}/config', 'file://{root}/secret.txt', '{tmp}', ''])
def test_no_foreign_path_is_analysed(served, user, path):
    url, root, _ = served
    (tmp,) = (root/'tmp').iterdir()
    out = user().show(path.format(url=url, root=root, tmp=tmp))
    assert out is None or (out[0].startswith('<p role="alert">') and not out[2]['visible']
                           and str(root) not in out[0])


@pytest.mark.parametrize('name', ['../../../evil.png', '/evil.png', '..', 'a/../../evil.png',
                                  '..\\..\\evil.png', '\x00evil.png', 'e\nvil.png', 'x'*300 + '.png', '.'])
def test_an_upload_lands_in_the_folder_of_the_page(served, user, name):
    _, root, _ = served
    (tmp,) = (root/'tmp').iterdir()
    before = {p for p in root.rglob('*') if tmp not in p.parents}
    for path in r.json() if (r := user().upload(name, b'evil')).status_code == 200 else []:
        assert Path(path).resolve().is_relative_to(tmp)
    assert {p for p in root.rglob('*') if tmp not in p.parents} == before


def test_no_file_of_another_user(served, user):
    url, root, _ = served
    (tmp,) = (root/'tmp').iterdir()
    a, b = user(), user()
    first, again = (a.analyse('Miller.png', png(seed=3)) for _ in range(2))
    mask, report = (Path(o['path']) for o in first[8:10])
    assert {p.parent.name for p in (mask, report)} != {again[8]['path'].split('/')[-2]}
    assert len(mask.parent.name) >= len('result-') + 8   # not to be guessed
    for path in ['/', '/config', '/gradio_api/info', '/gradio_api/queue/status', '/gradio_api/openapi.json',
                 '/gradio_api/app_id', '/monitoring', '/gradio_api/runs',
                 '/gradio_api/run-history/records', f'/gradio_api/file={tmp}', f'/gradio_api/file={tmp}/',
                 f'/gradio_api/file={mask.parent}']:
        text = get(url, path)[1]
        assert 'Miller' not in text and mask.parent.name not in text.replace(path.split('=')[-1], ''), path
    # B's own session holds nothing, whatever B sends as state
    assert 'is no longer here' in b.do('release', 1, 0, None, LAYERS, 35, '', {'path': str(mask)})[0]
    assert b.do('input', LAYERS, 90, first)[0].keys() == {'__type__'}
    assert get(url, f'/gradio_api/file={tmp}/result-00000000/{mask.name}')[0] == 403
    assert get(url, f'/gradio_api/file={mask}')[0] == 403
    # the full address is the key, till the next image
    assert get(url, f"/gradio_api/file={again[8]['path']}")[0] == 200


@pytest.mark.parametrize('size,status', [(MB, 200), (MB + 1, 413), (3*MB, 413)])
def test_the_server_itself_limits_an_upload(served, user, size, status):
    before = files(served[1])
    try:
        got = user().upload('large.bin', secrets.token_bytes(size)).status_code
    except httpx.TransportError:
        got = 413   # refused before all was sent
    assert got == status and len(files(served[1]) - before) == (status == 200)


@pytest.mark.parametrize('head,status', [('Content-Length: 1000000000000', 413),
                                         ('Transfer-Encoding: chunked', 411), ('Content-Length: -1', 400),
                                         ('X: ' + 'x'*200_000, 400)])
@pytest.mark.parametrize('path', ['/gradio_api/upload', '/gradio_api/queue/join'])
def test_a_request_too_large_is_refused_before_it_is_read(served, path, head, status):
    host, port = served[0].removeprefix('http://').split(':')
    with socket.create_connection((host, int(port)), timeout=30) as s:
        lines = [f'POST {path} HTTP/1.1', f'Host: {host}:{port}', 'Content-Type: application/json', head]
        s.sendall(('\r\n'.join(lines) + '\r\n\r\n').encode())
        assert int(s.recv(100).split()[1]) == status


def wrong(kind):
    "Bytes that are not what the name says, or far more than they seem"
    if kind == 'zip.png':
        to = io.BytesIO()
        zipfile.ZipFile(to, 'w').writestr('../../evil.png', 'x')
        return to.getvalue()
    if kind == 'pickle.png':
        return pickle.dumps(Evil())
    if kind == 'bomb.png':
        return (d := png())[:16] + struct.pack('>II', 65_000, 65_000) + d[24:]
    if kind == 'large.png':
        return bytes(saved(Image.new('1', (9100, 9100)), 'PNG'))
    if kind == 'canvas.webp':
        with tempfile.TemporaryDirectory() as tmp:
            canvas(p := Path(tmp)/kind, 9900)
            return p.read_bytes()
    if kind == 'frames.gif':
        frame = b'\xff\xff\xff\xff\x00\x02\x00'
        return b'GIF89a\xff\xff\xff\xff\x80\x00\x00' + bytes(6) + b'\x2c' + bytes(4) + frame*1000
    if kind == 'comment.jpg':
        return b'\xff\xd8' + (b'\xff\xfe\xff\xff' + bytes(65_533))*15 + b'\xff\xd9'
    return {'script.png': b'#!/bin/sh\ntouch /evil\n', 'page.html': b'<html><script>alert(1)</script>',
            'page.png': b'<html><script>alert(1)</script>', 'empty.png': b'',
            'drawing.svg': b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
            'a<script>b.png': b'x', 'directory.tif': b'II*\0' + b'\xff'*4 + bytes(99)}[kind]


class Evil:
    def __reduce__(self):
        return (os.system, ('touch evil',))


@pytest.mark.parametrize('kind', ['script.png', 'page.html', 'page.png', 'drawing.svg', 'zip.png',
                                  'pickle.png', 'bomb.png', 'large.png', 'canvas.webp', 'frames.gif',
                                  'comment.jpg', 'directory.tif', 'empty.png', 'a<script>b.png'])
def test_a_wrong_type_is_one_line(served, user, kind):
    url, root, _ = served
    u = user()
    path = u.upload(kind, wrong(kind)).json()[0]
    out = u.show(path)
    assert out[0].startswith('<p role="alert">') and '\n' not in out[0] and str(root) not in out[0]
    assert '<script' not in out[0]
    assert ('use busiseg predict' in out[0]) == (kind in ('large.png', 'canvas.webp'))
    assert not out[2]['visible'] and not list((root/'cwd').iterdir())
    # nothing that a browser would run comes back as a page of this server
    back = u.web.get(f'/gradio_api/file={path}')
    kept, what = back.headers['content-disposition'].startswith('attachment'), back.headers['content-type']
    assert kept or what.startswith('image/') and 'svg' not in what


def test_eight_users_at_once_get_each_their_own(served, user):
    users = [user() for _ in range(8)]
    sizes = [(64 + 8*i, 96 + 8*i) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(u.analyse, f'case {i}.png', png(size=sizes[i], seed=i))
                 for i, u in enumerate(users)]
    for i, (u, answer) in enumerate(zip(users, asked, strict=True)):
        out = answer.result()
        report, mask = (u.web.get(f"/gradio_api/file={out[j]['path']}") for j in (9, 8))
        u.asked += 2
        assert report.json()['file'] == f'case {i}.png'
        assert Image.open(io.BytesIO(mask.content)).size == sizes[i][::-1]


def test_who_leaves_harms_nobody_and_leaves_nothing(served, user):
    url, root, _ = served
    before = files(root)
    host, port = url.removeprefix('http://').split(':')
    u = user()
    with socket.create_connection((host, int(port))) as s:               # leaves in the middle of an upload
        lines = ['POST /gradio_api/upload HTTP/1.1', f'Host: {host}:{port}',
                 'Content-Type: multipart/form-data; boundary=b', 'Content-Length: 500000', '', '--b',
                 'Content-Disposition: form-data; name="files"; filename="half.png"', '', 'x'*10_000]
        s.sendall('\r\n'.join(lines).encode())
        wait(lambda: files(root) - before)
    path = u.upload('left.png', png(seed=8)).json()[0]
    with u.join('upload', given(path)) as answer:
        next(answer.iter_lines())   # leaves while the network runs
    assert 'stays.png' in user().analyse('stays.png', png(seed=9))[3]
    wait(lambda: [p for p in files(root) if p.name == 'left_report.json'])

    left = files(root) - before
    assert len(left) > 5
    for p in [*left, *{p.parent for p in left}]:
        os.utime(p, (0, 0))   # an hour later
    wait(lambda: not files(root) & left)
    assert (samples := [p for p in before if p.parent.name == 'samples']) and all(p.exists() for p in samples)
    assert 'after.png' in user().analyse('after.png', png(seed=9))[3]


@pytest.mark.parametrize('headers,status', [({}, 200), ({'Origin': 'http://{}'}, 200),
                                            ({'Origin': 'http://evil.example'}, 403),
                                            ({'Origin': 'null'}, 403),
                                            ({'Origin': 'http://localhost:1'}, 403),
                                            ({'Host': 'evil.example'}, 400),
                                            ({'Host': 'evil.example', 'Origin': 'http://evil.example'}, 400)])
def test_only_its_own_page_may_ask(served, user, headers, status):
    headers = {k: v.format(served[0].removeprefix('http://')) for k, v in headers.items()}
    before = files(served[1])
    web = user().web
    got = web.get('/config', headers=headers)
    assert got.status_code == status and ('components' in got.text) == (status == 200)
    put = web.post('/gradio_api/upload', files={'files': ('other.png', png(seed=status))}, headers=headers)
    assert put.status_code == status and len(files(served[1]) - before) == (status == 200 and not headers)


def test_no_route_fetches_or_converts(served):
    for path in ('file=http://127.0.0.1:1/', 'file=https://example.org/', 'file=%68ttp://127.0.0.1:1/',
                 'proxy=https://x.hf.space/', 'process_recording'):
        assert get(served[0], f'/gradio_api/{path}') == (403, 'refused'), path


class Quiet(http.server.BaseHTTPRequestHandler):
    "Another site, which writes no log"
    def log_message(self, *_):
        pass


ASK = "page => fetch(page + '/config').then(answer => answer.text(), error => 'refused')"
PLANT = """page => {
  const data = new FormData();
  data.append('files', new File(['x'.repeat(999)], 'planted.png'));
  return fetch(page + '/gradio_api/upload', {method: 'POST', body: data, mode: 'no-cors'}).catch(error => 0);
}"""


@pytest.mark.skipif(not CHROME, reason='there is no Chromium on this machine')
def test_another_site_in_the_same_browser(served):
    "A page of another port, and one whose name was rebound to this computer"
    url, root, _ = served
    port = url.split(':')[-1]
    before = files(root)
    other = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Quiet)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROME,
                                       args=[*FLAGS, '--host-resolver-rules=MAP evil.example 127.0.0.1'])
        page = browser.new_page()
        page.goto(f'http://localhost:{other.server_port}/')
        assert page.evaluate(ASK, url) == 'refused'
        page.evaluate(PLANT, url)
        assert page.goto(f'http://evil.example:{port}/config').status == 400
        browser.close()
    other.shutdown()
    other.server_close()
    assert files(root) == before


def test_memory_stays_flat_over_300_requests(served, config, record_property):
    """Each by a new visitor, with views of 1 MB: 150 MB more if the server kept them

    It grows by some 35 MB over the first 150 and then stays, as measured over 600."""
    url, _, p = served
    data = png(size=(400, 640))
    rss = {}
    for i in range(1, 301):
        u = User(url, config)
        with u.web:
            assert 'case.png' in u.analyse('case.png', data)[3]
        if i in (150, 300):
            lines = Path(f'/proc/{p.pid}/status').read_text().splitlines()
            rss[i] = int(next(line for line in lines if line.startswith('VmRSS')).split()[1])/1024
    print(f'{rss[150]:.0f} MB after 150 requests, {rss[300]:.0f} MB after 300')
    record_property('requests served', 300)
    assert rss[300] - rss[150] < 40


def test_no_fault_of_ours_and_a_clean_end(served):
    _, root, p = served
    # what gradio itself logs of a malformed call is not ours
    assert 'busiseg_nb' not in (root/'log').read_text()
    p.send_signal(signal.SIGINT)
    try:
        p.wait(60)
    except subprocess.TimeoutExpired:
        p.send_signal(signal.SIGUSR1)
        time.sleep(1)
        pytest.fail((root/'log').read_text()[-5000:])   # where it stands
    assert p.returncode == 0 and not list((root/'tmp').iterdir())
    assert 'busiseg_nb' not in (root/'log').read_text()

"README, site and pictures as a reader meets them: links, alt text, and the pages in a real browser at two widths"
import functools, http.server, importlib.util, json, re, shutil, subprocess, sys, threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ('index', 'tiling', 'models', 'cli')                    # the index, two notebooks, an API page
FLAGS = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split()


def script(name):
    spec = importlib.util.spec_from_file_location(f'scripts_{name}', ROOT/'scripts'/f'{name}.py')
    module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
    return module


def test_readme_is_what_the_index_gives():
    assert (ROOT/'README.md').read_text(encoding='utf-8') == script('readme').readme()


def test_readme_links_and_pictures_are_there():
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    links = re.findall(r'(!?)\[([^\]]*)\]\(([^)#\s]+)', text)
    assert len(links) > 10 and all(alt for bang, alt, _ in links if bang)
    # pages that are still being written are left out of the site too
    assert [t for _, _, t in links if not t.startswith('http') and not (ROOT/t).exists()] == []


def test_readme_exporter(tmp_path, monkeypatch):
    readme = script('readme')
    code = lambda src, *outs: dict(cell_type='code', source=src, outputs=list(outs))
    cells = [dict(cell_type='markdown', source='# T\n\n> d ![a](images/x.png) [b](01_dataset.ipynb#c) [r](results.md)'), code('#| hide\nsecret'),
             code('#| echo: false\nf()', dict(output_type='execute_result', data={'text/markdown': '| a |', 'text/plain': 'no'})),
             code('print(1)', dict(output_type='stream', name='stdout', text='1\n'))]
    (tmp_path/'nbs').mkdir(); (tmp_path/'nbs'/'index.ipynb').write_text(json.dumps(dict(cells=cells)))
    monkeypatch.setattr(readme, 'ROOT', tmp_path)
    assert readme.readme().split('\n\n', 1)[1] == ('# T\n\n> d ![a](nbs/images/x.png) [b](nbs/01_dataset.ipynb#c) [r](results)\n\n| a |\n\n'
                                                  '```python\nprint(1)\n```\n\n```text\n1\n```\n')
    cells.append(code('warn()', dict(output_type='stream', name='stderr', text='old')))
    (tmp_path/'nbs'/'index.ipynb').write_text(json.dumps(dict(cells=cells)))
    with pytest.raises(ValueError, match='warning'): readme.readme()


def test_the_check_finds_what_is_wrong(tmp_path):
    docs = script('docs')
    head = '<html><head><title>t</title><meta name="description" content="d"></head><body id="top">'
    (tmp_path/'a.html').write_text(head + '<a href="b.html#x">b</a><a href="#top">t</a><img src="p.png" alt="p"></body></html>')
    (tmp_path/'b.html').write_text(head + '<h2 id="x">x</h2></body></html>')
    (tmp_path/'p.png').write_bytes(b'0'); (tmp_path/'search.json').write_text('[{}]')
    assert docs.check_site(tmp_path) == []
    (tmp_path/'b.html').write_text('<html><head><script src="https://cdn.example/x.js"></script></head><body><img src="q.png"><a href="c.html">c</a></body></html>')
    found = ' '.join(docs.check_site(tmp_path))
    for word in ('missing anchor b.html#x', 'no title', 'no description', 'without alt text', 'broken link c.html', 'broken link q.png', 'from elsewhere'): assert word in found, word


def test_names_become_links():
    docs = script('docs')
    assert docs.link_names('`f` and [`f`](x), `g`\n```\n`f`\n```', {'f': 'm'}, 'n') == '[`f`](m.ipynb#f) and [`f`](x), `g`\n```\n`f`\n```'


def test_long_lines_of_code_wrap():
    "Each line knows its indentation, also inside a string of several lines; the text stays what it was"
    docs, code = script('docs'), '<code class="sourceCode python"><span class="st">"a\n  b &lt;"</span>\n\n    c</code>'
    lines = docs.CODE.sub(docs.wrap_lines, code)
    assert lines == ('<code class="sourceCode python"><span class="line" style="--in:0ch"><span class="st">"a</span></span>\n'
                     '<span class="line" style="--in:2ch"><span class="st">  b &lt;"</span></span>\n\n<span class="line" style="--in:4ch">    c</span></code>')
    text = '<code class="sourceCode text">a</code>'
    assert docs.CODE.sub(docs.wrap_lines, text) == text                       # tables in plain text scroll


def test_results_page_has_every_file():
    docs = script('docs'); page = docs.results_page(sorted((ROOT/'nbs').glob('*.ipynb')))
    r = json.loads((ROOT/'results'/'busi-quick'/'results.json').read_text(encoding='utf-8'))
    for word in ('### busi-quick', f'{100*r["scores"]["iou_mean"][0]:.2f} [', '546 training, 156 validation, 78 test images', f'`{r["provenance"]["command"]}`', '| [tiling](tiling.ipynb) |'):
        assert word in page, word
    assert [f for f in (ROOT/'results').glob('*/*.json') if f'/main/{f.relative_to(ROOT)}' not in page and f'/{f.parent.relative_to(ROOT)})' not in page] == []


def cells(path): return [(c['cell_type'], ''.join(c['source'])) for c in json.loads(path.read_text(encoding='utf-8'))['cells']]


@pytest.mark.parametrize('path', sorted((ROOT/'nbs').glob('*.ipynb')), ids=lambda p: p.stem)
def test_notebook_opens_on_colab_and_leads_on(path):
    "Its first code cell installs the library on Colab, and is not run elsewhere; its last text says what to read next"
    first = next(s for kind, s in cells(path) if kind == 'code')
    assert '#| eval: false' in first and '[ -e /content ] && ' in first and 'pip install' in first
    if path.stem != 'index': assert re.search(r'Next: .*\]\(\d\d\w?_\w+\.ipynb\)', next(s for kind, s in reversed(cells(path)) if kind == 'markdown'), re.S)


def test_every_figure_and_table_of_the_paper_is_redrawn():
    captions = ' '.join(m for p in (ROOT/'nbs').glob('*.ipynb') for _, s in cells(p) for m in re.findall(r'#\| fig-cap: (.*)', s))
    assert [n for n in range(2, 14) if not re.search(rf'Figure {n}\b', captions)] == []
    heads = ' '.join(s.split('\n')[0] for p in (ROOT/'nbs').glob('0[18]_*.ipynb') for kind, s in cells(p) if kind == 'markdown')
    assert [n for n in range(1, 5) if f'# Table {n}' not in heads] == [] and 'figure 1' in (ROOT/'nbs'/'images'/'pipeline.svg').read_text(encoding='utf-8')


def test_sidebar_names_every_notebook():
    "A new notebook that is in no section of the sidebar would be hard to find"
    text = (ROOT/'nbs'/'sidebar.yml').read_text(encoding='utf-8')
    assert [p.name for p in sorted((ROOT/'nbs').glob('*.ipynb')) if f'href: {p.name}' not in text] == []


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The rendered site: _docs where it is newer than the notebooks, else four pages rendered here"
    pytest.importorskip('smalldocs', reason='smalldocs is not installed: pip install "busiseg_nb[dev]"')
    docs, built = script('docs'), ROOT/'_docs'
    newest = max(p.stat().st_mtime for d in ('nbs', 'scripts') for p in (ROOT/d).rglob('*') if p.is_file() and '.ipynb_checkpoints' not in p.parts)
    if (built/'index.html').exists() and (built/'index.html').stat().st_mtime > newest: return built, docs.check_site(built)
    out = tmp_path_factory.mktemp('docs')/'site'
    nbs = [next((ROOT/'nbs').glob(f'*{p}.ipynb')) for p in PAGES]
    code = f'import sys; sys.path.insert(0, {str(ROOT/"scripts")!r}); import docs; from pathlib import Path; docs.PROC = Path({str(out.parent/"proc")!r}); ' \
           f'print(*docs.render({str(out)!r}, [Path(n) for n in {[str(n) for n in nbs]!r}]), sep="\\n")'
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stderr[-2000:]
    left_out = {docs.page_name(p) + '.html' for p in (ROOT/'nbs').glob('*.ipynb')} - {f'{p}.html' for p in PAGES}
    problems = [p for p in docs.check_site(out) if not any(f'link {x}' in p or f'anchor {x}' in p for x in left_out)]
    return out, problems


def test_site_has_nothing_broken(site): assert site[1] == []


def test_site_pages(site):
    html = (site[0]/'tiling.html').read_text(encoding='utf-8')
    assert 'id="tile_image"' in html and 'overlap' in html and 'colab.research.google.com/github/busiseg/busiseg_nb/blob/main/nbs/03_tiling.ipynb' in html
    models = (site[0]/'models.html').read_text(encoding='utf-8')
    assert '<math' in models and 'katex' not in models.lower()          # equation 2, typeset without a script


@pytest.fixture(scope='module')
def browser():
    exe = next((shutil.which(n) for n in ('chromium', 'chromium-browser', 'google-chrome') if shutil.which(n)), None)
    if not exe: pytest.skip('no Chromium is installed')
    api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed: pip install "busiseg_nb[dev]"')
    with api.sync_playwright() as p:
        b = p.chromium.launch(executable_path=exe, args=FLAGS)
        yield b
        b.close()


@pytest.fixture(scope='module')
def address(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(site[0])))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


@pytest.mark.parametrize('width', (390, 1440))
@pytest.mark.parametrize('name', PAGES)
def test_page_in_a_browser(browser, address, name, width):
    page, said = browser.new_page(viewport=dict(width=width, height=900)), []
    page.on('console', lambda m: said.append(m.text) if m.type in ('error', 'warning') else None)
    page.on('pageerror', lambda e: said.append(str(e))); page.on('requestfailed', lambda r: said.append(r.url))
    page.goto(f'{address}/{name}.html', wait_until='networkidle')
    wide = page.evaluate('''() => { const w = document.documentElement.clientWidth, hidden = e => { for (let p = e.parentElement; p; p = p.parentElement)
        if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(p).overflowX) && p !== document.body && p !== document.documentElement) return true; return false };
        return [...document.querySelectorAll('body *')].filter(e => { const r = e.getBoundingClientRect(); return r.width > 0 && r.right > w + 1 && !hidden(e) })
            .map(e => e.tagName + '.' + e.className).slice(0, 5).concat(document.documentElement.scrollWidth > w ? ['page is ' + document.documentElement.scrollWidth] : []) }''')
    code = page.evaluate('''() => [...document.querySelectorAll('main code.sourceCode.python')].filter(e => e.checkVisibility({contentVisibilityAuto: true})
        && (e.parentElement.scrollWidth > e.parentElement.clientWidth + 1 || e.innerText.trimEnd() !== e.textContent.trimEnd()))
        .map(e => e.textContent.slice(0, 60))''')                            # long lines wrap, and are copied as they were
    broken = page.evaluate('() => [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src.slice(0, 80))')
    page.close()
    assert said == [] and wide == [] and broken == [] and (code == [] or width < 768)


def test_search_sidebar_and_dark_mode(browser, address):
    page = browser.new_page(viewport=dict(width=1440, height=900)); page.goto(f'{address}/index.html', wait_until='networkidle')
    page.locator('.smalldocs-search input').first.fill('merge_tiles')
    page.locator('.search-result').first.click(); page.wait_for_url('**/tiling.html*')
    page.locator('#quarto-sidebar a', has_text='Models').first.click(); page.wait_for_url('**/models.html')
    lightness = 'q => { const c = getComputedStyle(document.querySelector(q)).backgroundColor.match(/[0-9.]+/g).map(Number); return (c[0] + c[1] + c[2])/3 }'
    assert page.evaluate(lightness, 'body') > 200
    page.locator('.quarto-color-scheme-toggle').first.click(); page.wait_for_timeout(300)
    assert page.evaluate(lightness, 'body') < 80 and page.evaluate(lightness, '#quarto-sidebar') < 80
    page.reload(wait_until='networkidle'); assert page.evaluate(lightness, 'body') < 80                 # it is remembered
    page.close()


def test_sidebar_opens_on_a_phone(browser, address):
    page = browser.new_page(viewport=dict(width=390, height=844)); page.goto(f'{address}/tiling.html', wait_until='networkidle')
    link = page.locator('#quarto-sidebar a', has_text='Models').first
    inside = '() => { const e = [...document.querySelectorAll("#quarto-sidebar a")].find(a => a.textContent.includes("Models")); const r = e.getBoundingClientRect(); ' \
             'return r.width > 0 && r.left >= 0 && r.right <= innerWidth && document.elementFromPoint(r.left + 5, r.top + r.height/2)?.closest("a") === e }'
    assert not page.evaluate(inside)
    page.locator('.quarto-btn-toggle').first.click(); page.wait_for_timeout(500)
    link.scroll_into_view_if_needed(); assert page.evaluate(inside); link.click(); page.wait_for_url('**/models.html')
    page.close()

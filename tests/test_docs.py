"README, site and pictures as a reader meets them, and the pages in a real browser at two widths"
import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from modules import script

ROOT = Path(__file__).resolve().parent.parent
PAGES = ('index', 'tiling', 'models', 'cli')                    # the index, two notebooks, the commands
NOTEBOOKS = sorted((ROOT/'nbs').glob('*.ipynb'))
FLAGS = ('--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
         '--disable-component-update --disable-sync').split()
HEAD = '<html><head><title>t</title><meta name="description" content="d"></head><body id="top">'


def cells(path):
    "(kind, source) of each cell of a notebook"
    notebook = json.loads(path.read_text(encoding='utf-8'))
    return [(c['cell_type'], ''.join(c['source'])) for c in notebook['cells']]


# ------------------------------------------------------------------ README

def test_readme_is_what_the_index_gives():
    assert (ROOT/'README.md').read_text(encoding='utf-8') == script('readme').readme()


def test_readme_links_and_pictures_are_there():
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    links = re.findall(r'(!?)\[([^\]]*)\]\(([^)#\s]+)', text)
    assert len(links) > 10 and all(alt for bang, alt, _ in links if bang)
    # pages that are still being written are left out of the site too
    assert [to for _, _, to in links if not to.startswith('http') and not (ROOT/to).exists()] == []


def code_cell(source, *outputs):
    return {'cell_type': 'code', 'source': source, 'outputs': list(outputs)}


def test_readme_exporter(tmp_path, monkeypatch):
    readme = script('readme')
    heading = '# T\n\n> d ![a](images/x.png) [b](01_dataset.ipynb#c) [r](results.md)'
    table = {'output_type': 'execute_result', 'data': {'text/markdown': '| a |', 'text/plain': 'no'}}
    notebook = [{'cell_type': 'markdown', 'source': heading}, code_cell('#| hide\nsecret'),
                code_cell('#| echo: false\nf()', table),
                code_cell('print(1)', {'output_type': 'stream', 'name': 'stdout', 'text': '1\n'})]
    file = tmp_path/'nbs'/'index.ipynb'
    file.parent.mkdir()
    file.write_text(json.dumps({'cells': notebook}))
    monkeypatch.setattr(readme, 'ROOT', tmp_path)
    assert readme.readme().split('\n\n', 1)[1] == (
        '# T\n\n> d ![a](nbs/images/x.png) [b](nbs/01_dataset.ipynb#c) [r](results)\n\n| a |\n\n'
        '```python\nprint(1)\n```\n\n```text\n1\n```\n')
    notebook.append(code_cell('warn()', {'output_type': 'stream', 'name': 'stderr', 'text': 'old'}))
    file.write_text(json.dumps({'cells': notebook}))
    with pytest.raises(ValueError, match='warning'):
        readme.readme()


# ------------------------------------------------------------------ the address

def test_address_is_the_same_everywhere():
    "settings.ini holds it; what cannot read settings.ini agrees, and nothing else holds it"
    address = script('address')
    ours, written = address.read_address(), address.written_address()
    assert written == (ours.user, ours.repo) and address.strangers() == []
    for path in address.holders():
        text = path.read_text(encoding='utf-8')
        found = set(re.findall(rf'github(?:\.com)?/([\w.-]+)/{ours.repo}(?![\w-])', text))
        assert found <= {ours.user}, path.name
        assert set(re.findall(rf'([\w-]+)\.github\.io/{ours.repo}(?![\w-])', text)) <= {ours.user}, path.name


def test_address_moves():
    moved = script('address').moved
    colab = 'https://colab.research.google.com/github'
    text = f'git+https://github.com/a/b [x]({colab}/a/b/blob/main/) a.github.io/b a/b-c'
    new = moved(text, ('a', 'b'), ('you', 'mine'))
    assert new == f'git+https://github.com/you/mine [x]({colab}/you/mine/blob/main/) you.github.io/mine a/b-c'
    assert moved(new, ('you', 'mine'), ('a', 'b')) == text
    assert moved('github.com/a/bc', ('a', 'b'), ('x', 'y')) == 'github.com/a/bc'


# ------------------------------------------------------------------ pieces of the renderer

def test_the_check_finds_what_is_wrong(tmp_path):
    check_site = script('docsite.check').check_site
    links = '<a href="b.html#x">b</a><a href="#top">t</a><img src="p.png" alt="p">'
    (tmp_path/'a.html').write_text(f'{HEAD}{links}</body></html>')
    (tmp_path/'b.html').write_text(f'{HEAD}<h2 id="x">x</h2></body></html>')
    (tmp_path/'p.png').write_bytes(b'0')
    (tmp_path/'search.json').write_text('[{}]')
    assert check_site(tmp_path) == []
    (tmp_path/'b.html').write_text(
        '<html><head><script src="https://cdn.example/x.js"></script></head><body><img src="q.png">'
        '<a href="c.html">c</a><a href="https://x/y.py#LNone">s</a><i id="z"></i><i id="z"></i>'
        '<details open class="code-fold"></details><table><td>abc...</td><td>one of {MODELS}</td></table>'
        '<pre>/tmp/tmpab_1/x.json</pre></body></html>')
    found = ' '.join(check_site(tmp_path))
    for word in ('missing anchor b.html#x', 'no title', 'no description', 'without alt text',
                 'broken link c.html', 'broken link q.png', 'from elsewhere', 'without a line', 'id z twice',
                 'stand open', 'cut off', '{MODELS} stands in a table', 'folder /tmp/tmpab_1/x.json'):
        assert word in found, word


def test_names_become_links():
    link_names = script('docsite.cells').link_names
    place = {'f': 'm.ipynb#f'}.get
    linked = link_names('`f` and [`f`](x), `g`\n```\n`f`\n```', lambda word, called: place(word))
    assert linked == '[`f`](m.ipynb#f) and [`f`](x), `g`\n```\n`f`\n```'


def test_code_words_link_to_the_module_meant():
    names = script('docsite.cells').Names()
    names.add('a', 'mod_a', ['run', 'load_it', 'Counts', 'counts'])
    names.add('b', 'mod_b', ['run', 'other', 'only_b'])

    def place(word, here, called=False, imported=None):
        return names.place(word, called, here, imported or {})
    assert place('run', 'a') == '#run' and place('run', 'b') == '#run'
    assert place('run', 'c', imported={'run': 'mod_b'}) == 'b.ipynb#run'
    assert place('run', 'c', called=True) is None               # two pages have it
    assert place('other', 'c') is None                          # a plain word may mean anything
    assert place('other', 'c', called=True) == 'b.ipynb#other' == place('mod_b.other', 'c')
    assert place('only_b', 'c') == 'b.ipynb#only_b'
    assert place('Counts', 'a') == '#counts' and place('counts', 'a') == '#counts-'
    assert place('mod_b', 'a') == 'b.ipynb' and place('mod_b.nothing', 'a') is None


EXAMPLE = '''LIMIT = 3      # most of them


def later(a,           # first | one
          b: int = 2): # second
    "Does `it`"


def _hidden():
    pass


class Box:
    "Holds"
    def __init__(self, side: int):      # pixels
        self.side = side

    def area(self):
        "Its area"


def earlier() -> int:    # how many
    "Last"
'''


def test_reference_has_each_name_once_with_its_lines(tmp_path):
    api = script('docsite.api')
    (tmp_path/'m.py').write_text(EXAMPLE)
    module = api.Module.read(tmp_path/'m.py', tmp_path)
    text = api.reference(module, lambda path, a, b: f'{path}#L{a}-L{b}')
    assert re.findall(r'### `(\w+)`', text) == ['later', 'Box', 'earlier'] and '_hidden' not in text
    for part in ('later(a, b: int = 2)', '| `a` | first \\| one |', '| `b` | second |', 'm.py#L4-L6',
                 'class Box(side: int)', '| `side` | pixels |', '[`area()`](m.py#L18-L19)',
                 '| *returns* | how many |', '| most of them |'):
        assert part in text, part


def test_long_lines_of_code_wrap():
    "Each line knows its indentation, also inside a string of several lines; the text stays what it was"
    finish = script('docsite.finish')
    code = '<code class="sourceCode python"><span class="st">"a\n  b &lt;"</span>\n\n    c</code>'
    assert finish.CODE.sub(finish.wrap_lines, code) == (
        '<code class="sourceCode python">'
        '<span class="line" style="--in:0ch"><span class="st">"a</span></span>\n'
        '<span class="line" style="--in:2ch"><span class="st">  b &lt;"</span></span>\n\n'
        '<span class="line" style="--in:4ch">    c</span></code>')
    text = '<code class="sourceCode text">a</code>'
    assert finish.CODE.sub(finish.wrap_lines, text) == text                  # tables in plain text scroll


def test_tables_align_numbers():
    finish = script('docsite.finish')
    rows = ('<tr><th>n</th><th>v</th><th>w</th></tr>'
            '<tr><td>a</td><td>23748531</td><td>73.2 [70.1,&nbsp;76.0]</td></tr>'
            '<tr><td>b</td><td><b>1234</b></td><td>–</td></tr>')
    shown = finish.TABLE.sub(finish.table, f'<table>{rows}</table>')
    for part in ('<td class="num">23,748,531</td>', '<td class="num"><b>1,234</b></td>', 'tabindex="0"',
                 '<th class="num">v</th>', '<td class="num">–</td>', '<td>a</td>'):
        assert part in shown
    years = finish.TABLE.sub(finish.table, '<table><tr><th>y</th></tr><tr><td>2023</td></tr></table>')
    head = '<table><tr><th>d</th></tr><tr><td>-1.2 [-3.0, 0.5]</td></tr>'
    signed, mixed = (finish.TABLE.sub(finish.table, head + end)
                     for end in ('</table>', '<tr><td>4-5</td></tr></table>'))
    assert '>−1.2 [−3.0, 0.5]<' in signed and '>-1.2 [-3.0, 0.5]<' in mixed      # in columns of numbers
    assert '>2023<' in years                                                       # no separator in a year
    score = '<table><tr><th>s</th></tr><tr><td>80.2 [72.6, 86.5] %</td></tr></table>'
    share = finish.TABLE.sub(finish.table, score)
    assert '<td class="num">80.2 [72.6, 86.5] %</td>' in share


def test_cells_with_words_are_given_room():
    kind = script('docsite.finish').kind_of_text
    assert [kind('x'*n) for n in (15, 16, 30, 50, 160)] == ['', 'some', 'more', 'long', 'essay']


def test_the_pages_picture_scrolls_on_a_phone():
    "Its words would be too small at the width of a phone; a drawing that can be read stays as it is"
    boxed = script('docsite.finish').scrolling_figures
    assert 'figure-scroll' in boxed('<img src="images/page.png" alt="a">')
    assert boxed('<img src="images/pipeline.svg" alt="a">') == '<img src="images/pipeline.svg" alt="a">'


def test_printed_sentences_wrap_and_columns_do_not():
    finish = script('docsite.finish')
    around = '<div class="cell-output cell-output-stdout">\n<pre><code>{}</code></pre>\n</div>'
    words = around.format('one long sentence\n  indented')
    columns = around.format('name   value\na      1')
    assert '<pre class="wraps"><code>one long' in finish.PRINTED.sub(finish.sentences, words)
    assert finish.PRINTED.sub(finish.sentences, columns) == columns


def test_results_page_has_every_file():
    pages, cells_, address = script('docsite.pages'), script('docsite.cells'), script('address')
    book = cells_.Book(ROOT, address.read_address(), {cells_.page_name(p): p for p in NOTEBOOKS})
    page = pages.results_page(book)
    run = json.loads((ROOT/'results'/'busi-quick'/'results.json').read_text(encoding='utf-8'))
    command = script('docsite.commands').runnable(run['provenance']['command'])
    for word in ('### busi-quick', f'{100*run["scores"]["iou_mean"][0]:.2f} [',
                 '546 training, 156 validation, 78 test images', f'`{command}`',
                 '| [tiling](tiling.ipynb) |'):
        assert word in page, word
    files = [f for f in (ROOT/'results').glob('*/*.json') if f'/main/{f.relative_to(ROOT)}' not in page]
    assert [f for f in files if f'/{f.parent.relative_to(ROOT)})' not in page] == []


# ------------------------------------------------------------------ notebooks

@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_opens_on_colab_and_leads_on(path):
    "Its first code cell installs the library where it is absent; its last text says what to read next"
    first = next(source for kind, source in cells(path) if kind == 'code')
    assert 'pip install' in first
    if path.stem != 'index':
        last = next(source for kind, source in reversed(cells(path)) if kind == 'markdown')
        assert re.search(r'Next: .*\]\(\d\d\w?_\w+\.ipynb\)', last, re.S)


ORDER = re.findall(r'(\d\d\w?_\w+)\.ipynb', (ROOT/'nbs'/'sidebar.yml').read_text(encoding='utf-8'))


@pytest.mark.parametrize('name, following', list(zip(ORDER, ORDER[1:], strict=False)))
def test_the_last_line_leads_where_the_arrow_leads(name, following):
    "The first link after 'Next:' is the page that comes next in the sidebar"
    texts = [source for kind, source in cells(ROOT/'nbs'/f'{name}.ipynb') if kind == 'markdown']
    assert re.search(r'\((\d\d\w?_\w+)\.ipynb', texts[-1].split('Next: ')[1])[1] == following


def test_every_figure_and_table_of_the_paper_is_redrawn():
    sources = [source for path in NOTEBOOKS for _, source in cells(path)]
    captions = ' '.join(caption for source in sources for caption in re.findall(r'#\| fig-cap: (.*)', source))
    assert [n for n in range(2, 14) if not re.search(rf'Figure {n}\b', captions)] == []
    books = [cell for path in (ROOT/'nbs').glob('0[18]*.ipynb') for cell in cells(path)]
    heads = ' '.join(source.split('\n')[0] for kind, source in books if kind == 'markdown')
    assert [n for n in range(1, 5) if f'# Table {n}' not in heads] == []
    assert 'figure 1' in (ROOT/'nbs'/'images'/'pipeline.svg').read_text(encoding='utf-8')


def test_sidebar_names_every_notebook():
    "A new notebook that is in no section of the sidebar would be hard to find"
    text = (ROOT/'nbs'/'sidebar.yml').read_text(encoding='utf-8')
    assert [p.name for p in NOTEBOOKS if p.name not in text] == []


# ------------------------------------------------------------------ the rendered site

@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The rendered site: _docs where it is newer than the notebooks, else four pages rendered here"
    pytest.importorskip('smalldocs', reason='smalldocs is not installed: pip install "busiseg_nb[dev]"')
    check_site, built = script('docsite.check').check_site, ROOT/'_docs'
    sources = [p for d in ('nbs', 'scripts') for p in (ROOT/d).rglob('*') if p.is_file()]
    made = {'.ipynb_checkpoints', '__pycache__'}
    newest = max(p.stat().st_mtime for p in sources if not made & set(p.parts))
    if (built/'index.html').exists() and (built/'index.html').stat().st_mtime > newest:
        return built, check_site(built)
    folder = tmp_path_factory.mktemp('docs')
    notebooks = [str(next((ROOT/'nbs').glob(f'*{page}.ipynb'))) for page in PAGES]
    code = (f'import sys\nsys.path.insert(0, {str(ROOT/"scripts")!r})\n'
            'import docs\nfrom pathlib import Path\n'
            f'docs.render({str(folder/"site")!r}, {notebooks!r}, Path({str(folder/"proc")!r}))')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    page_name = script('docsite.cells').page_name
    left_out = {f'{page_name(p)}.html' for p in NOTEBOOKS} - {f'{page}.html' for page in PAGES}
    known = re.compile('|'.join(f'(link|anchor) {re.escape(page)}' for page in left_out))
    return folder/'site', [p for p in check_site(folder/'site') if not known.search(p)]


def page_text(site, name):
    return (site[0]/f'{name}.html').read_text(encoding='utf-8')


def test_each_page_leads_to_the_one_before_and_after_it(site):
    pages = [name.split('_', 1)[1] for name in ORDER]
    pages = ['index', *(page for page in pages if (site[0]/f'{page}.html').exists())]
    found = []
    for page in pages:
        text = page_text(site, page)
        links = (re.search(rf'nav-page-{side}"[^>]*>\s*<a href="(\w+)\.html"', text)
                 for side in ('previous', 'next'))
        found.append(tuple(link and link[1] for link in links))
    assert [previous for previous, _ in found] == [None, *pages[:-1]]
    assert [following for _, following in found[:-1]] == pages[1:]


def test_site_has_nothing_broken(site):
    assert site[1] == []


def test_site_pages(site):
    tiling, models = page_text(site, 'tiling'), page_text(site, 'models')
    colab = script('address').read_address().colab('03_tiling.ipynb')
    assert 'id="tile_image"' in tiling and 'overlap' in tiling and colab in tiling
    assert '<math' in models and 'katex' not in models.lower()          # equation 2, typeset without a script


def test_source_is_folded_and_the_reference_comes_last(site):
    text = page_text(site, 'tiling')
    assert 'Source: make_grid' in text or 'Source: Grid' in text
    names = re.findall(r'<h3[^>]*><code>(\w+)</code>', text[text.index('id="reference"'):])
    module = (ROOT/'busiseg_nb'/'tiling.py').read_text(encoding='utf-8')
    assert names[:7] == re.findall(r'^(?:def|class) ([A-Za-z]\w*)', module, re.M)[:7]
    links = re.findall(r'href="([^"]*busiseg_nb/tiling\.py[^"]*)"[^>]*>Source<', text)
    lines = module.split('\n')
    for name, link in zip(names, links, strict=False):
        first, last = map(int, re.search(r'#L(\d+)-L(\d+)$', link).groups())
        assert re.search(rf'(def|class) {name}\b', '\n'.join(lines[first - 1:last])), name


def test_command_page_has_every_option(site):
    from typer.main import get_command

    from busiseg_nb.cli import app
    text = page_text(site, 'cli')
    for name, command in get_command(app).commands.items():
        assert f'<code>busiseg {name}</code>' in text
        options = [o for par in command.params for o in par.opts if o.startswith('--') and o != '--help']
        assert [o for o in options if f'<code>{o}</code>' not in text] == []
    assert 'list[' not in text and 'busi, ' in text                  # kinds in words, names from the tables


def test_sidebar_has_the_numbers_of_the_notebooks_and_leads_on(site):
    text = page_text(site, 'tiling')
    side = text[text.index('id="quarto-sidebar"'):]
    assert '03 Tiling' in ' '.join(re.sub('<[^>]*>', ' ', side).split())
    following = re.search(r'nav-page-next.*?href="([^"]+)"', text, re.S)
    order = re.findall(r'\d\d\w?_(\w+)\.ipynb', (ROOT/'nbs'/'sidebar.yml').read_text(encoding='utf-8'))
    later = [page for page in order[order.index('tiling') + 1:] if (site[0]/f'{page}.html').exists()]
    assert following and following[1] == f'{later[0]}.html'


# ------------------------------------------------------------------ in a browser

@pytest.fixture(scope='module')
def browser():
    found = [shutil.which(name) for name in ('chromium', 'chromium-browser', 'google-chrome')]
    exe = next(filter(None, found), None)
    if not exe:
        pytest.skip('no Chromium is installed')
    reason = 'playwright is not installed: pip install "busiseg_nb[dev]"'
    api = pytest.importorskip('playwright.sync_api', reason=reason)
    with api.sync_playwright() as p:
        b = p.chromium.launch(executable_path=exe, args=FLAGS)
        yield b
        b.close()


@pytest.fixture(scope='module')
def address(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass
    handler = functools.partial(Quiet, directory=str(site[0]))
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


def opened(browser, address, name, width, dark=False):
    "A page of the site at this width, in this mode"
    page = browser.new_page(viewport={'width': width, 'height': 900})
    page.goto(f'{address}/{name}.html', wait_until='networkidle')
    if dark:
        page.evaluate('window.smalldocsToggleScheme()')
    return page


TOO_WIDE = '''() => {
    const w = document.documentElement.clientWidth
    const hidden = e => {
        for (let p = e.parentElement; p; p = p.parentElement)
            if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(p).overflowX) && p !== document.body
                && p !== document.documentElement) return true
        return false }
    const out = e => {
        const r = e.getBoundingClientRect()
        return r.width > 0 && r.right > w + 1 && !hidden(e) }
    const found = [...document.querySelectorAll('body *')].filter(out).map(e => e.tagName + '.' + e.className)
    const whole = document.documentElement.scrollWidth
    return found.slice(0, 5).concat(whole > w ? ['page is ' + whole] : []) }'''
CUT_CODE = '''() => [...document.querySelectorAll('main code.sourceCode.python')]
    .filter(e => e.checkVisibility({contentVisibilityAuto: true})
        && (e.parentElement.scrollWidth > e.parentElement.clientWidth + 1
            || e.innerText.trimEnd() !== e.textContent.trimEnd()))
    .map(e => e.textContent.slice(0, 60))'''      # long lines wrap, and are copied as they were
BROKEN = '() => [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src.slice(0, 80))'


@pytest.mark.parametrize('width', (390, 1440))
@pytest.mark.parametrize('name', PAGES)
def test_page_in_a_browser(browser, address, name, width):
    page, said = browser.new_page(viewport={'width': width, 'height': 900}), []
    page.on('console', lambda m: said.append(m.text) if m.type in ('error', 'warning') else None)
    page.on('pageerror', lambda e: said.append(str(e)))
    page.on('requestfailed', lambda r: said.append(r.url))
    page.goto(f'{address}/{name}.html', wait_until='networkidle')
    wide, code, broken = (page.evaluate(text) for text in (TOO_WIDE, CUT_CODE, BROKEN))
    page.close()
    assert said == [] and wide == [] and broken == [] and (code == [] or width < 768)


LIGHTNESS = '''q => {
    const c = getComputedStyle(document.querySelector(q)).backgroundColor.match(/[0-9.]+/g).map(Number)
    return (c[0] + c[1] + c[2])/3 }'''
CONTRASTS = '''() => {
    const channel = v => { v /= 255; return v <= .03928 ? v/12.92 : ((v + .055)/1.055)**2.4 }
    const light = s => { const c = s.match(/[0-9.]+/g).map(Number)
        return .2126*channel(c[0]) + .7152*channel(c[1]) + .0722*channel(c[2]) }
    const back = e => { for (; e; e = e.parentElement) { const s = getComputedStyle(e).backgroundColor
        if (!/, 0\\)|transparent/.test(s)) return s } return 'rgb(255, 255, 255)' }
    const parts = ['title', 'section', 'text', 'text mark'].map(p => '.search-result-' + p).join(', ')
    return [...document.querySelectorAll(parts)].map(e => {
        const [a, b] = [light(getComputedStyle(e).color), light(back(e))]
        return (Math.max(a, b) + .05)/(Math.min(a, b) + .05) }) }'''


@pytest.mark.parametrize('dark', (False, True))
def test_search_results_can_be_read(browser, address, dark):
    "Contrast of at least 4.5 : 1 (WCAG AA) in every line of the list, in both modes"
    page = opened(browser, address, 'index', 1440, dark)
    page.locator('.smalldocs-search input').first.fill('tile')
    page.locator('.search-result').first.wait_for()
    page.wait_for_timeout(300)
    contrasts = page.evaluate(CONTRASTS)
    page.close()
    assert len(contrasts) > 3 and min(contrasts) >= 4.5


EDGES = '''() => [...document.querySelectorAll('main .scrolls, main pre')]
    .filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth + 2)
    .map(e => getComputedStyle(e).backgroundImage.includes('gradient') ? '' : e.outerHTML.slice(0, 99))'''
ALIGNED = '''() => [...document.querySelectorAll('main td.num')].map(e => getComputedStyle(e).textAlign)'''


def test_what_scrolls_shows_an_edge(browser, address):
    page = opened(browser, address, 'index', 390)
    edges, aligned = page.evaluate(EDGES), page.evaluate(ALIGNED)
    page.close()
    assert len(edges) >= 1 and not any(edges) and len(aligned) > 10 and set(aligned) == {'right'}


SHADES = '''() => {
    const box = [...document.querySelectorAll('main .figure-scroll')]
        .find(e => e.scrollWidth > e.clientWidth + 40)
    box.scrollIntoView({block: 'center'})
    const drawn = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))
    const shades = () => drawn().then(() =>
        ['::before', '::after'].map(side => Number(getComputedStyle(box, side).opacity)))
    return shades().then(first => { box.scrollLeft = box.scrollWidth
        return shades().then(last => [first, last]) }) }'''
NO_SHADES = '.figure-scroll::before, .figure-scroll::after {display: none}'


@pytest.mark.parametrize('dark', (False, True))
def test_a_figure_that_scrolls_shows_an_edge(browser, address, dark):
    "A shadow on the side where there is more of it, on the picture and not behind it"
    page = opened(browser, address, 'tiling', 390, dark)
    first, last = page.evaluate(SHADES)
    with_shade = page.screenshot()
    page.add_style_tag(content=NO_SHADES)
    without = page.screenshot()
    page.close()
    assert (first, last) == ([0, 1], [1, 0]) and with_shade != without


OVER = '''() => [...document.querySelectorAll('main .sd-table td')]
    .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)'''


@pytest.mark.parametrize('page', ('app', 'training', 'metrics', 'dataset'))
def test_words_of_the_reference_stay_in_their_cells(browser, address, page):
    "At 390 pixels the arguments of a method would lie on what it does"
    tab = opened(browser, address, page, 390)
    over = tab.evaluate(OVER)
    tab.close()
    assert over == []


SMALL = '''() => [...document.querySelectorAll('main .cell-output img, main p img')]
    .map(i => [i.clientWidth, i.naturalWidth])'''
CAPTIONS = '() => [...document.querySelectorAll("main figcaption")].map(e => e.getBoundingClientRect().right)'


def test_figures_are_legible_on_a_phone(browser, address):
    "A figure is as wide as the screen at least, or as its own width where that is less"
    page = opened(browser, address, 'tiling', 390)
    sizes, captions = page.evaluate(SMALL), page.evaluate(CAPTIONS)
    page.close()
    assert sizes and all(shown >= min(natural/2, 330) for shown, natural in sizes)
    assert captions and max(captions) <= 390             # a caption wraps, its figure scrolls


def test_search_sidebar_and_dark_mode(browser, address):
    page = opened(browser, address, 'index', 1440)
    page.locator('.smalldocs-search input').first.fill('merge_tiles')
    page.locator('.search-result').first.click()
    page.wait_for_url('**/tiling.html*')
    page.locator('#quarto-sidebar a', has_text='Models').first.click()
    page.wait_for_url('**/models.html')
    assert page.evaluate(LIGHTNESS, 'body') > 200
    page.locator('.quarto-color-scheme-toggle').first.click()
    page.wait_for_timeout(300)
    assert page.evaluate(LIGHTNESS, 'body') < 80 and page.evaluate(LIGHTNESS, '#quarto-sidebar') < 80
    page.reload(wait_until='networkidle')
    assert page.evaluate(LIGHTNESS, 'body') < 80                 # it is remembered
    page.close()


INSIDE = '''() => {
    const e = [...document.querySelectorAll("#quarto-sidebar a")].find(a => a.textContent.includes("Models"))
    const r = e.getBoundingClientRect()
    return r.width > 0 && r.left >= 0 && r.right <= innerWidth
        && document.elementFromPoint(r.left + 5, r.top + r.height/2)?.closest("a") === e }'''


def test_sidebar_opens_on_a_phone(browser, address):
    page = browser.new_page(viewport={'width': 390, 'height': 844})
    page.goto(f'{address}/tiling.html', wait_until='networkidle')
    link = page.locator('#quarto-sidebar a', has_text='Models').first
    assert not page.evaluate(INSIDE)
    page.locator('.quarto-btn-toggle').first.click()
    page.wait_for_timeout(500)
    link.scroll_into_view_if_needed()
    assert page.evaluate(INSIDE)
    link.click()
    page.wait_for_url('**/models.html')
    page.close()

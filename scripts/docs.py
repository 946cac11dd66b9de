"Render the documentation: process the notebooks, build the site with Quarto (or smalldocs where there is none), check every page"
import argparse, html, json, os, re, shutil, subprocess, sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import yaml

ROOT = Path(__file__).resolve().parent.parent
PROC = ROOT/'_proc'
COLAB = 'https://colab.research.google.com/github/busiseg/busiseg_nb/blob/main/nbs/'
GITHUB = 'https://github.com/busiseg/busiseg_nb'
QUARTO_ONLY = ('code-tools', 'code-block-bg', 'code-overflow', 'highlight-style', 'grid', 'html-math-method')

NOISE = re.compile(r'\s*(?:(?:before|after)_\w+:NoneType=None,?\s*)+|:Annotated\b')   # events of fastai's callbacks; Typer's annotations, which the source shows

# ---------------------------------------------------------------- processing

def page_name(nb): # path of a notebook
    "'03_tiling.ipynb' is the page 'tiling', as nbdev names it"
    return re.sub(r'^\d+[a-z]?_', '', Path(nb).stem)

def processors(module):
    "nbdev's processors, but names are documented from the module itself, and its source is shown"
    from execnb.shell import CaptureShell
    from nbdev import processors as P
    from nbdev.process import Processor

    class ShowDocs(Processor):
        "Run `show_doc` cells, and nothing else, with the names of the module"
        def begin(self):
            self.k = CaptureShell(path=ROOT/'nbs')
            self.k.run_cell(f'from nbdev.showdoc import show_doc\nimport busiseg_nb.{module} as _m\nglobals().update(vars(_m))' if module else '')
        def cell(self, cell):
            if not (module and cell.cell_type == 'code' and cell.source and re.search('^show_doc', cell.source, re.M)): return
            self.k.cell(cell)
            if self.k.exc: raise RuntimeError(f'{module}: {cell.source}') from self.k.exc
            for o in cell.outputs:
                for kind, text in o.get('data', {}).items(): o['data'][kind] = NOISE.sub('', ''.join(text)) if kind.startswith('text/') else text

    class SourceAfterDocs(Processor):
        "The source of a cell comes after the documentation of all that it defines, in the order of the source"
        def begin(self):
            cells = self.nb.cells
            for i in reversed([i for i, c in enumerate(cells) if c.cell_type == 'code' and 'exports' in c.directives_]):
                n = 0
                while getattr(cells[i + n + 1] if i + n + 1 < len(cells) else None, 'has_sd', False): n += 1
                cells[i:i + n + 1] = cells[i + 1:i + n + 1][::-1] + [cells[i]]   # nbdev put them in reverse

    def fold(cell):
        "Fold cells that only import; name the others"
        if cell.cell_type != 'code' or 'exports' not in cell.directives_ or not cell.source: return
        defs = re.findall(r'^(?:def|class) (\w+)', cell.source, re.M)
        small = not re.search(r'^(?:def|class|@) ?\w', cell.source, re.M) and re.match(r'\s*(import|from) ', cell.source)
        cell.source = f'#| code-fold: {"true" if small else "show"}\n#| code-summary: {"Imports" if small else "Source"}\n{cell.source}'

    class Pages(P.FilterDefaults):
        def base_procs(self):
            skip = {'exec_show_docs': ShowDocs, 'mv_exports': SourceAfterDocs, 'add_fold': fold, 'add_links': None}
            return [q for p in super().base_procs() if (q := skip.get(p.__name__, p))]
    return Pages()

def link_names(text, names, here):
    "Make a link of each `name` in Markdown that a page documents; not in code blocks, headings or links"
    out, fence = [], False
    for line in text.split('\n'):
        if line.lstrip().startswith('```'): fence = not fence
        if not fence and not line.startswith('#'):
            line = re.sub(r'(?<![\[`])`([A-Za-z_]\w*)(\(\))?`(?![`\]])',
                          lambda m: f'[{m[0]}]({"" if names[m[1]] == here else names[m[1]] + ".ipynb"}#{m[1].lower()})' if m[1] in names else m[0], line)
        out.append(line)
    return '\n'.join(out)

def process(nbs, # notebooks
            proc): # folder for the processed ones
    "Notebooks as pages: title and description, documentation of names, links, Colab badge; returns page -> notebook"
    from execnb.nbio import mk_cell, read_nb, write_nb
    pages = {page_name(p): p for p in nbs}
    module = lambda nb: next((m[1] for c in nb.cells if c.cell_type == 'code' and (m := re.search(r'^#\|\s*default_exp (\S+)', c.source, re.M))), None)
    books = {name: read_nb(p) for name, p in pages.items()}
    names = {}
    for name, nb in books.items():
        py = ROOT/'busiseg_nb'/f'{module(nb)}.py'
        if not module(nb) or not py.exists(): continue
        defined = set(re.findall(r'^(?:def|class) ([A-Za-z]\w*)', py.read_text(encoding='utf-8'), re.M))
        names |= {n: name for n in defined if n not in names}
    for name, nb in books.items():
        for c in nb.cells:
            if c.cell_type == 'code': c.source = re.sub(r'^#\|\s*export$', '#| exports', c.source, flags=re.M)
        if (mod := module(nb)) and not (ROOT/'busiseg_nb'/f'{mod}.py').exists(): mod = None
        processors(mod)(nb)
        repo = lambda t: re.sub(r'\]\((?:\.\./|(?=results/))([\w./ -]+)\)', lambda m: f']({GITHUB}/blob/main/{m[1]})', t)   # files outside the site
        for c in nb.cells:
            for o in c.get('outputs', []):
                if 'text/markdown' in o.get('data', {}): o['data']['text/markdown'] = repo(''.join(o['data']['text/markdown']))
            if c.cell_type != 'markdown' or not c.source: continue
            c.source = repo(c.source)
            c.source = re.sub(r'\]\((?:\./)?(index|\d+[a-z]?_\w+)\.(?:ipynb|html)([#)])', lambda m: f']({page_name(m[1])}.ipynb{m[2]}', c.source)
            c.source = link_names(c.source, names, name)
        for c in nb.cells:
            if c.cell_type == 'raw' and c.source: c.source = re.sub(r'^output-file:.*\n', '', c.source, flags=re.M)   # the page is named already
        at = next((i + 1 for i, c in enumerate(nb.cells) if c.cell_type == 'raw'), 0)
        if name != 'index':
            nb.cells.insert(at, mk_cell(f'[Open in Colab]({COLAB}{pages[name].name}){{.badge-link}} [Notebook]({GITHUB}/blob/main/nbs/{pages[name].name}){{.badge-link}}', 'markdown'))
        nb.cells = [c for c in nb.cells if c.source]
        write_nb(nb, proc/f'{name}.ipynb')
    return pages

# ---------------------------------------------------------------- other pages

def number(v):
    "'73.17 [70.10, 76.02]' of [value, low, high] in 0..1"
    if not v or v[0] is None: return '–'
    return f'{100*v[0]:.2f}' + (f' [{100*v[1]:.2f},\xa0{100*v[2]:.2f}]' if v[1] is not None else '')

def run_section(f): # path of a results.json
    "Scores of a run, and where they come from"
    r = json.loads(f.read_text(encoding='utf-8')); p, t, d, n = (r.get(k, {}) for k in ('provenance', 'training', 'data', 'split_sizes'))
    s = r.get('scores', {}); classes = [k[4:] for k in s if k.startswith('iou_') and k != 'iou_mean'] + ['mean']
    h = p.get('hardware') or {}; folder = f.parent.relative_to(ROOT)
    facts = {'data': f'{"BUSI" if d.get("is_busi") else "the phantom"}, {d.get("images")} images, fingerprint `{d.get("fingerprint")}`',
             'split': f'{r.get("split")}: ' + ', '.join(f'{n.get(k)} {what}' for k, what in dict(train='training', valid='validation', test='test images').items()),
             'model': f'{r.get("model")}, {r.get("encoder_weights") or "random"} weights, profile {r.get("profile")}',
             'training': f'weights of epoch {t.get("best_epoch")} of {t.get("epochs")}' + (f', {t["seconds"]/60:.0f} min' if t.get('seconds') else ''),
             'background everywhere': f'would have a mean IoU of {number([r.get("background_only_iou_mean"), None, None])}', 'convention': r.get('convention'),
             'command': f'`{p["command"]}`' if p.get('command') else None, 'commit': f'`{p["commit"][:10]}`, {p.get("date", "")[:10]}' if p.get('commit') else p.get('date'),
             'hardware': ', '.join(str(v) for v in (h.get('gpu'), h.get('processor'), h.get('cores') and f'{h["cores"]} cores') if v), 'files': f'[{folder}]({GITHUB}/tree/main/{folder})'}
    return [f'### {r.get("name", f.parent.name)}', '', '| class | IoU | Dice | precision | recall |', '|---|---|---|---|---|',
            *(f'| {c} | ' + ' | '.join(number(s.get(f'{k}_{c}')) for k in ('iou', 'dice', 'precision', 'recall')) + ' |' for c in classes), '',
            *(f'- {k}: {v}' for k, v in facts.items() if v), '']

def analysis_row(f, texts): # file; notebook -> its text
    "A file of numbers: the page that shows it, the command that made it"
    r = json.loads(f.read_text(encoding='utf-8')) if f.suffix == '.json' else {}; p = r.get('provenance', r); rel = f.relative_to(ROOT)
    pages = ', '.join(f'[{page_name(nb)}]({nb})' for nb, text in texts.items() if f.name in text or f'/{f.stem}' in text)
    return f'| [{rel.relative_to("results")}]({GITHUB}/blob/main/{rel}) | {pages} | ' + (f'`{p["command"]}`' if p.get('command') else '') + f' | {p.get("date", "")[:10].replace("-", "‑")} |'

def results_page(nbs):
    "Every recorded run and analysis, with what it measured and where it came from"
    out = ['---', 'title: Results', 'description: Every recorded run and analysis, with what it measured and the command that made it', '---', '',
           'Each number is read from a file under `results/` when this site is rendered. Scores are in per cent, with 95 % bootstrap intervals over groups of near-copies '
           'in brackets; the convention stands under each run. The [comparison](comparison.ipynb) puts them beside the paper\'s.', '', '## Runs', '']
    for f in sorted((ROOT/'results').glob('*/results.json')): out += run_section(f)
    texts = {f'{page_name(nb)}.ipynb': nb.read_text(encoding='utf-8') for nb in nbs}
    out += ['## Analyses and benchmarks', '', '| file | shown in | command | date |', '|---|---|---|---|']
    other = (p for p in (ROOT/'results').glob('*/*') if p.suffix in ('.json', '.csv') and not (p.parent/'results.json').exists())
    return '\n'.join(out + [analysis_row(f, texts) for f in sorted(other)]) + '\n'

def other_pages(proc, nbs):
    "Results, changelog and model card"
    (proc/'results.md').write_text(results_page(nbs), encoding='utf-8')
    def page(src, name, title, description):
        text = src.read_text(encoding='utf-8')
        text = re.sub(r'\A---\n.*?\n---\n', '', text, flags=re.S); text = re.sub(r'\A\s*# .*\n', '', text)
        (proc/f'{name}.md').write_text(f'---\ntitle: {json.dumps(title)}\ndescription: {json.dumps(description)}\n---\n{text}', encoding='utf-8')
    page(ROOT/'CHANGELOG.md', 'changelog', 'Changelog', 'What changed in each release')
    page(ROOT/'busiseg_nb'/'data'/'model'/'README.md', 'model_card', 'Model card', 'The model that comes with the package: data, training, scores, limits')

def configure(proc, out, pages, quarto):
    "The site's configuration for these pages; returns the entries of the sidebar that have no page"
    cfg = yaml.safe_load((ROOT/'_quarto.yml').read_text(encoding='utf-8')); missing = []
    side = yaml.safe_load((ROOT/'nbs'/'sidebar.yml').read_text(encoding='utf-8'))
    def keep(items):
        for e in items:
            if isinstance(e, dict) and 'contents' in e:
                e = {**e, 'contents': list(keep(e['contents']))}
                if e['contents']: yield e
                continue
            href = e['href'] if isinstance(e, dict) else e
            to = f'{page_name(href)}.ipynb' if href.endswith('.ipynb') else href
            if not (proc/to).exists(): missing.append(href); continue
            yield {**e, 'href': to} if isinstance(e, dict) else to
    sidebar = side['website']['sidebar']; sidebar['contents'] = list(keep(sidebar['contents']))
    cfg['website']['sidebar'] = sidebar; cfg.pop('metadata-files', None)
    cfg['website']['repo-subdir'] = 'nbs'
    cfg['project'] |= {'output-dir': '_site', 'render': ['*.ipynb', '*.md']}
    if not quarto: cfg['format']['html'] = {k: v for k, v in cfg['format']['html'].items() if k not in QUARTO_ONLY}
    (proc/'_quarto.yml').write_text(yaml.safe_dump(cfg, sort_keys=False), encoding='utf-8')
    return missing

# ---------------------------------------------------------------- after rendering

KATEX = re.compile(r'<(?:script|link)\b[^>]*katex[^>]*>(?:\s*</script>)?')
MATH = re.compile(r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', re.S)
CODE = re.compile(r'(<code class="sourceCode (?!text)\w+">)(.*?)(</code>)', re.S)

def mathml(page, problems, name):
    "Equations as MathML, which browsers typeset without a script"
    from latex2mathml.converter import convert
    def one(m):
        try: return f'<span class="math {m[1]}">{convert(html.unescape(m[2]), display="block" if m[1] == "display" else "inline")}</span>'
        except Exception as e: problems.append(f'{name}: equation {m[2][:40]!r} cannot be typeset ({type(e).__name__})'); return m[0]
    return KATEX.sub('', MATH.sub(one, page))

SOURCE = dict(changelog='/blob/main/CHANGELOG.md', model_card='/blob/main/busiseg_nb/data/model/README.md', results='/tree/main/results')   # of pages that no notebook makes

def wrap_lines(m): # match of CODE
    "Each line of code in a span that knows its indentation, so that long lines wrap under themselves as they do with Quarto"
    code = re.sub(r'(<span class="\w+">)([^<]*)</span>', lambda s: '\n'.join(f'{s[1]}{t}</span>' for t in s[2].split('\n')), m[2])
    indent = lambda line: len(t := re.sub('<[^>]*>', '', line)) - len(t.lstrip())
    return m[1] + '\n'.join(f'<span class="line" style="--in:{indent(l)}ch">{l}</span>' if l else l for l in code.split('\n')) + m[3]

def finish(site, pages, problems):
    "Nothing is fetched from elsewhere: no web fonts, no formula scripts; wide tables scroll; edit links name the notebooks"
    for f in site.rglob('*.css'):
        text = f.read_text(encoding='utf-8')
        if 'fonts.googleapis' in text: f.write_text(re.sub(r'@import url\([^)]*fonts\.googleapis[^)]*\);', '', text), encoding='utf-8')
    for f in site.rglob('*.html'):
        text = mathml(f.read_text(encoding='utf-8'), problems, f.name)
        edit = pages.get(f.stem)
        text = re.sub(r'(/(?:edit|blob)/main/nbs/)' + re.escape(f.stem) + r'\.(?:ipynb|md)', lambda m: m[1] + edit.name if edit else SOURCE[f.stem], text)
        text = CODE.sub(wrap_lines, text)
        text = re.sub('<td>(?=[^<]{50,}</td>)', '<td class="long">', text)
        wide = lambda table: ' wide' if table.split('</tr>')[0].count('<th') > 7 else ''
        text = re.sub(r'<table\b.*?</table>', lambda m: f'<div class="table-scroll{wide(m[0])}">{m[0]}</div>', text, flags=re.S)
        f.write_text(text, encoding='utf-8')

class PageParser(HTMLParser):
    "Ids, links, images, title and description of a page"
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.ids, self.links, self.images, self.loads, self.title, self.description, self._in = set(), [], [], [], '', '', False
    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        for k in ('id', 'name'):
            if a.get(k): self.ids.add(a[k])
        if tag == 'a' and a.get('href'): self.links.append(a['href'])
        if tag == 'img': self.images.append((a.get('src') or '', a.get('alt'))); self.loads.append(a.get('src') or '')
        if tag == 'script' and a.get('src'): self.loads.append(a['src'])
        if tag == 'link' and a.get('rel') in ('stylesheet', 'icon') and a.get('href'): self.loads.append(a['href'])
        if tag == 'meta' and a.get('name') == 'description': self.description = a.get('content') or ''
        if tag == 'title': self._in = True
    def handle_endtag(self, tag): self._in = self._in and tag != 'title'
    def handle_data(self, data): self.title += data if self._in else ''

def check_site(site):
    "Lines that say what is wrong: broken links, pages without title or description, images without alt text, files from elsewhere"
    site, bad, parsed = Path(site), [], {}
    for f in sorted(site.rglob('*.html')):
        if 'site_libs' in f.parts: continue
        parsed[f] = p = PageParser(); p.feed(f.read_text(encoding='utf-8'))
    for f, p in parsed.items():
        name = f.relative_to(site).as_posix()
        if not p.title.strip(): bad.append(f'{name}: no title')
        if not p.description.strip(): bad.append(f'{name}: no description')
        bad += [f'{name}: image {src[:60]} without alt text' for src, alt in p.images if not (alt or '').strip()]
        bad += [f'{name}: loads {u[:80]} from elsewhere' for u in p.loads if re.match(r'(https?:)?//', u)]
        for href in {*p.links, *(u for u in p.loads if u)}:
            if re.match(r'[a-zA-Z][\w+.-]*:|//', href): continue
            path, _, anchor = href.partition('#'); path = unquote(path.partition('?')[0])
            to = (f.parent/path).resolve() if path else f
            if to.is_dir(): to = to/'index.html'
            if not to.is_file(): bad.append(f'{name}: broken link {href}')
            elif anchor and to in parsed and unquote(anchor) not in parsed[to].ids: bad.append(f'{name}: link to a missing anchor {href}')
    if not parsed: bad.append(f'{site}: no pages')
    search = site/'search.json'
    if not search.is_file() or not json.loads(search.read_text(encoding='utf-8')): bad.append('search.json: missing or empty')
    return sorted(set(bad))

def render(out, nbs=None):
    "Build the site into `out`; returns the problems found"
    out, problems = Path(out).resolve(), []
    os.chdir(ROOT); os.environ['IN_TEST'] = '1'; sys.path.insert(0, str(ROOT))
    nbs = nbs or sorted(p for p in (ROOT/'nbs').glob('*.ipynb') if not p.name.startswith(('.', '_')))
    shutil.rmtree(PROC, ignore_errors=True); PROC.mkdir()
    pages = process(nbs, PROC)
    shutil.copytree(ROOT/'nbs'/'images', PROC/'images'); shutil.copy(ROOT/'nbs'/'styles.css', PROC/'styles.css')
    other_pages(PROC, nbs)
    quarto = shutil.which('quarto')
    for href in configure(PROC, out, pages, quarto): print(f'sidebar: {href} has no page yet and is left out')
    if quarto: subprocess.run([quarto, 'render', str(PROC), '--no-execute', '--quiet'], check=True)
    else:
        from smalldocs.site import build
        problems += [f'smalldocs: {w}' for w in build(PROC, quiet=True).warnings]
    site = PROC/'_site'; finish(site, pages, problems)
    if out.exists():
        if any(out.iterdir()) and not (out/'site_libs').is_dir(): sys.exit(f'{out}: is no earlier site, and would be emptied; give another --out')
        shutil.rmtree(out)
    shutil.move(site, out); (out/'.nojekyll').touch()
    problems += check_site(out)
    print(f'{len(list(out.glob("*.html")))} pages in {out} ({"Quarto" if quarto else "smalldocs"}), {len(problems)} problems')
    return problems

if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--out', default=ROOT/'_docs', help='folder of the site')
    p.add_argument('--check', action='store_true', help='only check a site that is there')
    a = p.parse_args()
    bad = check_site(a.out) if a.check else render(a.out)
    for line in bad: print(line, file=sys.stderr)
    sys.exit(1 if bad else 0)

"Render the documentation with Quarto, or with smalldocs where there is none, and check every page"
import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT/'scripts')]

from address import read_address  # noqa: E402  (the folder of scripts is on the path only now)
from docsite.cells import Book, page_name, process  # noqa: E402
from docsite.check import blunt_figures, check_site  # noqa: E402
from docsite.finish import finish  # noqa: E402
from docsite.pages import configure, other_pages  # noqa: E402

PROC = ROOT/'_proc'


def build(folder: Path, quarto: str | None) -> list[str]:    # quarto: path of the program, None for smalldocs
    "Render the processed pages into folder/_site; returns the renderer's warnings"
    if quarto:
        subprocess.run([quarto, 'render', str(folder), '--no-execute', '--quiet'], check=True)
        return []
    from smalldocs.site import build as smalldocs
    return [f'smalldocs: {warning}' for warning in smalldocs(folder, quiet=True).warnings]


def replace(out: Path, site: Path):
    "Put the new site where the old one was; a folder that holds something else is not emptied"
    if out.exists():
        if any(out.iterdir()) and not (out/'site_libs').is_dir():
            sys.exit(f'{out}: is no earlier site, and would be emptied; give another --out')
        shutil.rmtree(out)
    shutil.move(site, out)
    (out/'.nojekyll').touch()


def render(out,                    # folder of the site
           notebooks=None,         # paths of notebooks; default: all
           proc: Path = PROC):     # working folder, emptied
    "Build the site; returns the problems found, in lines"
    out = Path(out).resolve()
    os.chdir(ROOT)
    os.environ['IN_TEST'] = '1'
    found = notebooks or sorted(p for p in (ROOT/'nbs').glob('*.ipynb') if not p.name.startswith(('.', '_')))
    shutil.rmtree(proc, ignore_errors=True)
    proc.mkdir(parents=True)
    book = Book(ROOT, read_address(), {page_name(p): Path(p) for p in found})
    process(book, proc)
    shutil.copytree(ROOT/'nbs'/'images', proc/'images')
    shutil.copy(ROOT/'nbs'/'styles.css', proc/'styles.css')
    other_pages(book, proc)
    quarto = shutil.which('quarto')
    for href in configure(book, proc, bool(quarto)):
        print(f'sidebar: {href} has no page yet and is left out')
    problems = build(proc, quarto)
    finish(proc/'_site', book, problems)
    replace(out, proc/'_site')
    problems += check_site(out)
    pages = len(list(out.glob('*.html')))
    print(f'{pages} pages in {out} ({"Quarto" if quarto else "smalldocs"}), {len(problems)} problems')
    return problems


def main() -> int:
    "Render, or only check; returns the exit status"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', default=ROOT/'_docs', help='folder of the site')
    parser.add_argument('--check', action='store_true', help='only check a site that is there')
    args = parser.parse_args()
    bad = check_site(args.out) if args.check else render(args.out)
    for line in bad:
        print(line, file=sys.stderr)
    for line in blunt_figures(args.out):
        print(line)
    return int(bool(bad))


if __name__ == '__main__':
    sys.exit(main())

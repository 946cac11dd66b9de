"Build from `settings.ini`, the one place where names, versions and requirements are written."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=['='])
parser.read(here/'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']
words = lambda key: cfg.get(key, '').split()
extras = {k.removesuffix('_requirements'): words(k) for k in cfg if k.endswith('_requirements')}
results = cfg['lib_path'] + '.results'      # the recorded results travel with the package

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
    author=cfg['author'], author_email=cfg['author_email'], license='Apache-2.0', url=cfg['git_url'],
    long_description=(here/'README.md').read_text(encoding='utf-8') if (here/'README.md').exists() else '',
    long_description_content_type='text/markdown',
    packages=find_packages(include=[cfg['lib_path'], cfg['lib_path'] + '.*']) + [results],
    package_dir={results: 'results'}, include_package_data=True,
    package_data={cfg['lib_path']: ['py.typed', 'data/*', 'data/*/*'], results: ['*/*']},
    python_requires='>=' + cfg['min_python'], install_requires=words('requirements'),
    extras_require=extras | {'all': sorted({r for rs in extras.values() for r in rs})},
    entry_points={'console_scripts': cfg['console_scripts'].split(),
                  'nbdev': [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"]},
    classifiers=['Programming Language :: Python :: 3', 'Intended Audience :: Science/Research',
                 'Topic :: Scientific/Engineering :: Medical Science Apps.'],
    zip_safe=False)

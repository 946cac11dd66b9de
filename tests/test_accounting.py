"Every file of a folder is predicted, or passed over and counted with its reason"
import shutil

import numpy as np
import pytest
from PIL import Image

from busiseg_nb.predict import count_passed, search_inputs
from test_predict import GRAY, dicom

BIG = np.kron(GRAY, np.ones((8, 8), np.uint8))
PICTURE, MASK = Image.fromarray(GRAY), Image.fromarray(np.where(GRAY > 60, 255, 0).astype(np.uint8))


@pytest.fixture
def inputs(tmp_path):
    "A folder with one scan"
    (tmp_path/'in').mkdir()
    PICTURE.save(tmp_path/'in'/'a.png')
    return tmp_path/'in'


def sorted_out(inputs, out, given=None):
    "Names of the files that are predicted, {name: why not} of the others"
    found, bad, passed = search_inputs(given or [inputs], out)
    assert not bad
    return [p.name for p, _ in found], {p.name: why for p, why in passed}


def link(path, target):
    path.symlink_to(target)


def folder_with(name):
    def write(path):
        (path/name).mkdir(parents=True)
        PICTURE.save(path/name/'inner.png')
    return write


def save(picture):
    return lambda path: picture.save(path)


PASSED = {  # file: what writes it, why it is passed over ('': it is predicted)
    'a_mask.png': (save(MASK), 'a mask'),
    'a_mask_1.jpg': (save(MASK), 'a mask'),
    'a_tumor.png': (save(MASK), 'a mask'),
    'a_other1.png': (save(MASK), 'a mask'),
    'a_gt.png': (save(MASK), 'a mask'),
    'lost_mask.png': (save(MASK), 'a mask without its image'),
    'left_tumor.png': (save(PICTURE), ''),                   # no image left.png: may be a scan of a tumour
    'unmask.png': (save(PICTURE), ''),
    'a_thumb.jpg': (save(PICTURE), 'a thumbnail'),
    'preview-2.png': (save(PICTURE), 'a thumbnail'),
    'big_preview.png': (save(Image.fromarray(BIG)), ''),     # too large for a copy
    'thumbnailed.png': (save(PICTURE), ''),                  # the word is part of another
    '.hidden.png': (save(PICTURE), 'a hidden file'),
    'gone.png': (lambda p: link(p, 'nowhere.png'), 'a link that leads nowhere'),
    'again.png': (lambda p: link(p, 'a.png'), 'another name of a file that is predicted'),
    'empty': (lambda p: p.write_bytes(b''), 'empty (0 bytes)'),
    'notes.txt': (lambda p: p.write_text('x'), 'of an unknown type (.txt)'),
    'cine.mp4': (lambda p: p.write_bytes(b'\0\0\0\x18ftypisom' + bytes(99)), 'a video (MPEG-4 or QuickTime)'),
    'scan.nii': (lambda p: p.write_bytes(b'\x5c\1\0\0' + bytes(340) + b'n+1\0'), 'a NIfTI volume'),
    'IM0001': (lambda p: dicom(p, GRAY), ''),
    'scan.0001': (lambda p: dicom(p, GRAY), ''),
    'scan.dat': (lambda p: dicom(p, GRAY), ''),
    'DICOMDIR': (lambda p: dicom(p, GRAY, SOPClassUID='1.2.840.10008.1.3.10'),
                 'a DICOMDIR, the index of a folder'),
    'sr.dcm': (lambda p: dicom(p, GRAY, SOPClassUID='1.2.840.10008.5.1.4.1.1.88.33'), 'a structured report'),
    'pr.dcm': (lambda p: dicom(p, GRAY, SOPClassUID='1.2.840.10008.5.1.4.1.1.11.1'), 'a presentation state'),
}


@pytest.mark.parametrize('name', PASSED)
def test_a_file_of_a_folder(name, inputs, tmp_path):
    write, why = PASSED[name]
    write(inputs/name)
    found, passed = sorted_out(inputs, tmp_path/'out')
    assert 'a.png' in found
    assert passed == ({name: why} if why else {}) and (name in found) == (not why)


@pytest.mark.parametrize('name, why', [
    ('.cache', 'a hidden folder'), ('__MACOSX', 'a hidden folder'), ('sub', ''), ('thumbs', 'a thumbnail')])
def test_a_folder_of_a_folder(name, why, inputs, tmp_path):
    folder_with(name)(inputs)
    found, passed = sorted_out(inputs, tmp_path/'out')
    assert ('inner.png' in found) == (not why) and list(passed.values()) == [why]*bool(why)


def test_a_link_to_a_folder(inputs, tmp_path):
    folder_with('far')(tmp_path)
    link(inputs/'near', tmp_path/'far')
    assert sorted_out(inputs, tmp_path/'out') == (['a.png'], {'near': 'a link to a folder'})


def test_files_that_are_named(inputs, tmp_path):
    "A mask beside its image, and a file named twice, as a shell's pattern gives them"
    MASK.save(inputs/'a_mask.png')
    both = [inputs/'a.png', inputs/'a_mask.png', inputs/'..'/'in'/'a.png']
    found, passed = sorted_out(inputs, tmp_path/'out', both)
    assert found == ['a.png'] and passed['a_mask.png'] == 'a mask'
    alone, _ = sorted_out(inputs, tmp_path/'out', [inputs/'a_mask.png'])
    assert alone == ['a_mask.png']                   # asked for by name


def test_reasons_are_counted(inputs, tmp_path):
    MASK.save(inputs/'a_mask.png')
    for name in ('b', 'c'):
        shutil.copy(inputs/'a.png', inputs/f'{name}_thumb.png')
    _, _, passed = search_inputs([inputs], tmp_path/'out')
    assert count_passed(passed) == '2 a thumbnail, 1 a mask'

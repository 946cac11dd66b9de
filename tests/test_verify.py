"Each published layout, broken in several ways at once: verify lists them all in one go, and drops no picture"
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from busiseg_nb.core import BusisegError
from busiseg_nb.dataset import find_cases, find_data, verify_data
from test_images import exif
from test_predict import dicom

COLOURS = {'benign': (0, 255, 0), 'malignant': (255, 0, 0), 'normal': (0, 0, 0)}


def found(root):
    "{(file, problem)} that verify lists"
    return set(map(tuple, verify_data(root)[['file', 'problem']].values))


def details(root, problem):
    "What verify says of one kind of problem"
    table = verify_data(root)
    return ' | '.join(table[table.problem == problem].detail)


def fill(root, folder, image, mask):
    "Copy six cases with lesions into a layout; image, mask: f(number) -> path below its root"
    for k, c in enumerate((c for c in find_cases(folder) if c.label != 'normal'), 1):
        for source, name in ((c.image, image(k)), (c.masks[0], mask(k))):
            (root/name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, root/name)
    return root


@pytest.fixture
def busbra(folder, tmp_path):
    root = fill(tmp_path/'BUSBRA', folder, lambda k: f'Images/bus_{k:04}-l.png',
                lambda k: f'Masks/mask_{k:04}-l.png')
    rows = [f'bus_{k:04}-l,{k},benign,3' for k in range(1, 7)]
    (root/'bus_data.csv').write_text('\n'.join(['ID,Case,Pathology,BIRADS', *rows]))
    return root


@pytest.fixture
def breast(folder, tmp_path):
    root = fill(tmp_path/'BrEaST', folder, lambda k: f'case{k:03}.png', lambda k: f'case{k:03}_tumor.png')
    rows = [f'case{k:03}.png,benign,0.01' for k in range(1, 7)]
    (root/'BrEaST-clinical.csv').write_text('\n'.join(['Image_filename,Classification,Pixel_size', *rows]))
    return root


@pytest.fixture
def udiat(folder, tmp_path):
    return fill(tmp_path/'UDIAT', folder, lambda k: f'original/{k:06}.png', lambda k: f'GT/{k:06}.png')


@pytest.fixture
def uclm(folder, tmp_path):
    root = fill(tmp_path/'UCLM', folder, lambda k: f'images/AAAA_{k:03}.png',
                lambda k: f'masks/AAAA_{k:03}.png')
    for p in (root/'masks').iterdir():
        Image.fromarray(np.array(Image.open(p).convert('RGB'))//255*np.array([0, 255, 0], np.uint8)).save(p)
    (root/'INFO.csv').write_text('x')
    return root


@pytest.fixture
def own(folder, tmp_path):
    root = fill(tmp_path/'own', folder, lambda k: f'images/{k}.png', lambda k: f'masks/{k}.png')
    (root/'classes.json').write_text(json.dumps({'background': 0, 'lesion': 255}))
    return root


def cut(path):
    "Damage a file: only its first bytes are left"
    path.write_bytes(path.read_bytes()[:200])


def test_whole_layouts_have_no_fault(busbra, breast, udiat, uclm, own):
    for root in (busbra, breast, udiat, uclm, own):
        assert not (verify_data(root).severity == 'error').any(), root


def test_busi(folder):
    (folder/'benign'/'more').mkdir()
    shutil.copy(folder/'benign'/'benign (1).png', folder/'benign'/'more')
    shutil.copy(folder/'benign'/'benign (1).png', folder)
    shutil.move(folder/'benign'/'benign (3).png', folder/'benign'/'benign (3)')       # lost its suffix
    (folder/'malignant'/'malignant (1)_mask.png').unlink()
    cut(folder/'malignant'/'malignant (2).png')
    shutil.rmtree(folder/'normal')
    (folder/'normal').symlink_to(folder/'nowhere')
    assert found(folder) == {
        ('benign/more', 'passed over'), ('.', 'passed over'), ('benign/benign (3)', 'passed over'),
        ('benign/benign (3)_mask.png', 'orphan mask'), ('malignant/malignant (1).png', 'missing mask'),
        ('malignant/malignant (2).png', 'unreadable'), ('normal', 'unreadable'), ('normal', 'missing folder')}
    assert 'begins like a picture' in details(folder, 'passed over')
    with pytest.raises(BusisegError, match='leads nowhere'):
        find_cases(folder)


def test_busbra(busbra):
    cut(busbra/'Images'/'bus_0001-l.png')
    (busbra/'Masks'/'mask_0002-l.png').unlink()
    Image.new('L', (9, 9)).save(busbra/'Masks'/'mask_0003-l.png')
    shutil.copy(busbra/'Images'/'bus_0004-l.png', busbra/'Images'/'bus_0004-l.bmp')
    table = busbra/'bus_data.csv'
    table.write_text(table.read_text().replace('5,benign', '5,odd') + '\nbus_0006-l,6,malignant,5\n')
    (busbra/'Images'/'later').mkdir()
    shutil.copy(busbra/'Images'/'bus_0004-l.png', busbra/'Images'/'later')
    assert found(busbra) == {
        ('Images/bus_0001-l.png', 'unreadable'), ('Images/bus_0002-l.png', 'missing mask'),
        ('Masks/mask_0003-l.png', 'wrong size'), ('Masks/mask_0003-l.png', 'empty mask'),
        ('Images/bus_0004-l.png', 'name used twice'), ('Images/bus_0005-l.png', 'unknown label'),
        ('bus_data.csv', 'contradictory table'), ('Images/later', 'passed over')}
    with pytest.raises(BusisegError, match='two rows of bus_0006-l that say different things; take one out'):
        find_data(busbra)


@pytest.mark.parametrize('text', ['name,Pathology\na,benign\n', '"'])
def test_busbra_without_a_usable_table(busbra, text):
    "The table's fault stands beside the others, and refuses the training: the classes would be lost"
    (busbra/'bus_data.csv').write_text(text)
    cut(busbra/'Images'/'bus_0001-l.png')
    (busbra/'Masks'/'mask_0002-l.png').unlink()
    assert found(busbra) == {('bus_data.csv', 'unreadable table'), ('Images/bus_0001-l.png', 'unreadable'),
                             ('Images/bus_0002-l.png', 'missing mask')}
    with pytest.raises(BusisegError, match='bus_data.csv: (lacks the column ID|cannot be read as CSV)'):
        find_data(busbra)


def test_breast(breast):
    shutil.copy(breast/'case001.png', breast/'case001.tif.png')
    Image.open(breast/'case002.png').save(breast/'case002.bmp')
    cut(breast/'case003_tumor.png')
    (breast/'case004_tumor.png').unlink()
    (breast/'case005.png').unlink()
    table = breast/'BrEaST-clinical.csv'
    table.write_text(table.read_text().replace('case006.png', 'case007.png'))
    shutil.copytree(breast, breast/'second', ignore=shutil.ignore_patterns('*.csv', '*_tumor*'))
    assert found(breast) == {
        ('case001.tif.png', 'passed over'), ('case002.png', 'name used twice'),
        ('case003_tumor.png', 'unreadable'), ('case004.png', 'missing mask'),
        ('case005_tumor.png', 'orphan mask'), ('case006.png', 'unknown label'),
        ('second', 'passed over'), ('.', 'remark')}


def test_udiat(udiat):
    cut(udiat/'original'/'000001.png')
    (udiat/'GT'/'000002.png').unlink()
    (udiat/'original'/'000003.png').unlink()
    Image.new('L', Image.open(udiat/'original'/'000004.png').size).save(udiat/'GT'/'000004.png')
    Image.new('L', (9, 9), 255).save(udiat/'GT'/'000005.png')
    (udiat/'original'/'notes.txt').write_text('x')
    shutil.copy(udiat/'original'/'000006.png', udiat/'000007.png')
    assert found(udiat) == {
        ('original/000001.png', 'unreadable'), ('original/000002.png', 'missing mask'),
        ('GT/000003.png', 'orphan mask'), ('GT/000004.png', 'empty mask'), ('GT/000005.png', 'wrong size'),
        ('GT/000005.png', 'full mask'), ('original/notes.txt', 'passed over'),
        ('.', 'passed over'), ('.', 'remark')}


def test_uclm(uclm):
    cut(uclm/'images'/'AAAA_001.png')
    (uclm/'masks'/'AAAA_002.png').unlink()
    size = Image.open(uclm/'images'/'AAAA_003.png').size
    Image.new('RGB', size, (1, 2, 3)).save(uclm/'masks'/'AAAA_003.png')
    (uclm/'images'/'AAAA_004.png').unlink()
    Image.new('RGB', (9, 9)).save(uclm/'masks'/'AAAA_005.png')
    assert found(uclm) == {
        ('images/AAAA_001.png', 'unreadable'), ('images/AAAA_002.png', 'missing mask'),
        ('masks/AAAA_003.png', 'unknown values'), ('masks/AAAA_004.png', 'orphan mask'),
        ('masks/AAAA_005.png', 'wrong size')}


def test_own_data(own):
    cut(own/'images'/'1.png')
    cut(own/'masks'/'2.png')
    (own/'masks'/'3.png').unlink()
    Image.new('L', (9, 9)).save(own/'masks'/'4.png')
    image = Image.open(own/'images'/'5.png').convert('L')
    image.save(own/'images'/'5.png', exif=exif(3))
    (own/'other').mkdir()
    shutil.copy(own/'images'/'6.png', own/'other')
    want = {('images/1.png', 'unreadable'), ('images/3.png', 'missing mask'), ('masks/4.png', 'wrong size'),
            ('images/5.png', 'stored turned'), ('masks/2.png', 'unreadable')}
    assert found(own) == want | {('other', 'passed over')}
    (own/'classes.json').write_text('{')
    assert found(own) == want | {('classes.json', 'unreadable')}       # and all that needs no classes


def test_a_note_hides_no_missing_mask(own):
    "Only a fault of the folder of masks stands for those of all images"
    for p in (own/'masks').iterdir():
        p.unlink()
    (own/'masks'/'readme.txt').write_text('x')
    assert {problem for _, problem in found(own)} == {'missing mask', 'passed over', 'remark'}
    shutil.rmtree(own/'masks')
    assert {problem for _, problem in found(own)} & {'missing mask', 'missing folder'} == {'missing folder'}


def test_a_damaged_mask_of_a_turned_image_is_one_fault_of_several(own):
    Image.open(own/'images'/'1.png').convert('L').save(own/'images'/'1.png', exif=exif(3))
    cut(own/'masks'/'1.png')
    cut(own/'images'/'2.png')
    assert {('images/2.png', 'unreadable'), ('masks/1.png', 'unreadable')} <= found(own)


def test_pictures_of_dicom_without_a_suffix_are_told(udiat):
    a = np.array(Image.open(udiat/'original'/'000001.png').convert('L'))
    dicom(udiat/'original'/'IM0001', a)
    assert ('original/IM0001', 'passed over') in found(udiat)
    assert 'begins like a picture' in details(udiat, 'passed over')

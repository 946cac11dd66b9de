"DICOM Segmentations read back, operating points in bands, frames, spreadsheets, a run for a model"
import csv
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from busiseg_nb.core import BusisegError
from busiseg_nb.models import build_model, save_model
from busiseg_nb.predict import Lesions, keep_lesions, parse_frames, predict_files, predict_image, threshold_of
from test_predict import GRAY, Dark, dicom

CLIP = '1.2.840.10008.5.1.4.1.1.3.1'     # ultrasound multi-frame image storage


def mask_of(folder, name):
    return np.array(Image.open(folder / name))


# ---- DICOM Segmentation ----


@pytest.fixture
def sources(tmp_path):
    "A picture and a clip, and what was predicted for them, by kind of segmentation"
    pytest.importorskip('highdicom')
    dicom(tmp_path / 'one.dcm', GRAY, PixelSpacing=[0.1, 0.1], PatientID='7')
    dicom(tmp_path / 'clip.dcm', np.stack([GRAY, GRAY[::-1], 255 - GRAY]), SOPClassUID=CLIP)
    Image.fromarray(GRAY).save(tmp_path / 'plain.png')

    def run(kind):
        files = [tmp_path / f for f in ('one.dcm', 'clip.dcm', 'plain.png')]
        r = predict_files(files, tmp_path / f'out-{kind}', Dark(), bf16=False, dicom_seg=kind)
        assert not r['failed'] and r['predicted'] == 3
        return tmp_path / f'out-{kind}', r

    return run


def test_a_binary_segmentation_is_the_mask(sources):
    "Read back by pydicom and highdicom: every frame and segment equals the PNG, and names its picture"
    import highdicom
    import pydicom

    out, report = sources(True)
    written = [im.get('dicom_seg') for im in report['images']]
    assert written == ['one_seg.dcm', 'clip_seg.dcm', None, None, None]
    for name, masks in (('one', ['one_mask.png']), ('clip', [f'clip_{k:03}_mask.png' for k in (1, 2, 3)])):
        seg = pydicom.dcmread(out / f'{name}_seg.dcm')
        assert seg.Modality == 'SEG' and seg.SegmentationType == 'BINARY' and seg.Rows == 60
        assert [s.SegmentLabel for s in seg.SegmentSequence] == ['benign', 'malignant']
        assert seg.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0].CodeValue == '1240414004'
        algorithm = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
        assert algorithm.AlgorithmName == 'busiseg_nb' and algorithm.AlgorithmVersion
        planes = seg.pixel_array
        for group, plane in zip(seg.PerFrameFunctionalGroupsSequence, planes, strict=True):
            k = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            source = group.DerivationImageSequence[0].SourceImageSequence[0]
            frame = int(source.get('ReferencedFrameNumber', 1)) - 1
            assert source.ReferencedSOPInstanceUID == '1.2.3'
            assert (plane == (mask_of(out, masks[frame]) == k)).all()
        assert len(planes) == 2 * len(masks)
        assert highdicom.seg.segread(out / f'{name}_seg.dcm').number_of_segments == 2
    clip = highdicom.seg.segread(out / 'clip_seg.dcm')
    how = {'combine_segments': True, 'ignore_spatial_locations': True}
    got = clip.get_pixels_by_source_frame('1.2.3', [1, 2, 3], **how)
    assert all((got[k] == mask_of(out, f'clip_{k + 1:03}_mask.png')).all() for k in range(3))
    assert pydicom.dcmread(out / 'one_seg.dcm').PatientID == '7'


def test_a_fractional_segmentation_holds_the_probabilities(sources):
    import pydicom

    out, _ = sources('fractional')
    seg = pydicom.dcmread(out / 'clip_seg.dcm')
    planes = seg.pixel_array.reshape(3, 2, 60, 80)
    assert seg.SegmentationType == 'FRACTIONAL' and seg.MaximumFractionalValue == 255
    for k in range(3):
        mask = mask_of(out, f'clip_{k + 1:03}_mask.png')
        sure = planes[k].max(0) > 140
        assert sure.any() and (planes[k].argmax(0)[sure] + 1 == mask[sure]).all()


@pytest.mark.skipif(not shutil.which('dciodvfy'), reason='dicom3tools is not here')
def test_dciodvfy_finds_no_error(sources):
    out, _ = sources(True)
    for name in ('one', 'clip'):
        done = subprocess.run(['dciodvfy', str(out / f'{name}_seg.dcm')], capture_output=True, text=True)
        assert 'Error' not in done.stderr + done.stdout, done.stderr


def test_a_segmentation_is_no_source(sources):
    "A second run over the results finds pictures only"
    out, _ = sources(True)
    r = predict_files([out.parent], out, Dark(), bf16=False, dicom_seg=True)
    assert len(r['images']) == 5 and not r['failed'] and r['kept'] == 3


# ---- frames ----


def test_frames_can_be_chosen(tmp_path):
    dicom(tmp_path / 'c.dcm', np.stack([GRAY, GRAY[::-1], 255 - GRAY]), SOPClassUID=CLIP)
    Image.fromarray(GRAY).save(tmp_path / 'a.png')
    r = predict_files([tmp_path / 'c.dcm', tmp_path / 'a.png'], tmp_path / 'out', Dark(), frames='3,1')
    assert [im['frame'] for im in r['images']] == [1, 3, None] and not r['failed']
    r = predict_files([tmp_path / 'c.dcm'], tmp_path / 'out', Dark(), frames='2-9', say=lambda line: None)
    assert 'has no frame 4; it holds 3' in r['failed'][0]['error']
    assert parse_frames('1,4-6') == {1, 4, 5, 6} and parse_frames(None) is None
    for wrong in ('0', 'x', '3-', '5-2'):
        with pytest.raises(BusisegError, match='frames'):
            parse_frames(wrong)


# ---- operating points ----


def whole(mask, prob, threshold):
    "By hand: every piece of every class whose greatest probability is too small goes"
    from scipy import ndimage

    out = mask.copy()
    for k in range(1, mask.max() + 1):
        lab, n = ndimage.label(mask == k, np.ones((3, 3)))
        for i in range(1, n + 1):
            if prob[lab == i].max() < threshold:
                out[lab == i] = 0
    return out


def test_weak_lesions_go_in_bands_as_in_one():
    rng = np.random.default_rng(1)
    for _ in range(12):
        field = Image.fromarray(rng.integers(0, 256, (12, 12), np.uint8)).resize((70, 60), Image.BICUBIC)
        mask = np.digitize(np.asarray(field), (110, 150)).astype(np.uint8)
        prob = (rng.random(mask.shape) ** 0.02).astype(np.float32)
        want = whole(mask, prob, 0.9995)
        assert (keep_lesions(mask, prob, 0.9995) == want).all() and (want != mask).any()
        for n in (1, 7, 31):
            lesions = Lesions(3, 0.9995)
            bands = [lesions.add(mask[a : a + n], prob[a : a + n]) for a in range(0, 60, n)]
            got = np.concatenate([lesions.clean(k, band) for k, band in enumerate(bands)])
            assert (got == want).all()
            assert (lesions.areas() == np.bincount(want.ravel(), minlength=3)).all()
            assert all(row['peak_probability'] >= 0.9995 - 1e-4 for row in lesions.table('abc'))


def test_sensitivity_takes_the_models_points(tmp_path):
    "A model without points keeps all; the bands of a large image agree"
    model = Dark()
    assert threshold_of(model, 'high') == 0
    model.meta = {'operating_points': {'default': 0.5, 'high sensitivity': 0.2, 'low false alarms': 0.9999}}
    assert [threshold_of(model, s) for s in ('default', 'high', 'low')] == [0.5, 0.2, 0.9999]
    model.meta['operating_points']['default'] = 'much'
    assert threshold_of(model) == 0
    Image.fromarray(np.maximum(GRAY, 60)).save(tmp_path / 'a.png')
    many = predict_files([tmp_path / 'a.png'], tmp_path / 'all', model, bf16=False, sensitivity='high')
    few = predict_files([tmp_path / 'a.png'], tmp_path / 'few', model, bf16=False, sensitivity='low')
    assert many['images'][0]['lesions'] and not few['images'][0]['lesions']
    assert few['images'][0]['area_px']['background'] == GRAY.size
    assert not mask_of(tmp_path / 'few', 'a_mask.png').any()
    img = np.tile(GRAY, (6, 3))
    one, banded = (predict_image(model, img, tmp_path / f'{n}.png', large=n, threshold=0.999, bf16=False)
                   for n in (10**7, 100))
    assert one['area_px'] == banded['area_px'] and len(one['lesions']) == len(banded['lesions'])
    assert (mask_of(tmp_path, '10000000.png') == mask_of(tmp_path, '100.png')).all()
    with pytest.raises(BusisegError, match='no operating point'):
        predict_files([tmp_path / 'a.png'], tmp_path / 'x', model, sensitivity='highest')


# ---- the rest ----


def test_no_cell_is_a_formula(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('=cmd()', '+1', '-2', '@x'):
        Image.fromarray(GRAY).save(f'{name}.png')
    report = predict_files(['=cmd().png', '+1.png', './-2.png', '@x.png'], 'out', Dark())
    with open('out/report.csv', newline='') as f:
        cells = [cell for row in csv.DictReader(f) for cell in row.values()]
    assert not [cell for cell in cells if cell and cell[0] in '=+-@']
    assert report['images'][0]['file'] == '=cmd().png'


def test_a_run_is_a_model(tmp_path):
    sizes = {'decoder_channels': (8,) * 5, 'tile_size': 64, 'resize': 64}
    net = build_model('tu-mobilenetv3_small_050', None, in_channels=1, **sizes)
    save_model(net, tmp_path / 'run' / 'best')
    Image.fromarray(GRAY).save(tmp_path / 'a.png')
    r = predict_files([tmp_path / 'a.png'], tmp_path / 'out', tmp_path / 'run')
    again = predict_files([tmp_path / 'a.png'], tmp_path / 'out', tmp_path / 'run' / 'best')
    assert r['predicted'] == 1 and again['kept'] == 1

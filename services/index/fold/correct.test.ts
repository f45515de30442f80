import assert from 'node:assert/strict';
import { test } from 'node:test';
import { overlayAttributes } from './commit.ts';
import { type Correction, correct, correctionsFor, identify, lastMerges, type Merge } from './correct.ts';
import { disagrees, levelDoc, studyDoc } from './levels.ts';

const lo = (value: string) => ({ vr: 'LO', Value: [value] });
const merge = (order: string, from: string, to: string): Merge => ({
  order,
  from: { patientId: from, issuer: '' },
  to: { patientId: to, issuer: '' },
});

test('the last word on an attribute wins, whatever its level; UIDs are nobody’s to correct', () => {
  const corrections: Correction[] = [
    { order: '2', seriesInstanceUid: '', sopInstanceUid: '', attributes: { '00081030': lo('study, later') } },
    {
      order: '1',
      seriesInstanceUid: '1',
      sopInstanceUid: '',
      attributes: { '00081030': lo('series, earlier'), '00080018': lo('9') },
    },
    { order: '3', seriesInstanceUid: '2', sopInstanceUid: '', attributes: { '00081030': lo('another series') } },
  ];
  const over = correctionsFor(corrections, '1', '1.1');
  const original = { '00080018': lo('1.1') };
  assert.deepEqual(correct(original, over), { '00080018': lo('1.1'), '00081030': lo('study, later') });
  assert.deepEqual(original, { '00080018': lo('1.1') });
});

test('merges: chains are followed, the last merge away from a patient holds, circles end, an empty ID is nobody', () => {
  const of = (id: string, ...merges: Merge[]) =>
    identify({ '00100020': lo(id), '00100021': lo('') }, lastMerges(merges))['00100020']!.Value![0];
  assert.equal(of('A', merge('1', 'A', 'B'), merge('2', 'B', 'C')), 'C');
  assert.equal(of('A', merge('2', 'A', 'C'), merge('1', 'A', 'B')), 'C');
  assert.equal(of('A', merge('1', 'A', 'B'), merge('2', 'B', 'A')), 'A');
  assert.equal(of('X', merge('1', 'A', 'B')), 'X');
  assert.equal(of('', merge('1', '', 'B')), '');
});

test('a correction that is no DICOM JSON object is refused; strange keys are left out', () => {
  const read = (text: string) => overlayAttributes(Buffer.from(text));
  for (const text of ['', '[]', 'null', '1', '{"0010']) assert.equal(read(text), undefined);
  assert.deepEqual(read('{"0010001a":{"vr":"LO"},"__proto__":{"vr":"LO"},"00100020":"x","00100010":{"Value":["x"]}}'), {
    '0010001A': { vr: 'LO' },
  });
});

test('a row shows its first instance’s values, keeps every other value, and says where they disagree', () => {
  const doc = levelDoc('STUDY', [
    { order: '3', attributes: { '00080050': lo('C') } },
    { order: '1', attributes: { '00080050': lo('A'), '00200010': { vr: 'SH' } } },
    { order: '2', attributes: { '00080050': lo('B'), '00200010': lo('1') } },
    { order: '4', attributes: {} },
  ]);
  assert.deepEqual(doc.attributes, { '00080050': lo('A'), '00200010': { vr: 'SH' } });
  assert.deepEqual(doc.values, { '00080050': [lo('B'), lo('C')], '00200010': [lo('1')] });
  assert.equal(disagrees(doc), true);
  // One without a value contradicts nobody.
  assert.equal(disagrees({ attributes: { '00200010': { vr: 'SH' } }, values: { '00200010': [lo('1')] } }), false);
});

test('ModalitiesInStudy is never empty: it breaks OHIF’s whole study list', () => {
  assert.deepEqual(studyDoc([{ order: '1', attributes: {} }]).modalities, ['OT']);
  const carried = [
    { order: '1', attributes: { '00080060': { vr: 'CS', Value: ['MR'] } } },
    { order: '2', attributes: { '00080060': { vr: 'CS', Value: ['CT'] } } },
  ];
  assert.deepEqual(studyDoc(carried).modalities, ['CT', 'MR']);
});

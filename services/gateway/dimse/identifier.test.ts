import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DataSet } from '#dicom/dataset.ts';
import { Tag } from '#dicom/tags.ts';
import type { Incoming } from '#dimse/types.ts';
import { EXPLICIT, PATIENT_ROOT, query, STUDY_ROOT } from './house.testing.ts';
import { retrieveRequest } from './identifier.ts';
import type { Session } from './session.ts';

const PATIENT_STUDY_ONLY = '1.2.840.10008.5.1.4.1.2.3.2';

type Keys = Parameters<typeof query>[1];
function ask(
  level: string,
  keys: Keys,
  {
    sopClass = STUDY_ROOT.move,
    relational = false,
    lenient = false,
  }: { sopClass?: string; relational?: boolean; lenient?: boolean } = {},
) {
  const extended = relational ? [{ sopClassUid: sopClass, info: Buffer.from([1]) }] : [];
  const session = {
    association: { ac: { user: { extended } } },
    peer: lenient ? { relationalLenient: true } : undefined,
  } as unknown as Session;
  const identifier = new DataSet({ buffer: query(level, keys), transferSyntaxUid: EXPLICIT });
  return retrieveRequest(session, { abstractSyntax: sopClass } as Incoming, identifier);
}
const refused = (tag: number) => (error: { code: string; offendingElements: number[] }) =>
  error.code === 'invalid-argument' && error.offendingElements[0] === tag;

describe('what a C-MOVE or C-GET names', () => {
  test('each level, one or a list', () => {
    const none = { patientId: '' };
    assert.deepEqual(ask('STUDY', { study: '1.2\\1.3' }), { ...none, studyInstanceUids: ['1.2', '1.3'] });
    assert.deepEqual(ask('SERIES', { study: '1.2', series: '1.2.1\\1.2.2' }), {
      ...none,
      studyInstanceUids: ['1.2'],
      seriesInstanceUids: ['1.2.1', '1.2.2'],
    });
    assert.deepEqual(ask('IMAGE', { study: '1.2', series: '1.2.1', sop: '1\\2\\3' }), {
      ...none,
      studyInstanceUids: ['1.2'],
      seriesInstanceUids: ['1.2.1'],
      sopInstanceUids: ['1', '2', '3'],
    });
    assert.deepEqual(ask('PATIENT', { patient: 'P1 ' }, { sopClass: PATIENT_ROOT.move }), { patientId: 'P1' });
  });

  test('a Patient ID that is given counts in Patient Root, and is nothing in Study Root', () => {
    assert.deepEqual(ask('STUDY', { patient: 'P1', study: '1.2' }, { sopClass: PATIENT_ROOT.get }), {
      patientId: 'P1',
      studyInstanceUids: ['1.2'],
    });
    assert.deepEqual(ask('STUDY', { patient: '*', study: '1.2' }), { patientId: '', studyInstanceUids: ['1.2'] });
  });

  test('a unique key above the level that is missing, empty or several is refused', () => {
    assert.throws(() => ask('SERIES', { series: '1' }), refused(Tag.StudyInstanceUID));
    assert.throws(() => ask('SERIES', { study: '', series: '1' }), refused(Tag.StudyInstanceUID));
    assert.throws(() => ask('SERIES', { study: '1\\2', series: '1' }), refused(Tag.StudyInstanceUID));
    assert.throws(() => ask('IMAGE', { study: '1', sop: '1' }), refused(Tag.SeriesInstanceUID));
    assert.throws(() => ask('IMAGE', { study: '1', series: '1\\2', sop: '1' }), refused(Tag.SeriesInstanceUID));
    assert.throws(
      () => ask('STUDY', { patient: 'A\\B', study: '1' }, { sopClass: PATIENT_ROOT.move }),
      refused(Tag.PatientID),
    );
  });

  test('relational retrieval, negotiated or by peer setting, leaves the keys above out', () => {
    for (const how of [{ relational: true }, { lenient: true }]) {
      assert.deepEqual(ask('IMAGE', { sop: '1' }, how), {
        patientId: '',
        studyInstanceUids: [],
        seriesInstanceUids: [],
        sopInstanceUids: ['1'],
      });
      assert.throws(() => ask('IMAGE', {}, how), refused(Tag.SOPInstanceUID));
    }
  });

  test('the key of the level itself is needed: nobody retrieves everything', () => {
    assert.throws(() => ask('STUDY', {}), refused(Tag.StudyInstanceUID));
    assert.throws(() => ask('STUDY', { study: '' }), refused(Tag.StudyInstanceUID));
    assert.throws(() => ask('SERIES', { study: '1' }), refused(Tag.SeriesInstanceUID));
    assert.throws(() => ask('IMAGE', { study: '1', series: '1' }), refused(Tag.SOPInstanceUID));
    // An empty Patient ID joins nobody.
    for (const keys of [{}, { patient: '' }, { patient: '  ' }])
      assert.throws(() => ask('PATIENT', keys, { sopClass: PATIENT_ROOT.move }), refused(Tag.PatientID));
  });

  test('wildcards are refused', () => {
    assert.throws(() => ask('STUDY', { study: '*' }), refused(Tag.StudyInstanceUID));
    assert.throws(() => ask('STUDY', { study: '1.2.?' }), refused(Tag.StudyInstanceUID));
    assert.throws(() => ask('SERIES', { study: '1.*', series: '1' }), refused(Tag.StudyInstanceUID));
    assert.throws(() => ask('IMAGE', { study: '1', series: '1', sop: '1.*' }), refused(Tag.SOPInstanceUID));
    assert.throws(() => ask('PATIENT', { patient: 'P*' }, { sopClass: PATIENT_ROOT.move }), refused(Tag.PatientID));
  });

  test('a missing level is the lowest unique key that is there', () => {
    assert.deepEqual(ask('', { study: '1' }).studyInstanceUids, ['1']);
    assert.deepEqual(ask('', { study: '1', series: '2' }).seriesInstanceUids, ['2']);
    assert.deepEqual(ask('', { study: '1', series: '2', sop: '3' }).sopInstanceUids, ['3']);
    assert.deepEqual(ask('', { patient: 'P' }, { sopClass: PATIENT_ROOT.move }), { patientId: 'P' });
    assert.throws(() => ask('', {}), refused(Tag.QueryRetrieveLevel));
  });

  test('a level that the model does not have is refused; its case does not matter', () => {
    assert.throws(() => ask('PATIENT', { patient: 'P' }), refused(Tag.QueryRetrieveLevel));
    assert.throws(() => ask('FRAME', { study: '1' }), refused(Tag.QueryRetrieveLevel));
    for (const level of ['SERIES', 'IMAGE'])
      assert.throws(
        () => ask(level, { patient: 'P', study: '1', series: '1', sop: '1' }, { sopClass: PATIENT_STUDY_ONLY }),
        refused(Tag.QueryRetrieveLevel),
      );
    assert.deepEqual(ask('study', { study: '1' }).studyInstanceUids, ['1']);
  });
});

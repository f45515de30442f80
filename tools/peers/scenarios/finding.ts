// Finding: C-FIND and QIDO-RS are two languages for the same questions, and give the same answers.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import type { JsonDataSet } from '#dicom/json.ts';
import { type Keys, PATIENT_ROOT_FIND } from './dimse.ts';
import { MR, newPatient, type Patient, type Sent } from './material.ts';
import { eventually, eventuallyCounted, type Scene, values } from './scene.ts';

interface Ward {
  patient: Patient;
  /** Two series of three CT and two MR; one of one CT. */
  studies: [Sent[], Sent[]];
  series: [Sent[], Sent[]];
}

export function finding(the: () => Scene): void {
  describe('finding', () => {
    let ward: Ward;

    before(async () => {
      const patient = newPatient();
      const attributes: JsonDataSet = {
        '00080050': { vr: 'SH', Value: ['ACC-1'] },
        '00081030': { vr: 'LO', Value: ['Thorax and more'] },
      };
      const ct = the().makeSeries(3, { patient, attributes });
      const mr = the().makeSeries(2, { like: ct[0]!, sopClass: MR, attributes });
      const late = the().makeSeries(1, { patient, attributes: { '00080020': { vr: 'DA', Value: ['20250101'] } } });
      ward = { patient, studies: [[...ct, ...mr], late], series: [ct, mr] };
      await the().dimse.store([...ct, ...mr, ...late]);
      await eventuallyCounted(the().web, ct[0]!.study, 5);
      await eventuallyCounted(the().web, late[0]!.study, 1);
    });
    const patientKey = (): Keys => ({ '00100020': { vr: 'LO', Value: [ward.patient.id] } });
    const studyKey = (n: 0 | 1): Keys => ({ '0020000D': { vr: 'UI', Value: [ward.studies[n][0]!.study] } });

    /** Both doors, the same keys; the rows by the attribute that names them. */
    async function both(level: 'STUDY' | 'SERIES' | 'IMAGE', path: string, keys: Keys): Promise<JsonDataSet[]> {
      const { dimse, web } = the();
      const found = await dimse.find({ '00080052': { vr: 'CS', Value: [level] }, ...keys });
      const [wanted, given] = [Object.entries(keys), path.split('/') as unknown[]];
      const parameters = Object.fromEntries(
        wanted.flatMap(([tag, { Value }]) =>
          Value === undefined || given.includes(Value[0]) ? [] : [[tag, Value.join('\\')]],
        ),
      );
      const rows = await web.qido(path, { ...parameters, includefield: Object.keys(keys).join(',') });
      const compared = (all: JsonDataSet[]) =>
        all
          .map((row) => Object.keys(keys).map((tag) => [tag, row[tag]?.Value ?? []]))
          .sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
      assert.deepEqual(compared(found), compared(rows), `${level}: C-FIND and QIDO-RS differ`);
      return rows;
    }
    const asked = (...tags: [tag: string, vr: string][]): Keys =>
      Object.fromEntries(tags.map(([tag, vr]) => [tag, { vr }]));

    test('patients, by C-FIND of Patient Root', async () => {
      const rows = await the().dimse.find(
        { '00080052': { vr: 'CS', Value: ['PATIENT'] }, ...patientKey(), ...asked(['00100010', 'PN']) },
        PATIENT_ROOT_FIND,
      );
      assert.equal(rows.length, 1);
      assert.deepEqual(rows[0]!['00100010']!.Value, [{ Alphabetic: ward.patient.name }]);
    });

    test('studies: counts, modalities, dates, the same at both doors', async () => {
      const rows = await both('STUDY', '/studies', {
        ...patientKey(),
        ...asked(
          ['0020000D', 'UI'],
          ['00080020', 'DA'],
          ['00080030', 'TM'],
          ['00080050', 'SH'],
          ['00080061', 'CS'],
          ['00100010', 'PN'],
          ['00201206', 'IS'],
          ['00201208', 'IS'],
        ),
      });
      const found = new Map(rows.map((row) => [row['0020000D']!.Value![0], row]));
      assert.deepEqual(new Set(found.keys()), new Set(ward.studies.map(([one]) => one!.study)));
      const big = found.get(ward.studies[0][0]!.study)!;
      assert.deepEqual(big['00201206']!.Value, [2]);
      assert.deepEqual(big['00201208']!.Value, [5]);
      assert.deepEqual([...big['00080061']!.Value!].sort(), ['CT', 'MR']);
    });

    test('series and instances of a study, the same at both doors', async () => {
      const { study } = ward.studies[0][0]!;
      const series = await both('SERIES', `/studies/${study}/series`, {
        ...studyKey(0),
        ...asked(['0020000E', 'UI'], ['00080060', 'CS'], ['00200011', 'IS'], ['00201209', 'IS']),
      });
      assert.deepEqual(
        series
          .map((row) => [row['0020000E']!.Value![0], row['00080060']!.Value![0], row['00201209']!.Value![0]])
          .sort(),
        [
          [ward.series[0][0]!.series, 'CT', 3],
          [ward.series[1][0]!.series, 'MR', 2],
        ].sort(),
      );
      for (const part of ward.series) {
        const { series: uid } = part[0]!;
        const rows = await both('IMAGE', `/studies/${study}/series/${uid}/instances`, {
          ...studyKey(0),
          '0020000E': { vr: 'UI', Value: [uid] },
          ...asked(['00080018', 'UI'], ['00080016', 'UI'], ['00200013', 'IS'], ['00280010', 'US'], ['00280011', 'US']),
        });
        assert.deepEqual(values(rows, '00080018'), part.map(({ sop }) => sop).sort());
      }
    });

    test('what matches and what does not: wildcards, ranges, lists, modalities', async () => {
      const [big, late] = ward.studies.map(([one]) => one!.study) as [string, string];
      const table: [keys: Keys, found: string[]][] = [
        [{ '00100010': { vr: 'PN', Value: [`scenario^${ward.patient.name.slice(9, 17)}*`] } }, [big, late]],
        [{ '00100010': { vr: 'PN', Value: [`${ward.patient.name.slice(0, -1)}?`] } }, [big, late]],
        [{ '00100010': { vr: 'PN', Value: [`${ward.patient.name}X`] } }, []],
        [{ ...patientKey(), '00080020': { vr: 'DA', Value: ['20240101-20240301'] } }, [big]],
        [{ ...patientKey(), '00080020': { vr: 'DA', Value: ['20240301-'] } }, [late]],
        [{ ...patientKey(), '00080061': { vr: 'CS', Value: ['MR'] } }, [big]],
        [{ ...patientKey(), '00080050': { vr: 'SH', Value: ['ACC-1'] } }, [big]],
        [{ ...patientKey(), '00080050': { vr: 'SH', Value: ['ACC-2'] } }, []],
        [{ ...patientKey(), '00081030': { vr: 'LO', Value: ['*and*'] } }, [big]],
        [{ '0020000D': { vr: 'UI', Value: [big, late] } }, [big, late]],
        [{ '0020000D': { vr: 'UI', Value: [`${big}.1`] } }, []],
      ];
      for (const [keys, found] of table) {
        const rows = await both('STUDY', '/studies', {
          ...keys,
          ...('0020000D' in keys ? {} : asked(['0020000D', 'UI'])),
        });
        assert.deepEqual(values(rows, '0020000D'), [...found].sort(), JSON.stringify(keys));
      }
    });

    test('pages by cursor cover each study once, while others are stored', async () => {
      const { dimse, web } = the();
      const patient = newPatient();
      const sent = Array.from({ length: 25 }, () => the().make({ patient }));
      await dimse.store(sent);
      const parameters = { PatientID: patient.id, limit: '4' };
      await eventually('25 studies', async () => (await web.qido('/studies', { PatientID: patient.id })).length === 25);
      const seen: string[] = [];
      let pages = 0;
      for (let cursor: string | undefined; ; pages++) {
        const query = new URLSearchParams({ ...parameters, ...(cursor === undefined ? {} : { cursor }) });
        const { status, headers, body } = await web.get(`/studies?${query}`, 'application/dicom+json');
        assert.equal(status, 200, body.toString());
        const rows = JSON.parse(body.toString()) as JsonDataSet[];
        assert.ok(rows.length <= 4);
        seen.push(...values(rows, '0020000D'));
        await dimse.store([the().make({ patient })]);
        cursor = headers['x-next-cursor'] as string | undefined;
        if (cursor === undefined) break;
      }
      assert.ok(pages >= 6);
      assert.equal(new Set(seen).size, seen.length, 'a study came twice');
      const missing = sent.filter(({ study }) => !seen.includes(study));
      assert.deepEqual(missing.length, 0, 'a study never came');
    });
  });
}

/**
 * How long questions take: `node services/index/search/measure.testing.ts [studies]` (100,000 by default; builds an index in the
 * temporary directory once, and asks it). Numbers of record: adr/0043.
 */
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tag } from '#dicom/tags.ts';
import { SearchRequest } from '#proto/index/v1/index.ts';
import { Entry, TableOfContents } from '#proto/storage/v1/log.ts';
import { bindReader } from '../adapters/sqlite/reader.ts';
import { INDEX_VERSION, openIndex, prepareIndex } from '../adapters/sqlite/schema.ts';
import { SqliteSearchStore } from '../adapters/sqlite/search-store.ts';
import { IndexWriter } from '../adapters/sqlite/writer.ts';
import { describeFake, fakeInstance, stampOf } from '../fold/history.testing.ts';
import type { JsonAttributes } from '../fold/types.ts';
import { runSearch } from './search.ts';

const STUDIES = Number(process.argv[2] ?? 100_000);
const FAMILIES = ['DOE', 'SMITH', 'MÜLLER', 'GARCIA', 'YAMADA', 'ROE', 'BROWN', 'JONES', 'MEYER', 'KOWALSKI'];
const MODALITIES = ['CT', 'MR', 'US', 'CR', 'DX', 'MG', 'PT', 'XA'];
const LANE = '01AAAAAAAAAAAAAAAAAAAAAAAA';
const COMMIT = 1000;

function build(path: string): void {
  const db = openIndex(path);
  prepareIndex(db, { policy: 'keep-first' });
  const writer = new IndexWriter(db, { policy: 'keep-first', describe: describeFake });
  for (let sequence = 1; (sequence - 1) * COMMIT < STUDIES; sequence++) {
    const entries = Array.from({ length: COMMIT }, (_, n) => {
      const value = study((sequence - 1) * COMMIT + n);
      return Entry.fromPartial({ n, stamp: stampOf(1000 + sequence, n), kind: { $case: 'instance', value } });
    });
    const toc = { formatVersion: 1, tenant: 'main', lane: LANE, sequence, entries };
    writer.fold('main', [{ lane: LANE, sequence, tableOfContents: TableOfContents.encode(toc).finish() }]);
  }
  db.close();
}

function study(i: number) {
  const uid = `1.2.840.99.${i}`;
  const one = {
    study: uid,
    series: `${uid}.1`,
    sop: `${uid}.1.1`,
    bytes: 1,
    patientId: `P${i % (STUDIES / 2)}`,
    patientName: `${FAMILIES[i % 10]}${(i * 7919) % 5000}^PAT${i % 977}`,
    accession: `ACC${i}`,
    modality: MODALITIES[i % 8]!,
  };
  const instance = fakeInstance(one, { object: 'log/x', offset: i, length: 1 });
  const head = JSON.parse(instance.head.toString()) as { attributes: JsonAttributes };
  const day = new Date(Date.UTC(2010, 0, 1) + ((i * 104_729) % 5800) * 86_400_000);
  Object.assign(head.attributes, {
    '00080020': { vr: 'DA', Value: [day.toISOString().slice(0, 10).replaceAll('-', '')] },
    '00080030': { vr: 'TM', Value: [`${String(i % 24).padStart(2, '0')}1500`] },
    '00080090': { vr: 'PN', Value: [{ Alphabetic: `REF^${i % 50}` }] },
    '00081030': { vr: 'LO', Value: [`CHEST ${i % 100}`] },
    '00100030': { vr: 'DA', Value: ['19700101'] },
    '00100040': { vr: 'CS', Value: ['M'] },
    '00200010': { vr: 'SH', Value: [String(i)] },
  });
  return { ...instance, head: Buffer.from(JSON.stringify(head)) };
}

const path = join(tmpdir(), `gantry-measure-${INDEX_VERSION}-${STUDIES}.sqlite`);
if (!existsSync(path)) build(path);
const db = openIndex(path, { readOnly: true });
const store = new SqliteSearchStore(bindReader(db, tmpdir()));

let question = 0;
function measure(
  name: string,
  given: Parameters<typeof SearchRequest.fromPartial>[0],
  runs = 30,
  remembered = false,
): void {
  const times: number[] = [];
  let rows = 0;
  for (let run = 0; run < runs; run++) {
    // Another question each time, to those who remember answers.
    const salt = remembered ? '' : String(question++);
    const request = SearchRequest.fromPartial({
      level: 'STUDY',
      limit: 100,
      retrieveUrlRoot: 'http://h/dicom-web',
      defaultCharset: salt,
      ...given,
    });
    const start = performance.now();
    rows = 0;
    for (const row of inTransaction(request)) if (row) rows++;
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  const ms = (at: number) => times[Math.floor(at * (runs - 1))]!.toFixed(2).padStart(8);
  process.stdout.write(`${name.padEnd(44)} ${String(rows).padStart(6)} rows  p50 ${ms(0.5)} ms  p99 ${ms(0.99)} ms\n`);
}
function* inTransaction(request: SearchRequest) {
  db.exec('BEGIN');
  yield* runSearch(store, 'main', request);
  db.exec('COMMIT');
}
const key = (tag: number, vr: string, ...values: string[]) => ({ path: [tag], vr, values });

measure('list', {}, 200);
measure('list, remembered', {}, 200, true);
measure(
  "OHIF's list",
  { limit: 101, include: [Tag.StudyDescription, Tag.Modality, Tag.ReferringPhysicianName, Tag.PatientBirthDate] },
  200,
);
measure('list, offset half-way', { offset: STUDIES / 2 });
measure('list of 10,000', { limit: 10_000 }, 5);
measure('PatientID', { match: [key(Tag.PatientID, 'LO', 'P77')] });
measure('PatientName DOE12*', { match: [key(Tag.PatientName, 'PN', 'DOE12*')] });
measure('PatientName *DOE* (a tenth of all)', { match: [key(Tag.PatientName, 'PN', '*DOE*')] });
measure('PatientName *ZZZ* (nobody)', { match: [key(Tag.PatientName, 'PN', '*ZZZ*')] });
measure('PatientName, fuzzy', { fuzzy: true, match: [key(Tag.PatientName, 'PN', 'mueller77')] }, 5);
measure('StudyDate, a day', { match: [key(Tag.StudyDate, 'DA', '20200101')] });
measure('StudyDate, a year', { match: [key(Tag.StudyDate, 'DA', '20120101-20121231')] });
measure('ModalitiesInStudy CT', { match: [key(Tag.ModalitiesInStudy, 'CS', 'CT')] });
measure('a year, CT, S*', {
  match: [
    key(Tag.StudyDate, 'DA', '20120101-20121231'),
    key(Tag.ModalitiesInStudy, 'CS', 'CT'),
    key(Tag.PatientName, 'PN', 'S*'),
  ],
});
measure('ordered by PatientName', { orderBy: [{ tag: Tag.PatientName, descending: false }] }, 5);
measure('PatientSex F (nobody, no index)', { match: [key(Tag.PatientSex, 'CS', 'F')] }, 3);
measure('series of a study', { level: 'SERIES', match: [key(Tag.StudyInstanceUID, 'UI', '1.2.840.99.777')] });
measure('all instances', { level: 'IMAGE' }, 10);
measure('an instance by UID', { level: 'IMAGE', match: [key(Tag.SOPInstanceUID, 'UI', '1.2.840.99.777.1.1')] });

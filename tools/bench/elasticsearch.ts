/**
 * By hand: what the index costs in Elasticsearch, and how fast it answers.
 *
 *     node tools/bench/elasticsearch.ts fold [instances]      throughput of the fold, bytes an instance on disk
 *     node tools/bench/elasticsearch.ts search [studies]      QIDO questions at that many studies
 *
 * ELASTICSEARCH_URL names a node; without it one is started (tools/servers, full JIT). Figures of record: SCALE.md.
 */
import { hash, randomBytes } from 'node:crypto';
import { Client } from '@elastic/elasticsearch';
import { SearchRequest, type SearchRow } from '../../proto/gen/gantry/index/v1/index.ts';
import { type Entry, TableOfContents } from '../../proto/gen/gantry/storage/v1/log.ts';
import { Documents } from '../../services/index/adapters/elasticsearch/documents-store.ts';
import { studyWrite } from '../../services/index/adapters/elasticsearch/folder.ts';
import { optionsOf } from '../../services/index/adapters/elasticsearch/options.testing.ts';
import { studyId } from '../../services/index/adapters/elasticsearch/schema.ts';
import { ElasticIndexStore } from '../../services/index/adapters/elasticsearch/store.ts';
import { disagrees, studyDoc } from '../../services/index/fold/levels.ts';
import type { JsonAttributes } from '../../services/index/fold/types.ts';
import { makeInstance } from '../../services/index/instances.testing.ts';
import { SEARCH_LIMITS } from '../../services/index/search/settings.ts';
import { patientOfStudy } from '../../services/index/state/study-docs.ts';
import { digestOf } from '../../services/shared/dicom/digest.ts';
import { Tag } from '../../services/shared/dicom/tags.ts';
import { startElasticsearch } from '../servers/index.ts';

const [what = 'fold', size] = process.argv.slice(2);
const say = (text: string): void => void process.stdout.write(`${text}\n`);
const servers = process.env.ELASTICSEARCH_URL ? undefined : await startElasticsearch({ heap: '2g', jit: 'full' });
const urls = servers?.urls ?? [process.env.ELASTICSEARCH_URL!];
const prefix = `bench-${randomBytes(3).toString('hex')}`;
const client = new Client({ nodes: urls, requestTimeout: 600_000 });
const store = new ElasticIndexStore(optionsOf(urls, prefix, { requestTimeoutMs: 120_000 }));
try {
  await store.find();
  if (what === 'fold') await fold(Number(size ?? 100_000));
  else await search(Number(size ?? 1_000_000));
} finally {
  await store.close();
  for (const index of Object.keys(await client.indices.get({ index: `${prefix}-*` })))
    await client.indices.delete({ index });
  await client.close();
  await servers?.close();
}

/** Synthetic CT studies, three series of 150, four associations at once, 64 instances a commit, 64 commits a fold. */
async function fold(total: number): Promise<void> {
  const lane = '01JD3Z5X0000000000000000AA';
  let made = 0;
  let sequence = 0;
  let offset = 0;
  const entryOf = (i: number, n: number): Entry => {
    const group = Math.floor(i / 1_800);
    const within = i % 1_800;
    const study = group * 4 + (within % 4);
    const k = Math.floor(within / 4);
    const series = Math.floor(k / 150);
    const number = (k % 150) + 1;
    const root = `1.2.840.113619.2.55.3.604688119.971.${1_700_000_000 + study}`;
    const { instance, file } = makeInstance({
      study: `${root}.1`,
      series: `${root}.2.${series}`,
      sop: `${root}.3.${series}.${number}.${hash('sha1', String(i), 'buffer').readUInt16BE(0)}`,
      number,
      patientId: `P${study}`,
      patientName: `Name${study}^First`,
      accession: `A${study}`,
    });
    const length = 524_000 + ((i * 7919) % 900);
    offset += length + 512;
    instance.place = {
      object: `log/main/${lane}/${String(Math.floor(i / 500)).padStart(16, '0')}.tar`,
      offset: offset % 268_435_456,
      length,
      encoding: 0,
    };
    instance.version = hash('sha256', `v${i}`, 'buffer');
    instance.digest = digestOf(file.subarray(0, instance.dataSetOffset), instance.version);
    const stamp = `${(1_790_000_000_000 + i * 2).toString(16).padStart(12, '0')}0000`;
    return { n, stamp, kind: { $case: 'instance', value: instance } };
  };
  let wallMs = 0;
  let cpuMs = 0;
  while (made < total) {
    const commits = [];
    for (let c = 0; c < 64 && made < total; c++) {
      const entries = Array.from({ length: 64 }, (_, n) => entryOf(made++, n));
      sequence++;
      const toc = { formatVersion: 1, tenant: 'main', lane, sequence, entries };
      commits.push({ lane, sequence, tableOfContents: TableOfContents.encode(toc).finish() });
    }
    const [began, before] = [performance.now(), process.cpuUsage()];
    await store.fold('main', commits);
    wallMs += performance.now() - began;
    const used = process.cpuUsage(before);
    cpuMs += (used.user + used.system) / 1_000;
  }
  say(
    `${made} instances: ${Math.round((made / wallMs) * 1_000)} instances/s, ${((cpuMs / made) * 1_000).toFixed(0)} µs CPU of the index role an instance, ${Math.round((made / cpuMs) * 1_000)} instances/s per core`,
  );
  await sizes(made, 'an instance');
}

async function sizes(count: number, of: string): Promise<void> {
  await client.indices.forcemerge({ index: `${prefix}-*`, max_num_segments: 1 });
  await client.indices.flush({ index: `${prefix}-*` });
  const { indices = {} } = await client.indices.stats({ index: `${prefix}-*`, metric: ['store', 'docs'] });
  let sum = 0;
  for (const [name, stats] of Object.entries(indices)) {
    const bytes = stats.primaries!.store!.size_in_bytes;
    sum += bytes;
    say(
      `  ${name.padEnd(40)} ${String(stats.primaries!.docs!.count).padStart(8)} documents ${(bytes / count).toFixed(1)} bytes ${of}`,
    );
  }
  say(`${(sum / count).toFixed(1)} bytes ${of} on disk, merged`);
}

async function search(total: number): Promise<void> {
  const families = ['DOE', 'SMITH', 'MÜLLER', 'GARCIA', 'YAMADA', 'ROE', 'BROWN', 'JONES', 'MEYER', 'KOWALSKI'];
  const modalities = ['CT', 'MR', 'US', 'CR', 'DX', 'MG', 'PT', 'XA'];
  const [studiesAlias] = Object.keys(await client.indices.getAlias({ name: `${prefix}-studies` }));
  const documents = new Documents(client, studiesAlias!.replace(/-studies-0$/, ''));
  const one = (i: number) => {
    const uid = `1.2.840.99.${i}`;
    const text = (vr: string, value: unknown) => ({ vr, Value: [value] });
    const day = new Date(Date.UTC(2010, 0, 1) + ((i * 104_729) % 5_800) * 86_400_000);
    const attributes: JsonAttributes = {
      '00080016': text('UI', '1.2.840.10008.5.1.4.1.1.2'),
      '00080020': text('DA', day.toISOString().slice(0, 10).replaceAll('-', '')),
      '00080030': text('TM', `${String(i % 24).padStart(2, '0')}1500`),
      '00080050': text('SH', `ACC${i}`),
      '00080060': text('CS', modalities[i % 8]),
      '00080090': text('PN', { Alphabetic: `REF^${i % 50}` }),
      '00081030': text('LO', `CHEST ${i % 100}`),
      '00100010': text('PN', { Alphabetic: `${families[i % 10]}${(i * 7_919) % 5_000}^PAT${i % 977}` }),
      '00100020': text('LO', `P${i % Math.ceil(total / 2)}`),
      '00100030': text('DA', '19700101'),
      '00100040': text('CS', 'M'),
      '00200010': text('SH', String(i)),
    };
    const order = `${i.toString(16).padStart(16, '0')}.x`;
    const parts = [{ order, attributes }];
    const doc = studyDoc(parts);
    const sums = { instances: 476, bytes: 1e8, trashInstances: 0, trashBytes: 0, conflicts: 0, compactable: 0 };
    return studyWrite({
      id: studyId('main', uid),
      at: undefined,
      source: {
        tenant: 'main',
        uid,
        patient: patientOfStudy(uid, doc).key,
        firstOrder: order,
        series: 3,
        ...sums,
        disagrees: disagrees(doc) ? 1 : 0,
        hold: false,
        changedMs: i,
        settled: 2,
        revision: 1,
        doc: JSON.stringify(doc),
        state: '',
      },
      state: {
        series: {
          [`${uid}.1`]: { revision: 1, firstOrder: order, number: '1', ...sums, parts, metadata: 'aa/bb/cc#1' },
        },
        controls: [],
        pending: {},
        former: [],
      },
    });
  };
  const began = performance.now();
  for (let from = 0; from < total; from += 5_000)
    await documents.write(Array.from({ length: Math.min(5_000, total - from) }, (_, n) => one(from + n)));
  await store.show();
  say(`${total} studies in ${Math.round((performance.now() - began) / 1_000)} s`);
  await sizes(total, 'a study');
  const key = (tag: number, vr: string, ...values: string[]) => ({ path: [tag], vr, values });
  let salt = 0;
  const measure = async (name: string, given: () => Parameters<typeof SearchRequest.fromPartial>[0], runs = 300) => {
    const times: number[] = [];
    let rows = 0;
    for (let run = -20; run < runs; run++) {
      const request = SearchRequest.fromPartial({
        level: 'STUDY',
        limit: 100,
        retrieveUrlRoot: 'http://h',
        ...given(),
      });
      const start = performance.now();
      rows = 0;
      for await (const _ of store.query<SearchRow>('search', { tenant: 'main', request, limits: SEARCH_LIMITS }))
        rows++;
      if (run >= 0) times.push(performance.now() - start);
    }
    times.sort((a, b) => a - b);
    const ms = (at: number) => times[Math.floor(at * (times.length - 1))]!.toFixed(1).padStart(7);
    say(`${name.padEnd(40)} ${String(rows).padStart(5)} rows  p50 ${ms(0.5)} ms  p99 ${ms(0.99)} ms`);
  };
  const next = (of: number) => (salt = (salt * 48_271 + 11) % of);
  await measure('list, newest 100', () => ({}));
  await measure('a worklist of 25', () => ({ limit: 25 }));
  await measure('PatientID', () => ({ match: [key(Tag.PatientID, 'LO', `P${next(total / 2)}`)] }));
  await measure('AccessionNumber', () => ({ match: [key(Tag.AccessionNumber, 'SH', `ACC${next(total)}`)] }));
  await measure('PatientName DOE12*', () => ({ match: [key(Tag.PatientName, 'PN', `DOE${10 + next(80)}*`)] }));
  await measure('StudyDate, a day', () => ({
    match: [key(Tag.StudyDate, 'DA', `201${next(9)}0${1 + next(8)}1${next(9)}`)],
  }));
  await measure('a month, CT', () => ({
    match: [key(Tag.StudyDate, 'DA', `201${next(9)}0101-201${next(9)}0131`), key(Tag.ModalitiesInStudy, 'CS', 'CT')],
  }));
  await measure('ModalitiesInStudy CT', () => ({ match: [key(Tag.ModalitiesInStudy, 'CS', 'CT')] }));
  await measure('PatientName *DOE* (a tenth)', () => ({ match: [key(Tag.PatientName, 'PN', '*DOE*')] }), 30);
  await measure('PatientName, fuzzy', () => ({ fuzzy: true, match: [key(Tag.PatientName, 'PN', 'mueller77')] }), 30);
  await measure('ordered by PatientName', () => ({ orderBy: [{ tag: Tag.PatientName, descending: false }] }), 30);
  await measure('list of 10,000', () => ({ limit: 10_000 }), 5);
  await measure('list, offset half-way', () => ({ offset: Math.floor(total / 2) }), 3);
}

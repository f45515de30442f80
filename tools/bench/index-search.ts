/**
 * By hand: how fast the index in Elasticsearch answers QIDO-like questions about studies.
 *
 *     node tools/bench/index-search.ts [--studies 1000000] [--clients 1,8] [--questions 400] [--dir DIR]
 *
 * Studies are documents as the fold writes them (`studyWrite`), of one to five series each. DIR keeps a node's data, so that a second run only asks.
 * ELASTICSEARCH_URL names a node; without it one is started (tools/servers, full JIT, 2 GB of heap). Figures of record: SCALE.md.
 */

import { parseArgs } from 'node:util';
import { Client } from '@elastic/elasticsearch';
import { Tag } from '#dicom/tags.ts';
import { SearchRequest, type SearchRow } from '../../proto/gen/gantry/index/v1/index.ts';
import { Documents } from '../../services/index/adapters/elasticsearch/documents-store.ts';
import { optionsOf } from '../../services/index/adapters/elasticsearch/options.testing.ts';
import { studyId } from '../../services/index/adapters/elasticsearch/schema.ts';
import { ElasticIndexStore } from '../../services/index/adapters/elasticsearch/store.ts';
import { studyWrite } from '../../services/index/adapters/elasticsearch/study.ts';
import { disagrees, studyDoc } from '../../services/index/fold/levels.ts';
import type { JsonAttributes } from '../../services/index/fold/types.ts';
import { SEARCH_LIMITS } from '../../services/index/search/settings.ts';
import { patientOfStudy } from '../../services/index/state/study-docs.ts';
import { startElasticsearch } from '../servers/index.ts';
import { patientIdOf, TENANT } from './log-entries.ts';

const { values } = parseArgs({
  options: {
    studies: { type: 'string', default: '1000000' },
    clients: { type: 'string', default: '1,8' },
    questions: { type: 'string', default: '400' },
    dir: { type: 'string' },
    'load-only': { type: 'boolean', default: false },
  },
});
const total = Number(values.studies);
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const PREFIX = 'bench';
const FAMILIES = ['DOE', 'SMITH', 'MÜLLER', 'GARCIA', 'YAMADA', 'ROE', 'BROWN', 'JONES', 'MEYER', 'KOWALSKI'];
const MODALITIES = ['CT', 'MR', 'US', 'CR', 'DX', 'MG', 'PT', 'XA'];

const dayOf = (i: number): Date => new Date(Date.UTC(2010, 0, 1) + ((i * 104_729) % 5_800) * 86_400_000);
const da = (day: Date): string => day.toISOString().slice(0, 10).replaceAll('-', '');

function study(i: number) {
  const uid = `1.2.840.113619.2.55.3.604688119.971.${1_900_000_000 + i}.1`;
  const text = (vr: string, value: unknown) => ({ vr, Value: [value] });
  const attributes: JsonAttributes = {
    '00080016': text('UI', '1.2.840.10008.5.1.4.1.1.2'),
    '00080020': text('DA', da(dayOf(i))),
    '00080030': text('TM', `${String(i % 24).padStart(2, '0')}${String(i % 60).padStart(2, '0')}00`),
    '00080050': text('SH', `ACC${i}`),
    '00080060': text('CS', MODALITIES[i % 8]),
    '00080090': text('PN', { Alphabetic: `REF^${i % 50}` }),
    '00081030': text('LO', `CHEST ${i % 100}`),
    '00100010': text('PN', { Alphabetic: `${FAMILIES[i % 10]}${(i * 7_919) % 5_000}^PAT${i % 977}` }),
    '00100020': text('LO', patientIdOf(i)),
    '00100030': text('DA', '19700101'),
    '00100040': text('CS', 'M'),
    '00200010': text('SH', String(i)),
  };
  const sums = { instances: 476, bytes: 1e8, trashInstances: 0, trashBytes: 0, conflicts: 0, compactable: 0 };
  const series = 1 + (i % 5);
  const firstOrder = `${i.toString(16).padStart(16, '0')}.x`;
  const parts = [{ order: firstOrder, attributes }];
  const doc = studyDoc(parts);
  return studyWrite({
    id: studyId(TENANT, uid),
    at: undefined,
    source: {
      tenant: TENANT,
      uid,
      patient: patientOfStudy(uid, doc).key,
      firstOrder,
      series,
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
      series: Object.fromEntries(
        Array.from({ length: series }, (_, n) => [
          `${uid}.${n}`,
          { revision: 1, firstOrder, number: String(n), ...sums, parts, metadata: `${'ab/cd/'.padEnd(42, '0')}.gmo#1` },
        ]),
      ),
      controls: [],
      pending: {},
      former: [],
    },
  });
}

const url = process.env.ELASTICSEARCH_URL;
const servers = url
  ? undefined
  : await startElasticsearch({ heap: '2g', jit: 'full', ...(values.dir ? { dir: values.dir } : {}) });
const urls = servers?.urls ?? [url!];
const client = new Client({ nodes: urls, requestTimeout: 600_000 });
const store = new ElasticIndexStore(optionsOf(urls, PREFIX, { requestTimeoutMs: 120_000 }));
try {
  await store.find();
  await load();
  if (!values['load-only']) for (const clients of values.clients.split(',').map(Number)) await ask(clients);
} finally {
  await store.close();
  if (!values.dir)
    for (const index of Object.keys(await client.indices.get({ index: `${PREFIX}-*` })))
      await client.indices.delete({ index });
  await client.close();
  await servers?.close();
}

async function load(): Promise<void> {
  const [index] = Object.keys(await client.indices.getAlias({ name: `${PREFIX}-studies` }));
  const documents = new Documents(client, index!.replace(/-studies-0$/, ''));
  await client.cluster.health({ index: index!, wait_for_status: 'yellow', timeout: '10m' });
  let there = (await client.count({ index: index! })).count;
  const began = performance.now();
  const shape = (refresh_interval: string, durability: 'async' | 'request') =>
    client.indices.putSettings({ index: index!, settings: { index: { refresh_interval, translog: { durability } } } });
  await shape('-1', 'async');
  const writer = async (): Promise<void> => {
    while (there < total) {
      const from = there;
      there = Math.min(total, there + 2_500);
      await documents.write(Array.from({ length: there - from }, (_, n) => study(from + n)));
      if (from % 100_000 === 0) say(`  ${from} after ${Math.round((performance.now() - began) / 1_000)} s`);
    }
  };
  await Promise.all([writer(), writer(), writer()]);
  await shape('1s', 'request');
  await store.show();
  await client.indices.flush({ index: index! });
  const { _all } = await client.indices.stats({ index: index!, metric: ['store', 'segments'] });
  say(
    `${there} studies, ${(_all!.primaries!.store!.size_in_bytes / there).toFixed(0)} bytes each in ${_all!.primaries!.segments!.count} segments`,
  );
}

interface Question {
  name: string;
  /** Of a hundred. */
  share: number;
  ask(next: (of: number) => number): Parameters<typeof SearchRequest.fromPartial>[0];
}

async function ask(clients: number): Promise<void> {
  const key = (tag: number, vr: string, ...given: string[]) => ({ path: [tag], vr, values: given });
  const cursors: string[] = [];
  const questions: Question[] = [
    { name: 'first page, newest 100', share: 25, ask: () => ({}) },
    {
      name: 'next page by cursor',
      share: 10,
      ask: (next) => ({ cursor: cursors.length > 0 ? cursors[next(cursors.length)]! : '' }),
    },
    {
      name: 'PatientID',
      share: 20,
      ask: (next) => ({ match: [key(Tag.PatientID, 'LO', patientIdOf(next(total)))] }),
    },
    {
      name: 'AccessionNumber',
      share: 20,
      ask: (next) => ({ match: [key(Tag.AccessionNumber, 'SH', `ACC${next(total)}`)] }),
    },
    {
      name: 'a day and a modality',
      share: 15,
      ask: (next) => ({
        match: [
          key(Tag.StudyDate, 'DA', da(dayOf(next(5_800)))),
          key(Tag.ModalitiesInStudy, 'CS', MODALITIES[next(8)]!),
        ],
      }),
    },
    {
      name: 'PatientName DOE12*',
      share: 10,
      ask: (next) => ({ match: [key(Tag.PatientName, 'PN', `${FAMILIES[next(10)]}${10 + next(490)}*`)] }),
    },
  ];
  const times = new Map<string, number[]>();
  const rows = new Map<string, number>();
  const run = async (seed: number, count: number, keep: boolean): Promise<void> => {
    let salt = seed;
    const next = (of: number): number => {
      salt = (salt * 48_271) % 0x7fffffff;
      return salt % of;
    };
    for (let asked = 0; asked < count; asked++) {
      let share = next(100);
      const question = questions.find((one) => (share -= one.share) < 0)!;
      const request = SearchRequest.fromPartial({
        level: 'STUDY',
        limit: 100,
        retrieveUrlRoot: 'http://h',
        ...question.ask(next),
      });
      const began = performance.now();
      let found = 0;
      let last: SearchRow | undefined;
      for await (const row of store.query<SearchRow>('search', { tenant: TENANT, request, limits: SEARCH_LIMITS })) {
        found++;
        last = row;
      }
      const ms = performance.now() - began;
      if (last?.more) cursors[cursors.length % 200] = last.cursor;
      if (!keep) continue;
      for (const name of [question.name, 'all']) {
        times.set(name, [...(times.get(name) ?? []), ms]);
        rows.set(name, (rows.get(name) ?? 0) + found);
      }
    }
  };
  const per = Math.ceil(Number(values.questions) / clients);
  await run(7, 200, false);
  const [began, cpu] = [performance.now(), process.cpuUsage()];
  await Promise.all(Array.from({ length: clients }, (_, n) => run(1_000 + n * 7_919, per, true)));
  const used = process.cpuUsage(cpu);
  const count = per * clients;
  say(
    `${clients} client${clients > 1 ? 's' : ''}: ${Math.round(count / ((performance.now() - began) / 1_000))} questions/s, ${((used.user + used.system) / 1_000 / count).toFixed(2)} ms of CPU of the index role each`,
  );
  for (const [name, all] of times) {
    all.sort((a, b) => a - b);
    const ms = (at: number): string => all[Math.floor(at * (all.length - 1))]!.toFixed(1).padStart(7);
    say(
      `  ${name.padEnd(26)} ${String(all.length).padStart(5)} times ${(rows.get(name)! / all.length).toFixed(1).padStart(6)} rows  p10 ${ms(0.1)}  p50 ${ms(0.5)}  p90 ${ms(0.9)}  p99 ${ms(0.99)} ms`,
    );
  }
}

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { Tag, tagOf } from '#dicom/tags.ts';
import { GantryError } from '#platform/errors.ts';
import { SearchRequest, type SearchRow } from '#proto/index/v1/index.ts';
import { type ElasticsearchNodes, startElasticsearch } from '../../../../tools/servers/index.ts';
import { anyQuestion } from '../../search/any-question.testing.ts';
import { TestArchive } from '../../search/matching-archive.testing.ts';
import { INSTANCES, keysOfCase, MATCHING_CASES } from '../../search/matching-cases.ts';
import { SEARCH_LIMITS } from '../../search/settings.ts';
import { optionsOf } from './options.testing.ts';
import { ElasticIndexStore } from './store.ts';

/** The matching table, and whatever else may be asked: Elasticsearch answers what SQLite answers, byte for byte and in the same order. */
const sqlite = new TestArchive();
sqlite.store(INSTANCES);
let servers: ElasticsearchNodes;
let elastic: ElasticIndexStore;

before(async () => {
  servers = await startElasticsearch();
  elastic = new ElasticIndexStore(optionsOf(servers.urls, `t${randomBytes(4).toString('hex')}`));
  for (const commit of sqlite.commits) await elastic.fold('main', [commit]);
  await elastic.show();
});
after(async () => {
  await elastic?.close();
  await servers?.close();
});

type Given = Parameters<typeof SearchRequest.fromPartial>[0];

async function askElastic(given: Given, lookupMax = SEARCH_LIMITS.lookupMax): Promise<SearchRow[]> {
  const rows: SearchRow[] = [];
  const args = { tenant: 'main', request: SearchRequest.fromPartial(given), limits: { ...SEARCH_LIMITS, lookupMax } };
  for await (const row of elastic.query<SearchRow>('search', args)) rows.push(row);
  return rows;
}
const said = (rows: readonly SearchRow[]) =>
  rows.map((row) => ({ json: row.dataSetJson.toString(), conflict: row.conflict, more: row.more }));

async function same(given: Given): Promise<SearchRow[]> {
  let wanted: SearchRow[];
  try {
    wanted = sqlite.ask(SearchRequest.fromPartial(given));
  } catch (error) {
    const { code } = error as GantryError;
    await assert.rejects(askElastic(given), (other) => other instanceof GantryError && other.code === code);
    return [];
  }
  const rows = await askElastic(given);
  assert.deepEqual(said(rows), said(wanted));
  assert.deepEqual(said(await askElastic(given, -1)), said(wanted), 'nothing looked up');
  return rows;
}

for (const one of MATCHING_CASES)
  test(`Elasticsearch, ${one.level}: ${one.name}`, async () => {
    const request = { level: one.level, match: keysOfCase(one), ...one.options };
    await same(request);
    await same({ ...request, orderBy: [{ tag: Tag.PatientName, descending: true }] });
  });

const key = (keyword: string, vr: string, ...values: string[]) => ({ path: [tagOf(keyword)!], vr, values });

test('Elasticsearch: rows with everything, with what only headers know, with what is above', async () => {
  for (const level of ['PATIENT', 'STUDY', 'SERIES', 'IMAGE']) {
    await same({ level, includeAll: true, studyDefaults: true, retrieveUrlRoot: 'http://h/dicom-web' });
    await same({
      level,
      include: [tagOf('SliceThickness')!, tagOf('ImageType')!, Tag.NumberOfPatientRelatedStudies],
      includePaths: [{ tags: [0x00400275, 0x00401001] }],
    });
  }
});

test('Elasticsearch: pages by cursor and by offset are the rows of the whole answer', async () => {
  const orders: Given[] = [
    {},
    { orderBy: [{ tag: Tag.PatientName, descending: false }] },
    { orderBy: [{ tag: tagOf('PatientWeight')!, descending: false }] },
    { match: [key('PatientName', 'PN', '*')] },
    { match: [key('StudyDate', 'DA', '20200101-20200430')] },
  ];
  for (const level of ['PATIENT', 'STUDY', 'SERIES', 'IMAGE'])
    for (const order of orders) {
      if (level === 'PATIENT' && order.orderBy?.[0]?.tag === tagOf('PatientWeight')) continue;
      const whole = (await same({ level, ...order })).map((row) => row.dataSetJson.toString());
      for (const limit of [1, 3]) {
        const pages: string[] = [];
        const byOffset: string[] = [];
        for (let cursor = ''; ; ) {
          const rows = await askElastic({ level, limit, cursor, ...order });
          pages.push(...rows.map((row) => row.dataSetJson.toString()));
          if (!rows.at(-1)?.more) break;
          cursor = rows.at(-1)!.cursor;
        }
        for (let offset = 0; offset < whole.length; offset += limit)
          byOffset.push(
            ...(await askElastic({ level, limit, offset, ...order })).map((row) => row.dataSetJson.toString()),
          );
        assert.deepEqual(pages, whole, `${level} by cursor`);
        assert.deepEqual(byOffset, whole, `${level} by offset`);
      }
    }
});

test('Elasticsearch: any question', async () => {
  await fc.assert(
    fc.asyncProperty(anyQuestion, async (question) => void (await same(question))),
    { numRuns: 150 },
  );
});

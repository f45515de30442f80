import { hash } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeHead, skim } from '#dicom/skim.ts';
import { hexOf, parseAttributePath } from '#dicom/tags.ts';
import { encodeDataSet } from '#dicom/write.ts';
import type { SearchRequest, SearchRow } from '#proto/index/v1/index.ts';
import { Entry, type Instance, TableOfContents } from '#proto/storage/v1/log.ts';
import { bindReader } from '../adapters/sqlite/reader.ts';
import type { Database } from '../adapters/sqlite/schema.ts';
import { openIndex, prepareIndex } from '../adapters/sqlite/schema.ts';
import { SqliteSearchStore } from '../adapters/sqlite/search-store.ts';
import { IndexWriter } from '../adapters/sqlite/writer.ts';
import type { RawCommit } from '../fold/commit.ts';
import { describe } from '../fold/describe.ts';
import type { VersionPolicy } from '../fold/types.ts';
import { type CaseInstance, uidOf } from './matching-cases.ts';
import { runSearch } from './search.ts';
import { SEARCH_LIMITS, type SearchLimits } from './settings.ts';

const EXPLICIT = '1.2.840.10008.1.2.1';
const LANE = '01AAAAAAAAAAAAAAAAAAAAAAAA';

/** The data set of a case, its text in the character set that it names: what a modality would send. */
export function dataSetOfCase(one: CaseInstance): Buffer {
  const model: Record<string, { vr: string; Value?: unknown[] }> = {
    '00080018': { vr: 'UI', Value: [uidOf(one.instance)] },
    '0020000D': { vr: 'UI', Value: [uidOf(one.study)] },
    '0020000E': { vr: 'UI', Value: [uidOf(one.series)] },
  };
  for (const [keyword, attribute] of Object.entries(one.attributes))
    model[hexOf(parseAttributePath(keyword)![0]!)] = attribute;
  if (one.charset.length > 0) model['00080005'] = { vr: 'CS', Value: one.charset.map((term) => term || null) };
  const sorted = Object.fromEntries(Object.entries(model).sort(([a], [b]) => (a < b ? -1 : 1)));
  return encodeDataSet(sorted as Parameters<typeof encodeDataSet>[0], {
    transferSyntaxUid: EXPLICIT,
    charset: one.charset,
  });
}

/** An index of its own, filled through the fold. */
export class TestArchive {
  readonly db: Database;
  readonly writer: IndexWriter;
  readonly search: SqliteSearchStore;
  /** Of tenant main, for other stores to fold. */
  readonly commits: RawCommit[] = [];
  readonly #sequences = new Map<string, number>();

  constructor(options: { path?: string; policy?: VersionPolicy } = {}) {
    const { path = ':memory:', policy = 'keep-first' } = options;
    this.db = openIndex(path);
    prepareIndex(this.db, { policy });
    this.writer = new IndexWriter(this.db, { policy, describe });
    this.search = new SqliteSearchStore(bindReader(this.db, mkdtempSync(join(tmpdir(), 'gantry-search-'))));
  }

  ask(request: SearchRequest, tenant = 'main', limits: SearchLimits = SEARCH_LIMITS): SearchRow[] {
    const rows: SearchRow[] = [];
    // One state from the first row to the last.
    this.db.exec('BEGIN');
    try {
      for (const row of runSearch(this.search, tenant, request, limits))
        if (row !== undefined && !(row instanceof Promise)) rows.push(row);
    } finally {
      this.db.exec('COMMIT');
    }
    return rows;
  }

  store(cases: readonly CaseInstance[], tenant = 'main'): void {
    this.fold(
      cases.map((one) =>
        this.instance(
          one.study,
          one.series,
          one.instance,
          String(one.attributes.SOPClassUID?.Value?.[0]),
          dataSetOfCase(one),
        ),
      ),
      tenant,
    );
  }

  instance(study: string, series: string, instance: string, sopClassUid: string, dataSet: Buffer): Instance {
    return {
      studyInstanceUid: uidOf(study),
      seriesInstanceUid: uidOf(series),
      sopInstanceUid: uidOf(instance),
      sopClassUid,
      transferSyntaxUid: EXPLICIT,
      version: hash('sha256', dataSet, 'buffer'),
      digest: hash('sha256', dataSet, 'buffer'),
      place: { object: 'log/main/x', offset: 0, length: dataSet.length, encoding: 0 },
      dataSetOffset: 132,
      head: encodeHead(skim(dataSet, EXPLICIT)),
      source: { door: 'DIMSE', callingAeTitle: 'T', calledAeTitle: 'GANTRY', address: '::1', defaultCharset: '' },
    };
  }

  fold(instances: readonly Instance[], tenant = 'main'): void {
    const sequence = (this.#sequences.get(tenant) ?? 0) + 1;
    this.#sequences.set(tenant, sequence);
    const entries = instances.map((value, n) =>
      Entry.fromPartial({
        n,
        stamp: (1000 + sequence).toString(16).padStart(12, '0') + n.toString(16).padStart(4, '0'),
        kind: { $case: 'instance', value },
      }),
    );
    const tableOfContents = TableOfContents.encode({
      formatVersion: 1,
      tenant,
      lane: LANE + tenant,
      sequence,
      entries,
    }).finish();
    const commit = { lane: LANE + tenant, sequence, tableOfContents };
    if (tenant === 'main') this.commits.push(commit);
    const result = this.writer.fold(tenant, [commit]);
    if (result.alarms.length > 0 || result.gaps.length > 0)
      throw new Error([...result.alarms, ...result.gaps].join('; '));
  }
}

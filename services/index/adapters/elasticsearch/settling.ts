import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@elastic/elasticsearch';
import type { VersionPolicy } from '../../fold/types.ts';
import { encodeMetadataObject } from '../../metadata/object.ts';
import type { MetadataReader } from '../../metadata/read.ts';
import type { DueStudy, SettlingStore } from '../../ports.ts';
import type { SeriesRow } from '../../questions/reader.ts';
import { later } from '../../questions/reading.ts';
import { sopHash } from '../../state/sop-hash.ts';
import { asked } from './client.ts';
import type { StudySource, StudyState } from './documents.ts';
import { Documents } from './documents-store.ts';
import type { ElasticFolder } from './folder.ts';
import type { Generation } from './generations.ts';
import type { HeadsCache } from './heads-cache.ts';
import type { ElasticReader } from './reader.ts';
import { studyWrite } from './study.ts';

/** The index as this process knows it. */
export interface Current {
  generation: Generation;
  documents: Documents;
  policy: VersionPolicy;
  folder: ElasticFolder;
  number: number;
  /** When other processes have seen, too, that it is the index; performance.now(). */
  knownMs: number;
}

const METADATA_PIECE = 8 * 2 ** 20;
const SETTLE_ATTEMPTS = 5;

/** What has arrived becomes what has settled: its headers one object a series, and what of it is in two places told. */
export class ElasticSettling implements SettlingStore {
  readonly #client: Client;
  /** Of the metadata index, which outlives generations. */
  readonly #metadata: string;
  readonly #kept: MetadataReader;
  readonly #heads: HeadsCache;
  readonly #now: () => Promise<Current>;
  readonly #reader: (current: Current) => ElasticReader;

  constructor(parts: {
    client: Client;
    metadata: string;
    kept: MetadataReader;
    heads: HeadsCache;
    now: () => Promise<Current>;
    reader: (current: Current) => ElasticReader;
  }) {
    this.#client = parts.client;
    this.#metadata = parts.metadata;
    this.#kept = parts.kept;
    this.#heads = parts.heads;
    this.#now = parts.now;
    this.#reader = parts.reader;
  }

  async due(beforeMs: number, limit: number): Promise<DueStudy[]> {
    const { documents, number } = await this.#now();
    await documents.refresh('studies');
    const { hits } = await asked('looking for studies to settle', () =>
      this.#client.search<StudySource>({
        index: documents.name('studies'),
        allow_partial_search_results: false,
        size: Math.min(limit, 10_000),
        _source: ['tenant', 'uid', 'settled', 'revision'],
        query: { bool: { filter: [{ range: { settled: { lt: 2 } } }, { range: { changedMs: { lte: beforeMs } } }] } },
        sort: [{ settled: 'desc' }, { changedMs: 'asc' }],
      }),
    );
    // What is due as it was found here was written, series and blocks first, before they are refreshed now: once for all of them.
    if (hits.hits.some((hit) => hit._source!.settled === 0)) await documents.refresh('series', 'blocks');
    return hits.hits.map((hit): DueStudy => {
      const { tenant, uid, settled, revision } = hit._source!;
      return { generation: number, tenant, study: hit._id!, studyInstanceUid: uid, settled, revision };
    });
  }

  async announced(study: DueStudy): Promise<void> {
    await this.#mark(study, (source) => source.settled === 1, 2);
  }

  async giveHeads(tenant: string, commits: Parameters<SettlingStore['giveHeads']>[1]): Promise<void> {
    this.#heads.keep(tenant, commits);
  }

  async settle(study: DueStudy): Promise<boolean> {
    const current = await this.#now();
    if (study.generation !== current.number) return false;
    const reader = this.#reader(current);
    const row = await later(reader.study(study.tenant, study.studyInstanceUid));
    if (!row) return false;
    const series = await later(reader.seriesOfStudy(row));
    const names = new Map<string, string>();
    const replaced: string[] = [];
    const pieces: { id: string; data: Buffer }[] = [];
    for (const one of series) {
      const { name, records } = await later(this.#kept.plan(reader, one));
      const [before = ''] = one.metadata.split('#');
      if (before !== '' && before !== name) replaced.push(one.metadata);
      if (name === '' || before === name) {
        names.set(one.seriesInstanceUid, name === '' ? '' : one.metadata);
        continue;
      }
      const data = encodeMetadataObject(await later(this.#kept.entries(reader, one, records)));
      const count = Math.ceil(data.length / METADATA_PIECE);
      for (let n = 0; n < count; n++)
        pieces.push({ id: `${name}/${n}`, data: data.subarray(n * METADATA_PIECE, (n + 1) * METADATA_PIECE) });
      names.set(one.seriesInstanceUid, `${name}#${count}`);
    }
    await this.#keep(study.tenant, pieces);
    await this.#shareSops(current, reader, study.tenant, series);
    const revisions = new Map(series.map((one) => [one.seriesInstanceUid, one.revision]));
    const done = await this.#mark(
      study,
      // One that grew since it was due may share instances with what grew at the same time: it is due again, and looked at then.
      ({ revision }, state) =>
        revision === study.revision &&
        Object.entries(state.series).every(([uid, summary]) => revisions.get(uid) === summary.revision),
      1,
      (state) => {
        for (const [uid, name] of names) state.series[uid]!.metadata = name;
      },
    );
    if (done)
      for (const one of replaced) {
        const [name = '', count = '0'] = one.split('#');
        for (let n = 0; n < Number(count); n++)
          await this.#client.delete({ index: this.#metadata, id: `${name}/${n}` }, { ignore: [404] });
      }
    return done;
  }

  async #keep(tenant: string, pieces: readonly { id: string; data: Buffer }[]): Promise<void> {
    for (let from = 0; from < pieces.length; ) {
      const operations: object[] = [];
      for (let bytes = 0; from < pieces.length && bytes < METADATA_PIECE; from++) {
        const { id, data } = pieces[from]!;
        operations.push({ index: { _id: id } }, { tenant, data: data.toString('base64') });
        bytes += data.length;
      }
      await Documents.bulk(this.#client, 'writing metadata', { index: this.#metadata, operations });
    }
  }

  /** What one SOP Instance UID is in two places is told once both have settled: a look-up for each instance stored would be dear. */
  async #shareSops(
    { documents }: Current,
    reader: ElasticReader,
    tenant: string,
    series: readonly SeriesRow[],
  ): Promise<void> {
    const own = new Map<number, Set<string>>();
    for (const row of series)
      for (const { sopInstanceUid } of await later(reader.records(row))) {
        const hash = sopHash(tenant, sopInstanceUid);
        own.set(hash, (own.get(hash) ?? new Set()).add(row.seriesInstanceUid));
      }
    const hashes = [...own.keys()];
    const here = new Set(series.map((row) => `${row.studyInstanceUid} ${row.seriesInstanceUid}`));
    const elsewhere = (await reader.seriesOfSops(tenant, hashes)).some(
      (one) => !here.has(`${one.study} ${one.series}`),
    );
    const shared: number[] = [];
    for (const [hash, places] of own)
      if (places.size > 1 || (elsewhere && (await reader.seriesOfSops(tenant, [hash])).length > 1)) shared.push(hash);
    await documents.write(
      shared.map((hash) => ({
        index: 'state',
        id: `shared/${tenant}/${hash}`,
        source: { tenant, kind: 'shared', body: String(hash) },
        at: undefined,
      })),
    );
  }

  async #mark(
    study: DueStudy,
    holds: (source: StudySource, state: StudyState) => boolean,
    settled: number,
    change: (state: StudyState) => void = () => {},
  ): Promise<boolean> {
    for (let attempt = 0; attempt < SETTLE_ATTEMPTS; attempt++) {
      const { documents, number } = await this.#now();
      if (study.generation !== number) return false;
      const id = String(study.study);
      const found = await documents.one<StudySource>('studies', id);
      if (!found) return false;
      const state = JSON.parse(found.source.state) as StudyState;
      if (!holds(found.source, state)) return false;
      change(state);
      const source = { ...found.source, settled: Math.max(settled, found.source.settled) };
      const [done] = await documents.write([studyWrite({ id, at: found.at, source, state })]);
      if (done) return true;
      await sleep(Math.random() * 50);
    }
    return false;
  }
}

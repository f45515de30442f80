import type { Client, estypes } from '@elastic/elasticsearch';
import { GantryError } from '#platform/errors.ts';
import { Fenced } from '../../fence.ts';
import { asked } from './client.ts';
import type { IndexName } from './schema.ts';

/** Where a document stood when it was read: a write holds only there. Absent: there was none, and none may be. */
export interface At {
  seqNo: number;
  term: number;
}
export interface Found<T> {
  at: At;
  source: T;
}
export interface Write {
  index: IndexName;
  id: string;
  source: object;
  at: At | undefined;
}

/** Elasticsearch refuses bodies above 100 MB; eight keep its memory and ours small. */
const BULK_BYTES = 8 * 2 ** 20;
const IDS_AT_ONCE = 500;

/** The indices of one generation, by id. Their names are aliases: nothing that writes to them can bring a removed index back. */
export class Documents {
  readonly client: Client;
  readonly generation: string;

  constructor(client: Client, generation: string) {
    this.client = client;
    this.generation = generation;
  }

  name(index: IndexName): string {
    return `${this.generation}-${index}`;
  }

  /** Real-time: what was acknowledged is there. */
  async get<T>(index: IndexName, ids: Iterable<string>): Promise<Map<string, Found<T>>> {
    const found = new Map<string, Found<T>>();
    const all = [...new Set(ids)];
    for (let from = 0; from < all.length; from += IDS_AT_ONCE) {
      const ids = all.slice(from, from + IDS_AT_ONCE);
      for (const doc of await documentsOf<T>(this.client, this.name(index), ids))
        found.set(doc._id, { at: { seqNo: doc._seq_no!, term: doc._primary_term! }, source: doc._source! });
    }
    return found;
  }
  async one<T>(index: IndexName, id: string): Promise<Found<T> | undefined> {
    return (await this.get<T>(index, [id])).get(id);
  }

  /** Each by itself: where another process was faster, its place is undefined in the answer. */
  async write(writes: readonly Write[]): Promise<(At | undefined)[]> {
    const done: (At | undefined)[] = [];
    let operations: string[] = [];
    let bytes = 0;
    const flush = async (): Promise<void> => {
      if (operations.length === 0) return;
      const body = operations;
      operations = [];
      bytes = 0;
      done.push(...(await Documents.bulk(this.client, 'writing', { operations: body })));
    };
    for (const { index, id, source, at } of writes) {
      const _index = this.name(index);
      const head = at
        ? { index: { _index, _id: id, if_seq_no: at.seqNo, if_primary_term: at.term } }
        : { create: { _index, _id: id } };
      const text = JSON.stringify(source);
      operations.push(JSON.stringify(head), text);
      bytes += text.length;
      if (bytes >= BULK_BYTES) await flush();
    }
    await flush();
    return done;
  }

  /** Where each has been written; undefined: its condition did not hold. */
  static async bulk(
    client: Client,
    doing: string,
    request: { index?: string; operations: (string | object)[] },
  ): Promise<(At | undefined)[]> {
    const { items } = await asked(doing, () =>
      client.bulk({
        ...request,
        require_alias: true,
        filter_path: ['items.*.status', 'items.*._seq_no', 'items.*._primary_term', 'items.*.error.type'],
      }),
    );
    return items.map((item) => {
      const { status, error, _seq_no, _primary_term } = item.index ?? item.create!;
      if (status === 409) return undefined;
      if (status >= 300) throw refused(status, error?.type ?? '');
      return { seqNo: _seq_no!, term: _primary_term! };
    });
  }

  async delete(index: IndexName, ids: readonly string[]): Promise<void> {
    if (ids.length === 0) return;
    const operations = ids.map((_id) => ({ delete: { _index: this.name(index), _id } }));
    await asked('removing blocks', () => this.client.bulk({ operations, require_alias: true }));
  }

  async refresh(...indices: IndexName[]): Promise<void> {
    await asked('refreshing', () => this.client.indices.refresh({ index: indices.map((index) => this.name(index)) }));
  }
}

const refused = (status: number, type: string): Error => {
  if (status === 403 && type === 'cluster_block_exception') return new Fenced();
  return new GantryError(
    status === 429 || status >= 500 || status === 404 ? 'unavailable' : 'internal',
    `Elasticsearch answered ${status} (${type}) to a write of the index`,
  );
};

/** Those that are there. A shard that does not answer is not "not there". */
export async function documentsOf<T>(
  client: Client,
  index: string,
  ids: string[],
  without: string[] = [],
): Promise<estypes.GetGetResult<T>[]> {
  if (ids.length === 0) return [];
  const { docs } = await asked('reading', () =>
    client.mget<T>({ index, ids, ...(without.length > 0 ? { _source_excludes: without } : {}) }),
  );
  return docs.flatMap((doc) => {
    if ('error' in doc) {
      throw new GantryError('unavailable', `Elasticsearch could not read a document (${doc.error.type})`);
    }
    return doc.found ? [doc] : [];
  });
}

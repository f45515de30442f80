import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@elastic/elasticsearch';
import { GantryError } from '#platform/errors.ts';
import type {
  ConflictsRequest,
  EntriesRequest,
  FatesRequest,
  LocateRequest,
  MetadataRequest,
  SearchRequest,
  SettledRequest,
  TrashRequest,
} from '#proto/index/v1/index.ts';
import type { EntryId } from '#proto/storage/v1/log.ts';
import { Fenced } from '../../fence.ts';
import type { RawCommit } from '../../fold/commit.ts';
import { describe } from '../../fold/describe.ts';
import type { VersionPolicy } from '../../fold/types.ts';
import { MetadataReader } from '../../metadata/read.ts';
import { metadata } from '../../metadata/serve.ts';
import type { Folded, IndexStore, QueryOptions, Reached, Rebuilding, SettlingStore } from '../../ports.ts';
import { conflicts, entries, fates, locate, settled, trash } from '../../questions/queries.ts';
import { answers, type Rows } from '../../questions/reading.ts';
import { runSearch } from '../../search/search.ts';
import type { SearchLimits } from '../../search/settings.ts';
import { asked, connect, type ElasticOptions } from './client.ts';
import { Documents } from './documents-store.ts';
import { ElasticFolder } from './folder.ts';
import { type Generation, Generations, type IndexShape } from './generations.ts';
import { HeadsCache } from './heads-cache.ts';
import { ElasticReader } from './reader.ts';
import { ELASTIC_VERSION } from './schema.ts';
import { ElasticSearchStore } from './search-store.ts';
import { type Current, ElasticSettling } from './settling.ts';

export interface ElasticIndexOptions extends ElasticOptions, IndexShape {
  policy: VersionPolicy;
  queriesMax: () => number;
  queryIdleMs: () => number;
  metadataCacheBytes: number;
  /** Headers, from the log: what it reads is given to `giveHeads`. */
  readHeads?: (store: SettlingStore, tenant: string, entries: EntryId[]) => Promise<void>;
}

interface Args<Request> {
  tenant: string;
  request: Request;
}

const QUERIES: Record<string, (reader: ElasticReader, args: never) => Rows<unknown>> = {
  search: (reader, { tenant, request, limits }: Args<SearchRequest> & { limits: SearchLimits }) =>
    runSearch(new ElasticSearchStore(reader), tenant, request, limits),
  locate: ({ asked }, { tenant, request }: Args<LocateRequest>) => locate(asked, tenant, request),
  *counts(reader, { tenant }: Args<unknown>) {
    yield yield* reader.counts(tenant);
  },
  trash: ({ asked }, { tenant, request }: Args<TrashRequest>) => trash(asked, tenant, request.studyInstanceUid),
  conflicts: ({ asked }, { tenant, request }: Args<ConflictsRequest>) =>
    conflicts(asked, tenant, request.studyInstanceUid),
  entries: ({ asked }, { tenant, request }: Args<EntriesRequest>) => entries(asked, tenant, request),
  settled: ({ asked }, { tenant, request }: Args<SettledRequest>) => settled(asked, tenant, request),
  fates: ({ asked }, { tenant, request }: Args<FatesRequest>) => fates(asked, tenant, request),
  metadata: ({ asked }, { tenant, request }: Args<MetadataRequest>) => metadata(asked, tenant, request),
};

/** How long a process may not know that another has put an index in the place of this one. */
const LOOK_MS = 1_000;
/** Questions that run go on in the index in which they began; then it goes. */
const OLD_MS = 60_000;

/** The index in Elasticsearch, for any number of processes at once. */
export class ElasticIndexStore implements IndexStore {
  readonly #options: ElasticIndexOptions;
  readonly #client: Client;
  readonly #generations: Generations;
  readonly #kept: MetadataReader;
  readonly #heads: HeadsCache;
  readonly settling: SettlingStore;
  readonly #removals = new Map<NodeJS.Timeout, Generation>();
  #current: Current | undefined;
  #lookedMs = Number.NEGATIVE_INFINITY;
  #looking: Promise<Current> | undefined;
  #folding: Promise<unknown> = Promise.resolve();
  #number = 0;
  #queries = 0;
  #closed = false;
  #fresh = false;

  constructor(options: ElasticIndexOptions) {
    this.#options = options;
    this.#client = connect(options);
    this.#generations = new Generations(this.#client, options);
    this.#kept = new MetadataReader(options.metadataCacheBytes);
    this.#heads = new HeadsCache(options.metadataCacheBytes);
    this.settling = new ElasticSettling({
      client: this.#client,
      metadata: this.#generations.metadata,
      kept: this.#kept,
      heads: this.#heads,
      now: () => this.#now(),
      reader: (current) => this.#reader(current),
    });
  }

  /** Which index it is, asked again every second. */
  async #now(): Promise<Current> {
    if (this.#closed) throw new GantryError('unavailable', 'the index has stopped');
    if (this.#current && performance.now() - this.#lookedMs < LOOK_MS) return this.#current;
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #look(): Promise<Current> {
    const askedMs = performance.now();
    let generation = await this.#generations.current();
    if (!generation) {
      generation = await this.#generations.first(this.#options.policy);
      this.#fresh = true;
    }
    if (generation.version > ELASTIC_VERSION)
      throw new GantryError(
        'unavailable',
        `the index in Elasticsearch is of version ${generation.version}, which a newer release has made; this one knows ${ELASTIC_VERSION}, and neither folds nor answers`,
      );
    if (generation.version < ELASTIC_VERSION)
      throw new GantryError(
        'unavailable',
        `the index in Elasticsearch is of version ${generation.version}; it is built again as version ${ELASTIC_VERSION}, and processes of the release before answer meanwhile`,
      );
    this.#lookedMs = askedMs;
    if (this.#current?.generation.name === generation.name) return this.#current;
    const documents = new Documents(this.#client, generation.name);
    const policy = await this.#generations.policyOf(generation);
    const folder = new ElasticFolder(documents, { policy, describe });
    // Whoever saw the former a moment before it was replaced asks it for so long. The first replaces none.
    const knownMs = generation.n === 1 ? 0 : performance.now() + LOOK_MS;
    this.#current = { generation, documents, policy, folder, number: ++this.#number, knownMs };
    return this.#current;
  }

  /** Makes the first index, where there is none; says whether it is as this process wants it. */
  async find(): Promise<{ fresh: boolean; outdated: boolean }> {
    const generation = await this.#generations.current();
    if (generation && generation.version < ELASTIC_VERSION) return { fresh: false, outdated: true };
    const { policy } = await this.#now();
    return { fresh: this.#fresh, outdated: policy !== this.#options.policy };
  }

  async positions(tenant: string): Promise<Reached> {
    const { folder, number } = await this.#now();
    return { generation: number, positions: await folder.positions(tenant) };
  }

  async tenants(): Promise<string[]> {
    // Of whatever version: a rebuild asks whose log it is to read.
    const generation = (await this.#generations.current()) ?? (await this.#now()).generation;
    const documents = new Documents(this.#client, generation.name);
    await documents.refresh('state');
    const { hits } = await asked('looking for tenants', () =>
      this.#client.search<{ tenant: string }>({
        index: documents.name('state'),
        allow_partial_search_results: false,
        size: 10_000,
        _source: ['tenant'],
        query: { term: { kind: 'positions' } },
      }),
    );
    return [...new Set(hits.hits.map((hit) => hit._source!.tenant))].sort();
  }

  /** One after the other: what is folded at once by one process would only get in its own way. One that failed was told to its caller. */
  fold(tenant: string, commits: readonly RawCommit[]): Promise<Folded> {
    this.#heads.keep(tenant, commits);
    const folding = this.#folding.catch(() => {}).then(() => this.#fold(tenant, commits));
    this.#folding = folding;
    return folding;
  }

  async #fold(tenant: string, commits: readonly RawCommit[]): Promise<Folded> {
    const { folder, number } = await this.#now();
    try {
      return { ...(await folder.fold(tenant, commits)), generation: number };
    } catch (error) {
      if (error instanceof Fenced) this.#lookedMs = Number.NEGATIVE_INFINITY; // another may be the index by now
      throw error;
    }
  }

  async show(byUid = false): Promise<number> {
    const { documents, number, knownMs } = await this.#now();
    // By UID what was acknowledged is there; a refresh makes small segments, and viewers ask by the hundred.
    if (!byUid) await documents.refresh('studies', 'series', 'blocks', 'patients');
    const waitMs = knownMs - performance.now();
    if (waitMs > 0) await sleep(waitMs, undefined, { ref: false });
    return number;
  }

  #reader({ documents, policy }: Current): ElasticReader {
    return new ElasticReader({
      documents,
      policy,
      kept: this.#kept,
      heads: this.#heads,
      metadata: this.#generations.metadata,
      readHeads: async (tenant, lost) => this.#options.readHeads?.(this.settling, tenant, lost),
    });
  }

  async *query<Row>(name: string, args: unknown, options: QueryOptions = {}): AsyncGenerator<Row> {
    if (this.#queries >= this.#options.queriesMax())
      throw new GantryError('unavailable', `${this.#queries} queries run already (index.queriesMax)`);
    const query = QUERIES[name];
    if (!query) throw new GantryError('unimplemented', `the index has no query ${name}`);
    this.#queries++;
    try {
      const reader = this.#reader(await this.#now());
      for await (const row of answers(query(reader, args as never) as Rows<Row>, options.signal)) {
        const gaveMs = performance.now();
        yield row;
        options.signal?.throwIfAborted();
        if (performance.now() - gaveMs > this.#options.queryIdleMs())
          throw new GantryError('deadline-exceeded', 'nobody took the rows of a query (index.queryIdleMs)');
      }
    } finally {
      this.#queries--;
    }
  }

  async tidy(): Promise<void> {
    const generation = await this.#generations.current();
    const fenced = generation !== undefined && (await this.#generations.isFenced(generation));
    const { forgotten, former } = await this.#generations.left();
    if (fenced) await this.#generations.unfence(generation);
    for (const generation of forgotten) await this.#generations.remove(generation);
    for (const generation of former) this.#removeLater(generation);
  }

  async beginRebuild(): Promise<Rebuilding> {
    const before = await this.#generations.current();
    const generation = await this.#generations.beside(before, this.#options.policy);
    const documents = new Documents(this.#client, generation.name);
    const folder = new ElasticFolder(documents, { policy: this.#options.policy, describe, acceptGaps: true });
    let done = false;
    return {
      fold: (tenant, commits) => folder.fold(tenant, commits),
      positions: (tenant) => folder.positions(tenant),
      fence: async () => {
        if (before) await this.#generations.fence(before);
      },
      complete: async () => {
        await documents.refresh('studies', 'series', 'blocks', 'patients', 'state');
        await this.#generations.swap(before, generation);
        done = true;
        this.#lookedMs = Number.NEGATIVE_INFINITY;
        await this.#now();
        if (before) this.#removeLater(before);
      },
      abandon: async () => {
        if (!done) await this.#generations.abandon(generation, before);
      },
    };
  }

  #removeLater(generation: Generation): void {
    const timer = setTimeout(() => {
      this.#removals.delete(timer);
      this.#generations.remove(generation).catch(() => {}); // `tidy` of another start finds it: it costs only room
    }, OLD_MS).unref();
    this.#removals.set(timer, generation);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#folding.catch(() => {}); // whoever asked for it was told
    for (const timer of this.#removals.keys()) clearTimeout(timer);
    await Promise.allSettled([...this.#removals.values()].map((one) => this.#generations.remove(one)));
    await this.#client.close();
  }
}

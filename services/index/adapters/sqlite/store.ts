import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { GantryError } from '#platform/errors.ts';
import type { Position } from '#proto/storage/v1/log.ts';
import type { RawCommit } from '../../fold/commit.ts';
import { metadataPath } from '../../metadata/object.ts';
import type {
  DueStudy,
  Folded,
  FoldResult,
  IndexOptions,
  IndexStore,
  QueryOptions,
  Reached,
  Rebuilding,
  SettlingStore,
} from '../../ports.ts';
import type { Chunk, ReaderData, RunArgs } from './reader.worker.ts';
import { INDEX_VERSION, openIndex } from './schema.ts';
import type { SettledSeries } from './settling.ts';
import { Thread } from './thread.ts';
import type { WriterData } from './writer.worker.ts';

const READER = new URL('./reader.worker.ts', import.meta.url);
const WRITER = new URL('./writer.worker.ts', import.meta.url);
const NAME = /^index-(\d+)\.sqlite$/;

interface Reader {
  /** Undefined: it died, and the next query starts another. Not at once: one that cannot start would be started for ever. */
  thread: Thread | undefined;
  running: number;
}

/**
 * The index in SQLite: one writer thread that folds, reader threads that answer. A rebuild writes the next generation's file beside this
 * one and then takes its place; queries that run go on in the file in which they began.
 */
export class SqliteIndexStore implements IndexStore {
  readonly #options: IndexOptions;
  readonly #onFailure: (what: string, error: Error) => void;
  readonly #readers: Reader[] = [];
  /** Converts headers when studies settle: nobody's query stands behind it. */
  readonly #settler: Reader;
  readonly #readerFile: URL;
  #writer: Thread | undefined;
  #generation: number;
  #run = 1;
  #queries = 0;
  #closed = false;
  /** True: the file was made just now, for want of one of this version, policy or at all. */
  readonly fresh: boolean;

  constructor(
    options: IndexOptions,
    onFailure: (what: string, error: Error) => void = () => {},
    readerFile: URL = READER,
  ) {
    this.#options = options;
    this.#readerFile = readerFile;
    this.#onFailure = onFailure;
    mkdirSync(join(options.directory, 'metadata'), { recursive: true });
    const usable = usableGeneration(options);
    this.fresh = usable === undefined;
    this.#generation = usable ?? 1 + Math.max(0, ...generations(options.directory));
    for (const other of generations(options.directory)) if (other !== this.#generation) this.#remove(other);
    this.#startWriter(this.fresh);
    for (let i = 0; i < options.readers; i++) this.#readers.push(this.#reader());
    this.#settler = this.#reader();
  }

  #path(generation = this.#generation): string {
    return join(this.#options.directory, `index-${generation}.sqlite`);
  }

  #remove(generation: number): void {
    for (const suffix of ['', '-wal', '-shm']) rmSync(this.#path(generation) + suffix, { force: true });
  }

  #startWriter(fresh: boolean): void {
    const data: WriterData = { path: this.#path(), policy: this.#options.policy, rebuild: false, fresh };
    const writer = new Thread(WRITER, data, (error) => {
      if (this.#closed) return;
      this.#onFailure('writer', error);
      // The file holds whole transactions only: a new writer goes on from its positions. After a rebuild the old one may die late.
      if (this.#writer === writer) this.#writer = undefined;
    });
    this.#writer = writer;
  }

  get #write(): Thread {
    if (this.#closed) throw new GantryError('unavailable', 'the index has stopped');
    if (!this.#writer) this.#startWriter(false);
    return this.#writer!;
  }

  #reader(): Reader {
    const reader: Reader = { running: 0, thread: undefined };
    this.#threadOf(reader);
    return reader;
  }

  #threadOf(reader: Reader): Thread {
    if (reader.thread) return reader.thread;
    const data: ReaderData = {
      directory: this.#options.directory,
      metadataCacheBytes: this.#options.metadataCacheBytes,
    };
    reader.thread = new Thread(this.#readerFile, data, (error) => {
      if (this.#closed) return;
      this.#onFailure('reader', error);
      reader.thread = undefined;
    });
    return reader.thread;
  }

  async positions(tenant: string): Promise<Reached> {
    const generation = this.#generation;
    return { generation, positions: toMap(await this.#write.ask<Position[]>('positions', tenant)) };
  }
  async tenants(): Promise<string[]> {
    return (await this.#write.ask<{ name: string }[]>('tenants')).map((row) => row.name);
  }
  async fold(tenant: string, commits: readonly RawCommit[]): Promise<Folded> {
    const generation = this.#generation;
    return { ...(await this.#write.ask<FoldResult>('fold', { tenant, commits })), generation };
  }

  /** What is committed is seen by the next query. */
  async show(): Promise<number> {
    return this.#generation;
  }

  async *query<Row>(name: string, args: unknown, options: QueryOptions = {}): AsyncGenerator<Row> {
    if (this.#queries >= this.#options.queriesMax())
      throw new GantryError('unavailable', `${this.#queries} queries run already (index.queriesMax)`);
    this.#queries++;
    try {
      yield* this.#stream<Row>(this.#choose(options.affinity), name, args, options.signal);
    } finally {
      this.#queries--;
    }
  }

  #choose(affinity: string | undefined): Reader {
    if (affinity !== undefined) {
      let sum = 0;
      for (let i = 0; i < affinity.length; i++) sum = (sum * 31 + affinity.charCodeAt(i)) >>> 0;
      return this.#readers[sum % this.#readers.length]!;
    }
    return this.#readers.reduce((least, one) => (one.running < least.running ? one : least));
  }

  async *#stream<Row>(reader: Reader, name: string, args: unknown, signal?: AbortSignal): AsyncGenerator<Row> {
    if (this.#closed) throw new GantryError('unavailable', 'the index has stopped');
    const thread = this.#threadOf(reader);
    const run = this.#run++;
    const begin: RunArgs = { run, path: this.#path(), name, args };
    let done = false;
    let slow = false;
    let watch: NodeJS.Timeout | undefined;
    reader.running++;
    try {
      let chunk = await thread.ask<Chunk>('begin', begin);
      for (;;) {
        done = chunk.done;
        if (!done) {
          // Whoever takes no rows keeps a read transaction open.
          watch = setTimeout(() => {
            slow = true;
            void thread.ask('end', run).catch(() => {}); // the thread died: nothing is open any more
          }, this.#options.queryIdleMs());
          watch.unref();
        }
        for (const row of chunk.rows) {
          signal?.throwIfAborted();
          yield row as Row;
        }
        clearTimeout(watch);
        if (done) return;
        if (slow) throw new GantryError('deadline-exceeded', 'nobody took the rows of a query (index.queryIdleMs)');
        signal?.throwIfAborted();
        chunk = await thread.ask<Chunk>('next', run);
      }
    } catch (error) {
      if (slow && !(error instanceof GantryError && error.code === 'deadline-exceeded'))
        throw new GantryError('deadline-exceeded', 'nobody took the rows of a query (index.queryIdleMs)', {
          cause: error,
        });
      throw error;
    } finally {
      clearTimeout(watch);
      reader.running--;
      if (!done) await thread.ask('end', run).catch(() => {}); // as above
    }
  }

  readonly settling: SettlingStore = {
    due: async (beforeMs, limit) => {
      const generation = this.#generation;
      const due = await this.#write.ask<Omit<DueStudy, 'generation'>[]>('due', { beforeMs, limit });
      return due.map((study) => ({ ...study, generation }));
    },
    settle: async (study) => {
      if (study.generation !== this.#generation) return false;
      const series: SettledSeries[] = [];
      const rows = this.#stream<SettledSeries>(this.#settler, 'metadataObjects', {
        directory: this.#options.directory,
        study: study.study,
      });
      for await (const one of rows) series.push(one);
      if (study.generation !== this.#generation) return false;
      const { done, replaced } = await this.#write.ask<{ done: boolean; replaced: string[] }>('settle', {
        study: study.study,
        series,
      });
      for (const name of replaced)
        if (name !== '') rmSync(metadataPath(this.#options.directory, name), { force: true });
      return done;
    },
    announced: async (study) => {
      if (study.generation === this.#generation) await this.#write.ask('announced', study.study);
    },
    giveHeads: async (tenant, commits) => void (await this.#write.ask('giveHeads', { tenant, commits })),
  };

  async beginRebuild(): Promise<Rebuilding> {
    const generation = this.#generation + 1;
    this.#remove(generation);
    let failure: Error | undefined;
    let done = false;
    const data: WriterData = { path: this.#path(generation), policy: this.#options.policy, rebuild: true, fresh: true };
    const thread = new Thread(WRITER, data, (error) => {
      failure = error;
    });
    return {
      fold: (tenant, commits) => thread.ask<FoldResult>('fold', { tenant, commits }),
      positions: async (tenant) => toMap(await thread.ask<Position[]>('positions', tenant)),
      complete: async () => {
        if (failure) throw new GantryError('internal', 'the rebuild failed', { cause: failure });
        await thread.ask('complete');
        await thread.ask('close');
        await thread.end();
        done = true;
        const before = this.#generation;
        const old = this.#writer;
        this.#generation = generation;
        this.#writer = undefined;
        this.#startWriter(false);
        await old?.ask('close').catch(() => {}); // it died, or could not tidy up: its file goes anyway
        await old?.end();
        // Queries that run have it open: it goes with the last of them.
        this.#remove(before);
      },
      abandon: async () => {
        if (done) return; // it is the index now
        await thread.ask('close').catch(() => {}); // it failed: what it wrote is thrown away
        await thread.end();
        this.#remove(generation);
      },
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    const readers = [...this.#readers, this.#settler];
    await Promise.all(
      readers.map(async ({ thread }) => {
        await thread?.ask('close').catch(() => {}); // it died: nothing is open
        await thread?.end();
      }),
    );
    // The writer closes last, so that SQLite can fold the write-ahead log into the file.
    await this.#writer?.ask('close').catch(() => {});
    await this.#writer?.end();
  }
}

const toMap = (rows: Position[]): Map<string, number> => new Map(rows.map((row) => [row.lane, row.sequence]));

const generations = (directory: string): number[] =>
  readdirSync(directory).flatMap((name) => {
    const match = NAME.exec(name);
    return match ? [Number(match[1])] : [];
  });

/** The newest file that is complete, of this version and policy, and whole enough to be read. */
function usableGeneration({ directory, policy }: IndexOptions): number | undefined {
  for (const generation of generations(directory).sort((a, b) => b - a)) {
    try {
      const db = openIndex(join(directory, `index-${generation}.sqlite`));
      try {
        const meta = new Map(
          db
            .prepare('SELECT key, value FROM meta')
            .all()
            .map((row) => [row.key, row.value]),
        );
        if (
          meta.get('version') === String(INDEX_VERSION) &&
          meta.get('policy') === policy &&
          meta.get('complete') === '1'
        )
          return generation;
      } finally {
        db.close();
      }
    } catch {
      // No index that we can read: it is rebuilt from the log, which is the truth.
    }
  }
  return undefined;
}

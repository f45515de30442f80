import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { after, before, test } from 'node:test';
import { Client } from '@elastic/elasticsearch';
import { localLease } from '#platform/adapters/local/lease.ts';
import type { Lease } from '#platform/ports.ts';
import { type EntryRow, SearchRequest, type SearchRow } from '#proto/index/v1/index.ts';
import { TableOfContents } from '#proto/storage/v1/log.ts';
import { type ElasticsearchNodes, startElasticsearch, toxicS3 } from '../../../../tools/servers/index.ts';
import type { RawCommit } from '../../fold/commit.ts';
import { type FollowedLog, Follower } from '../../follow.ts';
import { collect } from '../../instances.testing.ts';
import { Rebuilder, type RebuilderOptions } from '../../rebuild.ts';
import { SEARCH_LIMITS } from '../../search/settings.ts';
import { commitOf, LANE } from './half-a-rebuild.testing.ts';
import { optionsOf } from './options.testing.ts';
import { ElasticIndexStore } from './store.ts';

let servers: ElasticsearchNodes;
let client: Client;
before(async () => {
  servers = await startElasticsearch();
  client = new Client({ nodes: servers.urls });
});
after(async () => {
  await client?.close();
  await servers?.close();
});
const newPrefix = () => `t${randomBytes(4).toString('hex')}`;
const storeOf = (prefix: string) => new ElasticIndexStore(optionsOf(servers.urls, prefix));
/** Generations of which anything is there. */
async function generations(prefix: string): Promise<string[]> {
  const found = Object.keys(await client.indices.get({ index: `${prefix}-v*` }));
  return [...new Set(found.map((index) => index.replace(/-[a-z]+-0$/, '')))];
}

const STUDIES = ['1.2.0', '1.2.1', '1.2.2'];
/** Every instance that the index shows, by its places and by a search. */
async function shown(store: ElasticIndexStore): Promise<Set<string>> {
  const uids = new Set<string>();
  for (const studyInstanceUid of STUDIES) {
    const request = { studyInstanceUid, seriesInstanceUid: '', sopInstanceUid: '', inTrash: false };
    for (const row of await collect(store.query<EntryRow>('entries', { tenant: 'main', request })))
      uids.add(row.sopInstanceUid);
  }
  const request = SearchRequest.fromPartial({ level: 'STUDY' });
  const rows = await collect(store.query<SearchRow>('search', { tenant: 'main', request, limits: SEARCH_LIMITS }));
  assert.equal(rows.length, STUDIES.length, 'a search finds every study at every moment');
  return uids;
}
const instancesOf = (commits: readonly RawCommit[]): string[] =>
  commits.flatMap(({ sequence }) => Array.from({ length: 10 }, (_, n) => `1.2.${sequence % 3}.1.${sequence}.${n}`));
function lacks(seen: ReadonlySet<string>, wanted: readonly string[]): string[] {
  return wanted.filter((uid) => !seen.has(uid));
}

/** A log in memory, and the index that follows it, as the module does. */
class Followed {
  readonly log: RawCommit[];
  readonly lease: Lease;
  readonly events = new EventEmitter();
  readonly store: ElasticIndexStore;
  readonly follower: Follower;
  readonly rebuilder: Rebuilder;
  /** Called before a rebuild is given each commit. */
  reading: (sequence: number) => Promise<void> = async () => {};

  constructor(store: ElasticIndexStore, shared: { log: RawCommit[]; lease: Lease } = { log: [], lease: localLease() }) {
    this.store = store;
    this.log = shared.log;
    this.lease = shared.lease;
    const { log, lease } = this;
    const data: Required<FollowedLog> = {
      async *readLog(_call, { after }) {
        const from = after.find((one) => one.lane === log[0]?.lane)?.sequence ?? 0;
        for (let n = from; n < log.length; n++)
          yield { ...log[n]!, tableOfContents: Buffer.from(log[n]!.tableOfContents) };
      },
      async heads() {
        return { positions: log.slice(-1) };
      },
    };
    const fenced = (): void => {
      this.events.emit('fenced');
      this.rebuilder.fenced();
    };
    const gap = (): void => assert.fail('nothing is missing in this log');
    this.follower = new Follower(data, store, { folded() {}, gap, failed() {}, level() {}, fenced });
    const slow: RebuilderOptions['data'] = {
      readLog: (call, request) => this.#slowly(data.readLog(call, request)),
      heads: data.heads,
    };
    const alone: RebuilderOptions['alone'] = (signal, work) => lease.hold('index.rebuild', signal, work);
    const quiet = { info() {}, warn() {}, error() {} } as unknown as RebuilderOptions['log'];
    this.rebuilder = new Rebuilder({ data: slow, store, follower: this.follower, log: quiet, alone });
  }

  async *#slowly<T extends { sequence: number }>(commits: AsyncIterable<T>): AsyncGenerator<T> {
    for await (const commit of commits) {
      await this.reading(commit.sequence);
      yield commit;
    }
  }

  /** Stored, and shown to whoever stored it. */
  async append(...commits: RawCommit[]): Promise<void> {
    this.log.push(...commits);
    const { lane, sequence } = commits.at(-1)!;
    this.follower.wake('main', { lane, sequence });
    assert.ok(await this.follower.reached('main', [{ lane, sequence }], 60_000, new AbortController().signal));
  }

  async close(): Promise<void> {
    await this.rebuilder.stop();
    await this.follower.stop();
    await this.store.close();
  }
}

test('while it is rebuilt, the index answers in full, here and in another process; what comes meanwhile is in the new one', async () => {
  const prefix = newPrefix();
  const here = new Followed(storeOf(prefix));
  const other = storeOf(prefix);
  try {
    await here.append(...Array.from({ length: 60 }, (_, n) => commitOf(n + 1)));
    const atFirst = instancesOf(here.log);
    const acknowledged = [...atFirst];
    const [before] = await generations(prefix);
    let done = false;
    const asked = new EventEmitter();
    const asking = async (store: ElasticIndexStore, wanted: () => readonly string[]): Promise<void> => {
      while (!done) {
        const must = [...wanted()];
        assert.deepEqual(lacks(await shown(store), must), [], 'something that was shown is missing');
        asked.emit('question');
      }
    };
    // What is stored while the rebuild reads, and once more when it has read almost all.
    const during = new Map([20, 40, 60].map((at, n) => [at, commitOf(61 + n)]));
    here.reading = async (sequence) => {
      const commit = during.get(sequence);
      if (!commit) return;
      during.delete(sequence);
      await here.append(commit);
      acknowledged.push(...instancesOf([commit]));
      for (let questions = 0; questions < 3; questions++)
        await Promise.race([once(asked, 'question'), asks, otherAsks]);
    };
    const asks = asking(here.store, () => acknowledged);
    const otherAsks = asking(other, () => atFirst);
    await here.rebuilder.run();
    assert.equal(during.size, 0, 'all of it came while the rebuild ran');
    await here.append(commitOf(64));
    acknowledged.push(...instancesOf([commitOf(64)]));
    assert.deepEqual(lacks(await shown(here.store), acknowledged), []);
    done = true;
    await Promise.all([asks, otherAsks]);
    const [index] = Object.keys(await client.indices.getAlias({ name: `${prefix}-studies` }));
    assert.ok(!index!.startsWith(`${before}-`), 'another index answers now');
    // A process that begins now knows only the new one.
    const fresh = storeOf(prefix);
    assert.deepEqual([...(await shown(fresh))].sort(), [...acknowledged].sort());
    await fresh.close();
  } finally {
    await other.close();
    await here.close();
  }
  assert.equal((await generations(prefix)).length, 1, 'the former is removed');
});

/** A rebuild that was killed midway, or when it was about to end. */
async function killed(prefix: string, ...when: string[]): Promise<void> {
  const child = fork(new URL('./half-a-rebuild.testing.ts', import.meta.url), [
    servers.urls[0]!,
    prefix,
    '20',
    ...when,
  ]);
  await once(child, 'message');
  child.kill('SIGKILL');
  await once(child, 'exit');
}

test('a rebuild killed midway leaves the old index answering; the next one, or the next start, removes what it left', async () => {
  const prefix = newPrefix();
  const here = new Followed(storeOf(prefix));
  const killedMidway = () => killed(prefix);
  try {
    await here.append(...Array.from({ length: 40 }, (_, n) => commitOf(n + 1)));
    const wanted = () => instancesOf(here.log).sort();
    await killedMidway();
    assert.equal((await generations(prefix)).length, 2, 'it was killed midway');
    assert.deepEqual([...(await shown(here.store))].sort(), wanted());
    await here.append(commitOf(41)); // and goes on folding
    assert.deepEqual([...(await shown(here.store))].sort(), wanted());

    await here.rebuilder.run();
    assert.deepEqual([...(await shown(here.store))].sort(), wanted());
    await killedMidway();
    assert.equal(
      (await generations(prefix)).length,
      3,
      'the former, which goes in a minute, the index, and half of one',
    );
    const [index] = Object.keys(await client.indices.getAlias({ name: `${prefix}-studies` }));
    const starting = storeOf(prefix);
    await starting.tidy();
    assert.equal((await generations(prefix)).length, 2);
    await starting.close();
    assert.deepEqual(await generations(prefix), [index!.replace('-studies-0', '')]);
    assert.deepEqual([...(await shown(here.store))].sort(), wanted());
  } finally {
    await here.close();
  }
});

/** Deletes the first instance of the first commit. */
function deletionOf(sequence: number): RawCommit {
  const value = {
    entries: [{ lane: LANE, sequence: 1, n: 0 }],
    studyInstanceUid: '1.2.1',
    reason: '',
    actor: '',
    purge: false,
  };
  const stamp = (1000 + sequence).toString(16).padStart(12, '0').padEnd(16, '0');
  const toc = {
    formatVersion: 1,
    tenant: 'main',
    lane: LANE,
    sequence,
    entries: [{ n: 0, stamp, kind: { $case: 'delete' as const, value } }],
  };
  return { lane: LANE, sequence, tableOfContents: TableOfContents.encode(toc).finish() };
}

test('whoever is told by another process, while a rebuild ends, that it is found or deleted, sees it so wherever he asks', async () => {
  const prefix = newPrefix();
  const here = new Followed(storeOf(prefix));
  const there = new Followed(storeOf(prefix), here);
  const third = storeOf(prefix);
  try {
    const commits = Array.from({ length: 20 }, (_, n) => commitOf(n + 1));
    await here.append(...commits);
    const wanted = [...instancesOf(commits), ...instancesOf([commitOf(21)])]
      .filter((uid) => uid !== '1.2.1.1.1.0')
      .sort();
    let told = false;
    const asks = async (): Promise<void> => {
      for (const store of [third, here.store, there.store]) assert.deepEqual([...(await shown(store))].sort(), wanted);
    };
    let telling: Promise<void> | undefined;
    const begin = here.store.beginRebuild.bind(here.store);
    here.store.beginRebuild = async () => {
      const rebuilding = await begin();
      const complete = async (): Promise<void> => {
        telling = there.append(commitOf(21), deletionOf(22)).then(() => {
          told = true;
        });
        await Promise.race([telling, once(there.events, 'fenced')]);
        await shown(third); // it has just seen which is the index
        await rebuilding.complete();
        if (told) await asks();
      };
      return { ...rebuilding, complete };
    };
    await here.rebuilder.run();
    await telling;
    await asks();
  } finally {
    await third.close();
    await there.close();
    await here.close();
  }
});

test('a rebuild killed when it was about to end: others go on with the index that is there, and what it built takes nobody’s place', async () => {
  const prefix = newPrefix();
  const here = new Followed(storeOf(prefix));
  try {
    await here.append(...Array.from({ length: 20 }, (_, n) => commitOf(n + 1)));
    await killed(prefix, 'ends');
    await assert.rejects(here.store.fold('main', [commitOf(21)]), { name: 'Fenced', code: 'unavailable' });
    await here.append(commitOf(21));
    assert.deepEqual([...(await shown(here.store))].sort(), instancesOf(here.log).sort());
    // The fence goes first, what was being built after it.
    for (const until = Date.now() + 10_000; (await generations(prefix)).length > 1; ) assert.ok(Date.now() < until);

    // One that is slow, and was taken for killed.
    const rebuilding = await here.store.beginRebuild();
    await rebuilding.fold('main', here.log.slice(0, 20));
    await rebuilding.fence?.();
    await here.store.tidy();
    await here.append(commitOf(22));
    await assert.rejects(rebuilding.complete());
    await rebuilding.abandon();
    assert.deepEqual([...(await shown(here.store))].sort(), instancesOf(here.log).sort());
  } finally {
    await here.close();
  }
});

test('a rebuild that fails when it was about to end leaves an index into which is folded', async () => {
  const prefix = newPrefix();
  const here = new Followed(storeOf(prefix));
  try {
    await here.append(commitOf(1), commitOf(2), commitOf(3));
    const begin = here.store.beginRebuild.bind(here.store);
    here.store.beginRebuild = async () => ({
      ...(await begin()),
      complete: () => Promise.reject(new Error('no more room')),
    });
    await assert.rejects(here.rebuilder.run(), { message: 'no more room' });
    await here.store.fold('main', [commitOf(4)]);
    assert.equal((await generations(prefix)).length, 1);
  } finally {
    await here.close();
  }
});

test('a rebuild that another process took for forgotten takes nobody’s place', async () => {
  const prefix = newPrefix();
  const [slow, other] = [storeOf(prefix), storeOf(prefix)];
  try {
    const commits = Array.from({ length: 6 }, (_, n) => commitOf(n + 1));
    await slow.fold('main', commits);
    await slow.show();
    const rebuilding = await slow.beginRebuild();
    await rebuilding.fold('main', commits.slice(0, 3));
    await other.tidy();
    await assert.rejects(rebuilding.fold('main', commits.slice(3)), { code: 'unavailable' });
    await assert.rejects(rebuilding.complete());
    await rebuilding.abandon();
    assert.deepEqual([...(await shown(slow))].sort(), instancesOf(commits).sort());
    assert.equal((await generations(prefix)).length, 1);
  } finally {
    await other.close();
    await slow.close();
  }
});

test('a swap that was done and whose answer is lost: what now is the index stays', async () => {
  const proxy = await toxicS3(servers.urls[0]!); // any server that speaks HTTP
  const store = new ElasticIndexStore(optionsOf([proxy.endpoint], newPrefix()));
  try {
    const commits = [1, 2, 3].map((n) => commitOf(n));
    await store.fold('main', commits);
    await store.show();
    const rebuilding = await store.beginRebuild();
    await rebuilding.fold('main', commits);
    const lost = proxy.next('dropAnswer', ({ path }) => path.startsWith('/_aliases'));
    await assert.rejects(rebuilding.complete(), { code: 'unavailable' });
    await lost;
    await rebuilding.abandon();
    assert.deepEqual(lacks(await shown(store), instancesOf(commits)), []);
  } finally {
    await store.close();
    await proxy.close();
  }
});

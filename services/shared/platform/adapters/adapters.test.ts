import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import pino from 'pino';
import { jobsContract } from '../jobs.contract.ts';
import { keyValueContract } from '../key-value.contract.ts';
import { leaseContract } from '../lease.contract.ts';
import { wakeContract } from '../wake.contract.ts';
import { fileKeyValue } from './local/key-value.ts';
import { localLease } from './local/lease.ts';
import { localWake } from './local/wake.ts';
import { sqliteJobs } from './sqlite/jobs.ts';

const silent = pino({ level: 'silent' });
const temporary = () => mkdtempSync(join(tmpdir(), 'gantry-adapters-'));

// What a kill leaves behind is what the files hold at that moment: the copy is opened in its place.
jobsContract('SQLite', async (limits) => {
  const directory = temporary();
  const opened = [await sqliteJobs(join(directory, 'jobs.sqlite'), () => limits, silent)];
  return {
    jobs: opened[0],
    async reopen() {
      cpSync(directory, `${directory}-killed`, { recursive: true });
      opened.push(await sqliteJobs(join(`${directory}-killed`, 'jobs.sqlite'), () => limits, silent));
      return opened[1];
    },
    async close() {
      await Promise.all(opened.map((jobs) => jobs.close()));
      for (const one of [directory, `${directory}-killed`]) rmSync(one, { recursive: true, force: true });
    },
  };
});

keyValueContract('files', async (valueMax) => {
  const directory = temporary();
  return {
    kv: await fileKeyValue(join(directory, 'kv'), () => valueMax),
    reopen: () => fileKeyValue(join(directory, 'kv'), () => valueMax),
    close: async () => rmSync(directory, { recursive: true, force: true }),
  };
});

leaseContract('one process', async () => {
  const lease = localLease();
  return { leases: [lease, lease], close: async () => {} };
});

wakeContract('one process', async () => ({ wake: localWake(silent), close: async () => {} }));

test('a second process on the same job queue is refused, and nothing is touched', async () => {
  const directory = temporary();
  const path = join(directory, 'jobs.sqlite');
  const limits = () => ({ jobsMax: 10, payloadMax: 10 });
  const jobs = await sqliteJobs(path, limits, silent);
  try {
    let running = () => {};
    const runs = new Promise<void>((resolve) => (running = resolve));
    jobs.work('q', { concurrency: 1, attemptsMax: 1, backoffMs: [] }, async (job) => {
      running();
      await new Promise((resolve) => job.signal.addEventListener('abort', resolve));
      throw job.signal.reason;
    });
    await jobs.add({ queue: 'q', key: 'k', tenant: 'main', payload: Buffer.alloc(0) });
    await runs;
    await assert.rejects(sqliteJobs(path, limits, silent), {
      code: 'failed-precondition',
      message: /another Gantry process/,
    });
    assert.equal((await jobs.list('q'))[0].state, 'running');
  } finally {
    await jobs.close();
    rmSync(directory, { recursive: true });
  }
});

test('a damaged job queue is moved aside; one of a newer release stops the start', async () => {
  const directory = temporary();
  const path = join(directory, 'jobs.sqlite');
  const limits = () => ({ jobsMax: 10, payloadMax: 10 });
  try {
    writeFileSync(path, 'not a database, but long enough to look like one'.repeat(100));
    const jobs = await sqliteJobs(path, limits, silent);
    await jobs.add({ queue: 'q', key: 'k', tenant: 'main', payload: Buffer.alloc(0) });
    await jobs.close();
    assert.equal(readdirSync(directory).filter((name) => name.includes('.damaged-')).length, 1);

    const { DatabaseSync } = await import('node:sqlite');
    const db = new DatabaseSync(path);
    db.exec('PRAGMA user_version = 99');
    db.close();
    await assert.rejects(sqliteJobs(path, limits, silent), { code: 'failed-precondition', message: /newer Gantry/ });
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('facts: a cut write is forgotten, damage and a newer format stop the start with a sentence', async () => {
  const directory = temporary();
  try {
    const kv = await fileKeyValue(directory, () => 100);
    await kv.put('main', 'peer/A', Buffer.from('{"x":1}'));
    const file = join(directory, 'main', 'peer%2fA.json');
    assert.deepEqual(JSON.parse(readFileSync(file, 'utf8')).text, '{"x":1}');
    writeFileSync(`${file}.tmp`, '{"half');
    const again = await fileKeyValue(directory, () => 100);
    assert.equal((await again.get('main', 'peer/A'))?.value.toString(), '{"x":1}');
    assert.deepEqual(readdirSync(join(directory, 'main')), ['peer%2fA.json']);
    writeFileSync(file, '{"half');
    await assert.rejects(
      fileKeyValue(directory, () => 100),
      { code: 'damaged' },
    );
    writeFileSync(file, JSON.stringify({ format: 2, tenant: 'main', key: 'peer/A', revision: 1, text: '' }));
    await assert.rejects(
      fileKeyValue(directory, () => 100),
      { code: 'failed-precondition', message: /newer Gantry/ },
    );
    mkdirSync(join(directory, 'empty'));
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('the queues’ depth: by queue and state, and since when the oldest is due', async () => {
  const directory = temporary();
  const jobs = await sqliteJobs(join(directory, 'jobs.sqlite'), () => ({ jobsMax: 10, payloadMax: 10 }), silent);
  try {
    const job = { tenant: 'main', payload: Buffer.alloc(0) };
    await jobs.add({ ...job, queue: 'reports', key: 'a', notBefore: Date.now() - 60_000 });
    await jobs.add({ ...job, queue: 'reports', key: 'b', notBefore: Date.now() + 60_000 });
    await jobs.add({ ...job, queue: 'forward', key: 'a', notBefore: Date.now() + 60_000 });
    const depth = (await jobs.depth()).sort((a, b) => (a.queue < b.queue ? -1 : 1));
    assert.deepEqual(
      depth.map(({ queue, state, jobs: count }) => [queue, state, count]),
      [
        ['forward', 'waiting', 1],
        ['reports', 'waiting', 2],
      ],
    );
    assert.equal(depth[0]!.dueMs, 0);
    assert.ok(depth[1]!.dueMs >= 60_000, String(depth[1]!.dueMs));
  } finally {
    await jobs.close();
    rmSync(directory, { recursive: true, force: true });
  }
});

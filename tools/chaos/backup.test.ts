// A file-level copy taken while the archive works is a backup: README.md, "data", says in which order.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect } from '#dimse/requestor.ts';
import { store } from '#dimse/scu.ts';
import { type GantryServer, startServer } from '../peers/server.ts';
import { CT, EXPLICIT, makeInstance } from './instances.ts';

const SEED = 77;
const STUDY = 10; // instances in a study of instances.ts

const ENV = {
  GANTRY_INDEX_SETTLE_MS: '500',
  GANTRY_KEEPER_INTERVAL_MS: '1000',
  GANTRY_KEEPER_DELETION_DELAY_MS: '10min', // longer than the copy takes: what it is there for
  GANTRY_STORAGE_SEGMENT_BYTES: '4MiB',
  GANTRY_STORAGE_COMMIT_BYTES: '4MiB',
};

/** The three steps of the README, as a person or cron would run them. */
const STEPS = {
  log: 'mkdir -p "$2/archive"; cp -a "$1/archive/log" "$2/archive/"',
  rest: `mkdir -p "$2/archive"
    for entry in "$1"/archive/*; do [ "$(basename "$entry")" = log ] || cp -a "$entry" "$2/archive/"; done`,
  state: 'cp -a "$1/state" "$2/"',
};
function copy(step: keyof typeof STEPS, from: string, to: string): void {
  execFileSync('sh', ['-ec', STEPS[step], 'backup', from, to], { stdio: ['ignore', 'ignore', 'inherit'] });
}
function copyWhileItRuns(from: string, to: string): void {
  for (const step of ['log', 'rest', 'state'] as const) copy(step, from, to);
}

class Load {
  readonly acknowledged = new Set<number>();
  /** Asked for; `true` once the answer said so. */
  readonly deleted = new Map<string, boolean>();
  readonly #server: GantryServer;
  readonly #work: Promise<void>;
  #failure: unknown;
  #next = 0;
  #stopping = false;
  #waiters: (() => void)[] = [];

  constructor(server: GantryServer) {
    this.#server = server;
    this.#work = Promise.all([this.#send(), this.#send(), this.#send(), this.#remove()]).then(
      () => {},
      (error) => {
        this.#failure = error;
        this.#tell();
      },
    );
  }

  async #send(): Promise<void> {
    const association = await connect({
      host: '127.0.0.1',
      port: this.#server.dimsePort,
      callingAeTitle: 'BACKUP',
      calledAeTitle: 'GANTRY',
      contexts: [{ abstractSyntax: CT, transferSyntaxes: [EXPLICIT] }],
    });
    while (!this.#stopping) {
      const n = this.#next++;
      const { instance, dataSet } = makeInstance(SEED, n);
      const { status } = await store(association, {
        contextId: 1,
        sopClassUid: CT,
        sopInstanceUid: instance,
        data: dataSet,
      });
      assert.equal(status, 0);
      this.acknowledged.add(n);
      this.#tell();
    }
    await association.release();
  }

  /** Deletes every third study once it is complete. */
  async #remove(): Promise<void> {
    for (let study = 0; !this.#stopping; study += 3) {
      const members = Array.from({ length: STUDY }, (_, i) => study * STUDY + i);
      await this.until(() => this.#stopping || members.every((n) => this.acknowledged.has(n)));
      if (this.#stopping) return;
      const uid = makeInstance(SEED, study * STUDY, 2).study;
      this.deleted.set(uid, false);
      // Stored by others, so not waited for: a delete takes what it finds, and all of it is found within 100 ms.
      while ((await listed(this.#server, uid)) < STUDY);
      const answer = await fetch(`${this.#server.dicomWeb}/studies/${uid}`, { method: 'DELETE' });
      assert.ok(answer.ok, `DELETE was answered ${answer.status}`);
      this.deleted.set(uid, true);
      this.#tell();
    }
  }

  #tell(): void {
    for (const waiter of this.#waiters.splice(0)) waiter();
  }

  async until(condition: () => boolean | Promise<boolean>): Promise<void> {
    while (!(await condition())) {
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.#tell();
    await this.#work;
    if (this.#failure !== undefined) throw this.#failure;
  }
}

async function listed(server: GantryServer, study: string): Promise<number> {
  const answer = await fetch(`${server.dicomWeb}/studies/${study}/instances`);
  return answer.status === 204 ? 0 : ((await answer.json()) as unknown[]).length;
}

async function metric(server: GantryServer, name: string): Promise<number> {
  const text = await (await fetch(`${server.origin}/metrics`)).text();
  return Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(text)?.[1] ?? 0);
}

async function post(server: GantryServer, path: string, body: unknown): Promise<string> {
  const answer = await fetch(`${server.origin}/api/v1${path}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  const text = await answer.text();
  assert.ok(answer.ok, `${path} was answered ${answer.status}: ${text}`);
  return text;
}

test('a copy made while storing, deleting and compacting run is a backup', { timeout: 5 * 60_000 }, async (t) => {
  const to = mkdtempSync(join(tmpdir(), 'gantry-backup-'));
  const server = await startServer({ env: ENV });
  let restored: GantryServer | undefined;
  try {
    const load = new Load(server);
    await load.until(() => load.acknowledged.size >= 60 && [...load.deleted.values()].includes(true));
    // Some of it is packed, and what was moved before now is reclaimed: the log holds thinned segments too.
    await load.until(async () => (await metric(server, 'gantry_keeper_instances_moved_total')) >= STUDY);
    await post(server, '/reclaim', { now: true });

    const before = [...load.acknowledged];
    const deletedBefore = [...load.deleted].filter(([, done]) => done).map(([uid]) => uid);
    copyWhileItRuns(server.dataDir, to);
    const goal = load.acknowledged.size + 5; // it went on meanwhile and after
    await load.until(() => load.acknowledged.size >= goal);
    await load.stop();
    await server.close();

    assert.deepEqual(readdirSync(to).sort(), ['archive', 'state'], 'the index is not part of a backup');
    restored = await startServer({ dataDir: to, env: { ...ENV, GANTRY_KEEPER_ENABLED: 'false' } });
    const expected = before.map((n) => makeInstance(SEED, n)).filter(({ study }) => !load.deleted.has(study));
    t.diagnostic(`${expected.length} instances and ${deletedBefore.length} deletes acknowledged before the copy began`);
    assert.ok(expected.length >= 30);
    for (const { study, series, instance, dataSet } of expected) {
      const answer: Response = await fetch(
        `${restored.dicomWeb}/studies/${study}/series/${series}/instances/${instance}`,
        {
          headers: { Accept: 'application/dicom; transfer-syntax=*' },
        },
      );
      assert.equal(answer.status, 200, `${instance} was acknowledged before the copy`);
      const bytes = Buffer.from(await answer.arrayBuffer());
      assert.ok(bytes.subarray(bytes.length - dataSet.length).equals(dataSet), `${instance} has other bytes`);
    }
    for (const uid of deletedBefore) {
      assert.equal(await listed(restored, uid), 0, `${uid} was deleted before the copy`);
    }
    const findings = (await post(restored, '/verify', {}))
      .trim()
      .split('\n')
      .filter((line) => !/"kind":"(progress|ok-summary)"/.test(line));
    const about = findings.filter((line) => expected.some(({ instance }) => line.includes(`"${instance}"`)));
    assert.deepEqual(about, []);
    for (const line of findings) t.diagnostic(line);
  } finally {
    await restored?.close();
    await server.close();
    rmSync(to, { recursive: true, force: true });
  }
});

const NONE = new Uint8Array().buffer; // an answer that broke off

/** A study is packed between two steps of the copy: how many of its instances the copy gives, and what `verify` says of it. */
async function packedBetween(order: readonly (keyof typeof STEPS)[]): Promise<{ given: number; findings: string[] }> {
  const to = mkdtempSync(join(tmpdir(), 'gantry-backup-'));
  const server = await startServer({ env: { ...ENV, GANTRY_INDEX_SETTLE_MS: '1h', GANTRY_KEEPER_ENABLED: 'false' } });
  let restored: GantryServer | undefined;
  try {
    const members = Array.from({ length: STUDY }, (_, n) => makeInstance(SEED, n));
    const association = await connect({
      host: '127.0.0.1',
      port: server.dimsePort,
      callingAeTitle: 'BACKUP',
      calledAeTitle: 'GANTRY',
      contexts: [{ abstractSyntax: CT, transferSyntaxes: [EXPLICIT] }],
    });
    for (const { instance, dataSet } of members) {
      const what = { contextId: 1, sopClassUid: CT, sopInstanceUid: instance, data: dataSet };
      assert.equal((await store(association, what)).status, 0);
    }
    await association.release();
    const [first, ...then] = order;
    copy(first!, server.dataDir, to);
    const packed = await post(server, '/compact', { studyInstanceUid: members[0]!.study });
    assert.equal((JSON.parse(packed) as { instancesMoved: number }).instancesMoved, STUDY);
    for (const step of then) copy(step, server.dataDir, to);
    await server.close();
    restored = await startServer({ dataDir: to, env: { ...ENV, GANTRY_KEEPER_ENABLED: 'false' } });
    let given = 0;
    for (const { study, series, instance, dataSet } of members) {
      const path = `studies/${study}/series/${series}/instances/${instance}`;
      const headers = { Accept: 'application/dicom; transfer-syntax=*' };
      // Cut off in the middle is not given.
      const answer = await fetch(`${restored.dicomWeb}/${path}`, { headers }).catch(() => undefined);
      const bytes = Buffer.from((await answer?.arrayBuffer().catch(() => NONE)) ?? NONE);
      if (answer?.status === 200 && bytes.subarray(bytes.length - dataSet.length).equals(dataSet)) given++;
    }
    const lines = (await post(restored, '/verify', {})).trim().split('\n');
    const kinds = lines.map((line) => (JSON.parse(line) as { kind: string }).kind);
    return { given, findings: kinds.filter((kind) => kind !== 'progress' && kind !== 'ok-summary') };
  } finally {
    await restored?.close();
    await server.close();
    rmSync(to, { recursive: true, force: true });
  }
}

test('the log first, then what it points at: a study packed in between is whole, and its pack an orphan', {
  timeout: 2 * 60_000,
}, async () => {
  assert.deepEqual(await packedBetween(['log', 'rest', 'state']), { given: STUDY, findings: ['orphan'] });
});

test('the other way round is no backup: the log names a pack that is not in it, and verify says so', {
  timeout: 2 * 60_000,
}, async () => {
  const { given, findings } = await packedBetween(['rest', 'log', 'state']);
  assert.equal(given, 0);
  assert.ok(findings.length >= STUDY && !findings.includes('orphan'), findings.join());
});

// What a modality and a viewer are told while a part is gone, and that everything is there when it is back.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { mintUid } from '#dicom/uids.ts';
import { connect } from '#dimse/requestor.ts';
import { find, nAction, store } from '#dimse/scu.ts';
import {
  COMMITMENT,
  COMMITMENT_INSTANCE,
  identifier,
  query,
  STUDY_ROOT,
} from '../../services/gateway/dimse/house.testing.ts';
import { CT, EXPLICIT, type MadeInstance, makeInstance, part10Of } from '../chaos/instances.ts';
import { verify } from '../chaos/load.ts';
import { stowRequest } from '../peers/stow-request.ts';
import { withoutServers } from '../servers/index.ts';
import { type Cluster, type GantryNode, startCluster } from './cluster.ts';

const SEED = 89;
/** Nothing waits for ever: longer than every patience inside (platform.stallMs, the timeouts of S3 and Elasticsearch). */
const PATIENCE_MS = 60_000;
/** Who asks for storage commitment: what Gantry remembers of it is a fact. */
const ASKER = 'ASKER';
const DUPLICATE_TRANSACTION = 0x0131;
/** Who tells the wrong time: nobody compares clocks. S3 itself refuses signatures that are more than 15 minutes off. */
const SKEWED_MS: Record<string, number | undefined> = {
  'gateway-2': 3_600_000,
  'index-2': -3_600_000,
  'ingest-2': -600_000,
  'storage-2': 600_000,
};
const skip = await withoutServers('nats', 'versitygw', 'elasticsearch');

describe('a cluster whose parts go', { skip, timeout: 10 * 60_000 }, () => {
  let cluster: Cluster;
  let next = 0;
  before(async () => {
    cluster = await startCluster({
      proxies: true,
      // Patience is shorter than a test's.
      env: {
        ...{ GANTRY_STORAGE_S3_REQUEST_MS: '1s', GANTRY_STORAGE_S3_COMMIT_MS: '3s', GANTRY_PLATFORM_CONNECT_MS: '1s' },
        GANTRY_KEEPER_EXPORT_MS: '1s',
      },
      yaml: `peers: [{ aeTitle: ${ASKER}, commitment: same }]\n`,
      envOf: (name) => ({ NODE_OPTIONS: `--import=${skewed(SKEWED_MS[name] ?? 0)}` }),
    });
  });
  after(() => cluster?.close());

  const association = (callingAeTitle = 'MODALITY') =>
    connect({
      host: '127.0.0.1',
      port: cluster.dimsePort,
      callingAeTitle,
      calledAeTitle: 'GANTRY',
      contexts: [CT, STUDY_ROOT.find, COMMITMENT].map((abstractSyntax) => ({
        abstractSyntax,
        transferSyntaxes: [EXPLICIT],
      })),
      limits: { responseTimeoutMs: PATIENCE_MS },
    });
  /** A study of its own for each, so that what is found is what was sent. */
  const fresh = (): MadeInstance => makeInstance(SEED, 10 * next++, 20_000);

  async function cStore(...made: MadeInstance[]): Promise<number[]> {
    const open = await association();
    const statuses: number[] = [];
    for (const { instance: sopInstanceUid, dataSet: data } of made)
      statuses.push((await store(open, { contextId: 1, sopClassUid: CT, sopInstanceUid, data })).status);
    await open.release();
    return statuses;
  }
  async function stow(made: MadeInstance): Promise<Response> {
    const answer = await fetch(`${cluster.dicomWeb}/studies`, {
      ...stowRequest([part10Of(made)]),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    await answer.arrayBuffer();
    return answer;
  }
  async function cFind(study: string): Promise<number> {
    const open = await association();
    let status = -1;
    for await (const response of find(open, STUDY_ROOT.find, query('STUDY', { study }))) status = response.status;
    await open.release();
    return status;
  }
  /** The status of the N-ACTION; when that is a success, the report on the same association was taken. */
  async function commit({ instance }: MadeInstance, transactionUid: string): Promise<number> {
    const open = await association(ASKER);
    const item = { '00081150': { vr: 'UI', Value: [CT] }, '00081155': { vr: 'UI', Value: [instance] } };
    const data = identifier({
      '00081195': { vr: 'UI', Value: [transactionUid] },
      '00081199': { vr: 'SQ', Value: [item] },
    });
    const asked = { sopClassUid: COMMITMENT, sopInstanceUid: COMMITMENT_INSTANCE, actionTypeId: 1, data };
    const { status } = await nAction(open, asked);
    if (status === 0)
      for await (const incoming of open.messages()) {
        assert.equal(incoming.command.eventTypeId, 1, 'everything is held');
        await open.respond(incoming, { status: 0 });
        break;
      }
    await open.release();
    return status;
  }
  const nodeOf = (name: string): GantryNode => cluster.nodes.find((one) => one.name === name)!;
  async function until(what: string, is: () => boolean | Promise<boolean>): Promise<void> {
    for (const end = Date.now() + PATIENCE_MS; !(await is()); await sleep(50))
      assert.ok(Date.now() < end, `it did not come to this: ${what}`);
  }
  const qido = (study: string) =>
    fetch(`${cluster.dicomWeb}/studies?StudyInstanceUID=${study}`, { signal: AbortSignal.timeout(PATIENCE_MS) });
  async function untilFound(...made: MadeInstance[]): Promise<void> {
    for (const { study, series, instance, dataSet } of made)
      for (const until = Date.now() + 90_000; ; ) {
        const found = await qido(study);
        const said = await found.text();
        const rows = found.status === 200 ? (JSON.parse(said) as unknown[]).length : 0;
        const answer = await fetch(`${cluster.dicomWeb}/studies/${study}/series/${series}/instances/${instance}`, {
          headers: { Accept: 'application/dicom; transfer-syntax=*' },
        });
        const bytes = Buffer.from(await answer.arrayBuffer());
        if (rows === 1 && answer.status === 200 && bytes.includes(dataSet)) break;
        assert.ok(Date.now() < until, `found ${rows}, read ${answer.status}`);
      }
  }

  test('S3 gone: C-STORE is refused with A700, STOW with 503 and Retry-After; then the pace returns', async () => {
    const [calm, refused, again] = [fresh(), fresh(), fresh()];
    assert.deepEqual(await cStore(calm), [0]);
    await cluster.s3.kill();
    assert.deepEqual(await cStore(refused), [0xa700]);
    const answer = await stow(refused);
    assert.equal(answer.status, 503);
    assert.ok(Number(answer.headers.get('retry-after')) > 0);
    await cluster.s3.restart();
    // A modality's retry: refused until a commit goes through again, in each of the two processes that share the port; never for long.
    for (let [until, inTurn] = [Date.now() + 60_000, 0]; inTurn < 10; ) {
      const [status] = await cStore(inTurn === 0 ? refused : again);
      inTurn = status === 0 ? inTurn + 1 : 0;
      if (status !== 0) assert.equal(status, 0xa700);
      assert.ok(Date.now() < until, 'storing goes on');
    }
    await untilFound(calm, refused, again);
  });

  test('S3 gone while processes start: they live, say what they wait for, end when told to, and start when it is back', async () => {
    const [ingest, storage] = [nodeOf('ingest-1'), nodeOf('storage-1')];
    await cluster.s3.kill();
    const starting = [ingest, storage].map((one) => one.restart());
    const ended = assert.rejects(starting[1]!, /stopped while starting/);
    for (const { name, health } of [ingest, storage])
      await until(`${name} waits for S3`, async () => {
        const answer = await fetch(`${health}/readyz`).catch(() => undefined); // it listens in a moment
        const said = await answer?.text();
        return answer?.status === 503 && /the S3 store does not answer \(.*: the start waits for it/.test(said ?? '');
      });
    assert.equal((await fetch(`${ingest.health}/healthz`)).status, 200);
    assert.deepEqual(await cStore(fresh()), [0xa700], 'the door that is open refuses as before, the other is shut');
    process.kill(storage.pid, 'SIGTERM');
    await ended;
    assert.match(storage.log(), /asked to end while starting/);
    await cluster.s3.restart();
    await starting[0];
    await storage.restart();
    assert.match(ingest.log(), /the S3 store answers: the start goes on/);
    const later = fresh();
    await until('storing goes on', async () => (await cStore(later))[0] === 0);
    await untilFound(later);
  });

  test('NATS loses all its data: what was configured, or remembered, is there again from the bucket', async () => {
    const made = fresh();
    const transaction = mintUid();
    await until('storing goes on', async () => (await cStore(made))[0] === 0);
    assert.equal(await commit(made, transaction), 0);
    const exports = join(cluster.dataDir, 's3/data/gantry/state/kv/main'); // versitygw keeps objects as files
    await until('the fact is exported', () => {
      const name = existsSync(exports) && readdirSync(exports).find((one) => one.includes(transaction));
      return name ? JSON.parse(readFileSync(join(exports, name), 'utf8')).text.startsWith('reported') : false;
    });
    const fills = () => cluster.log().split('facts that were not configured here came from the export').length;
    const before = fills();
    for (const node of cluster.nats) await node.kill();
    rmSync(join(cluster.dataDir, 'nats'), { recursive: true });
    for (const node of cluster.nats) await node.restart();
    await until('a keeper fills', () => fills() > before);
    assert.equal(await commit(made, transaction), DUPLICATE_TRANSACTION, 'it is remembered');
    assert.equal(await commit(made, mintUid()), 0, 'and jobs are done again');
  });

  test('NATS gone: modalities notice nothing, and what they store is found', async () => {
    const [before, during, stowed] = [fresh(), fresh(), fresh()];
    assert.deepEqual(await cStore(before), [0]);
    for (const node of cluster.nats) await node.kill();
    assert.deepEqual(await cStore(during), [0]);
    assert.equal((await stow(stowed)).status, 200);
    await untilFound(before, during, stowed);
    for (const node of cluster.nats) await node.restart();
    const later = fresh();
    assert.deepEqual(await cStore(later), [0]);
    await untilFound(later);
  });

  test('Elasticsearch gone: storing goes on, queries say that they cannot, and it catches up', async () => {
    const [before, during, stowed] = [fresh(), fresh(), fresh()];
    assert.deepEqual(await cStore(before), [0]);
    await untilFound(before);
    for (const node of cluster.elasticsearch) await node.kill();
    assert.deepEqual(await cStore(during), [0]);
    assert.equal((await stow(stowed)).status, 200);
    const answer = await qido(before.study);
    await answer.arrayBuffer();
    assert.equal(answer.status, 503);
    const status = await cFind(before.study);
    assert.ok(status === 0xa700 || status >> 12 === 0xc, `C-FIND says that it failed: ${status.toString(16)}`);
    for (const node of cluster.elasticsearch) await node.restart();
    await untilFound(during, stowed);
  });

  for (const [name, ways] of [
    ['the index', ['index-1', 'index-2']],
    ['storage', ['storage-1', 'storage-2']],
    ['one index process', ['index-1']],
    ['one storage process', ['storage-1']],
  ] as const)
    test(`${name} cannot be reached (packets are lost): storing goes on, nothing waits for ever, and it heals`, async () => {
      const proxies = ways.flatMap((way) => cluster.proxies!.processes[way]!);
      for (const one of proxies) one.set({ partition: 'drop' });
      const [during, stowed] = [fresh(), fresh()];
      assert.deepEqual(await cStore(during), [0]);
      const answered = await qido(during.study); // found or not, it is answered
      await answered.arrayBuffer();
      assert.ok([200, 204, 503, 504].includes(answered.status), `answered ${answered.status}`);
      for (const one of proxies) one.set({ partition: 'none' });
      const { status } = await stow(stowed);
      if (status !== 200) assert.equal((await stow(stowed)).status, 200);
      await untilFound(during, stowed);
    });

  test('after all this verify finds nothing', async () => {
    assert.deepEqual(await verify(cluster), []);
  });
});

/** A module that moves the wall clock of the process that imports it. */
function skewed(ms: number): string {
  const source = `
    const RealDate = Date;
    globalThis.Date = class extends RealDate {
      constructor(...given) { given.length === 0 ? super(RealDate.now() + (${ms})) : super(...given); }
      static now() { return RealDate.now() + (${ms}); }
    };`;
  return `data:text/javascript,${encodeURIComponent(source)}`;
}

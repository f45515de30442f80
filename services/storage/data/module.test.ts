import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import type { Call } from '#platform/call.ts';
import { BULK } from '#platform/routes.ts';
import { createTestContext, type TestContext } from '#platform/testing.ts';
import { type Instance, Position, TableOfContents } from '#proto/storage/v1/log.ts';
import { type Commit, DataService } from '#proto/storage/v1/storage.ts';
import { dataModule } from './module.ts';

const digest = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest();

function instanceOf(file: Buffer, n: number): Instance {
  return {
    studyInstanceUid: '1.2.3',
    seriesInstanceUid: '1.2.3.4',
    sopInstanceUid: `1.2.3.4.${n}`,
    sopClassUid: '1.2.840.10008.5.1.4.1.1.7',
    transferSyntaxUid: '1.2.840.10008.1.2.1',
    version: digest(Buffer.from(`version ${n}`)),
    digest: digest(file),
    place: { object: '', offset: 0, length: file.length, encoding: 0 },
    dataSetOffset: 132,
    head: Buffer.from('head'),
    source: undefined,
  };
}

async function store(context: TestContext, call: Call, file: Buffer, n: number) {
  return (
    await context.bulk(BULK.appendInstance)(call, { instance: instanceOf(file, n) }, [
      file.subarray(0, 7),
      file.subarray(7),
    ])
  ).response;
}

async function readAll(body: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function log(context: TestContext, call: Call, after: Position[] = [], lanes: string[] = []): Promise<Commit[]> {
  const commits: Commit[] = [];
  for await (const commit of context.client(DataService).readLog(call, { after, lanes })) commits.push(commit);
  return commits;
}

for (const overGrpc of [false, true])
  test(`what is appended is in the log, in the heads, woken for, and read back (${overGrpc ? 'gRPC and HTTP' : 'direct'})`, async () => {
    const context = await createTestContext({ modules: [dataModule], overGrpc });
    try {
      const call = context.call();
      const woken: Position[] = [];
      context.wake.subscribe('log.committed', (_tenant, payload) => woken.push(Position.decode(payload)));
      const files = Array.from({ length: 20 }, (_, n) => randomBytes(1000 + n * 777));
      const answers = await Promise.all(files.map((file, n) => store(context, call, file, n)));
      const { positions } = await context.client(DataService).heads(call, {});
      assert.equal(positions.length, 1);
      assert.equal(Math.max(...answers.map(({ position }) => position!.sequence)), positions[0]!.sequence);
      const commits = await log(context, call);
      const entries = commits.flatMap(({ tableOfContents }) => TableOfContents.decode(tableOfContents).entries);
      assert.equal(entries.length, 20);
      assert.deepEqual(await log(context, call, positions), []);
      assert.deepEqual(
        await log(context, call, [{ lane: positions[0]!.lane, sequence: positions[0]!.sequence - 1 }]),
        commits.slice(-1),
      );
      const all = await context.bulk(BULK.read)(call, { places: answers.map(({ place }) => place!) });
      assert.equal(
        all.response.length,
        files.reduce((sum, file) => sum + file.length, 0),
      );
      assert.deepEqual(await readAll(all.body), Buffer.concat(files));
      const narrowed = await context.bulk(BULK.read)(call, {
        places: [{ ...answers[3]!.place!, offset: answers[3]!.place!.offset + 10, length: 5 }],
      });
      assert.deepEqual(await readAll(narrowed.body), files[3]!.subarray(10, 15));
      assert.ok(woken.length >= 1);
    } finally {
      await context.stop();
    }
  });

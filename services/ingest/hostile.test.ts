import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import fc from 'fast-check';
import pino from 'pino';
import { ERRORS } from '#platform/errors.ts';
import { BULK } from '#platform/routes.ts';
import { createTestContext } from '#platform/testing.ts';
import { IngestService, type StoreResponse } from '#proto/ingest/v1/ingest.ts';
import { bytesOf, FakeStorage } from './fake-storage.testing.ts';
import { module } from './module.ts';
import { CT, chunked, dataSet, EXPLICIT, element, part10 } from './sample.testing.ts';

const SOURCE = { door: 'TEST', callingAeTitle: 'WICKED', calledAeTitle: '', address: '', defaultCharset: '' };

/** Bytes of `file`, damaged: some changed, some left out, some doubled, cut short. */
const damaged = (file: Buffer) =>
  fc
    .record({
      changes: fc.array(fc.tuple(fc.nat(file.length - 1), fc.nat(255)), { maxLength: 4 }),
      out: fc.tuple(fc.nat(file.length), fc.nat(40)),
      twice: fc.tuple(fc.nat(file.length), fc.nat(40)),
      end: fc.oneof({ weight: 3, arbitrary: fc.constant(file.length) }, { weight: 1, arbitrary: fc.nat(file.length) }),
      moves: fc.boolean(),
    })
    .map(({ changes, out, twice, end, moves }) => {
      let bytes = Buffer.from(file);
      for (const [at, value] of changes) bytes[at] = value;
      if (moves) {
        bytes = Buffer.concat([bytes.subarray(0, out[0]), bytes.subarray(out[0] + out[1])]);
        bytes = Buffer.concat([bytes.subarray(0, twice[0] + twice[1]), bytes.subarray(twice[0])]);
      }
      return bytes.subarray(0, end);
    });

const item = (bytes: Buffer) => {
  const header = Buffer.from([0xfe, 0xff, 0x00, 0xe0, 0, 0, 0, 0]);
  header.writeUInt32LE(bytes.length, 4);
  return Buffer.concat([header, bytes]);
};
const rich = (pixelBytes: number) => {
  const nested = element(0x00081140, 'SQ', item(element(0x00081155, 'UI', '1.2.3.9')));
  const inner = dataSet({ pixelBytes });
  return Buffer.concat([inner.subarray(0, 66), nested, inner.subarray(66)]);
};

test('damaged bytes at every door: an answer of the table, nothing kept that did not come, no permit lost', async () => {
  const storage = new FakeStorage();
  const context = await createTestContext({
    modules: [storage.module, module],
    settings: { 'storage.smallLimit': 2000, 'ingest.permitBytes': 8000, 'ingest.streamBytes': 1000 },
  });
  const check = (response: StoreResponse) => {
    if (response.error === '') return;
    assert.ok(Object.hasOwn(ERRORS, response.error));
    assert.notEqual(response.error, 'internal');
    assert.notEqual(response.status, 0);
    assert.ok(response.errorComment.length <= 64);
    assert.equal(response.position, undefined);
  };
  try {
    for (const pixelBytes of [200, 3000]) {
      const data = rich(pixelBytes);
      const file = part10(data);
      const stow = Buffer.concat(
        [file, file]
          .flatMap((one) => [Buffer.from('\r\n--XX\r\nContent-Type: application/dicom\r\n\r\n'), one])
          .concat(Buffer.from('\r\n--XX--')),
      );
      await fc.assert(
        fc.asyncProperty(
          damaged(data),
          damaged(file),
          damaged(stow),
          fc.integer({ min: 1, max: 3000 }),
          async (asData, asFile, asStow, size) => {
            storage.kept.length = 0;
            const request = { sopClassUid: CT, sopInstanceUid: '1.2.3.4', transferSyntaxUid: EXPLICIT, source: SOURCE };
            const stored = (await context.bulk(BULK.store)(context.call(), request, chunked(asData, size))).response;
            check(stored);
            assert.equal(storage.kept.length, stored.error === '' ? 1 : 0);
            for (const { file, instance } of storage.kept.splice(0))
              assert.ok(file.subarray(instance.dataSetOffset).equals(asData));

            const imported = (
              await context.bulk(BULK.storePart10)(
                context.call(),
                { source: SOURCE, studyInstanceUid: '' },
                chunked(asFile, size),
              )
            ).response;
            check(imported);
            assert.equal(storage.kept.length, imported.error === '' ? 1 : 0);
            for (const { file, instance } of storage.kept.splice(0)) {
              const kept = file.subarray(instance.dataSetOffset);
              assert.ok(asFile.subarray(asFile.length - kept.length).equals(kept));
            }

            const answer = await context.bulk(BULK.stow)(
              context.call(),
              {
                contentType: 'multipart/related; type="application/dicom"; boundary=XX',
                studyInstanceUid: '',
                source: SOURCE,
                retrieveRoot: '',
              },
              chunked(asStow, size),
            );
            await bytesOf(answer.body);
            assert.equal(storage.kept.length, answer.response.stored);
            const { permitsInUse } = await context.client(IngestService).status(context.call(), {});
            assert.equal(permitsInUse, 0);
          },
        ),
        { numRuns: 150 },
      );
    }
  } finally {
    await context.stop();
  }
});

test('sequences nested too deep are refused as what cannot be understood: not to be sent again', async () => {
  const context = await createTestContext({ modules: [new FakeStorage().module, module] });
  try {
    let nested = element(0x00081155, 'UI', '1.2.3.9');
    for (let depth = 0; depth < 70; depth++) nested = element(0x00081140, 'SQ', item(nested));
    const plain = dataSet();
    const data = Buffer.concat([plain.subarray(0, 66), nested, plain.subarray(66)]);
    const request = { sopClassUid: CT, sopInstanceUid: '1.2.3.4', transferSyntaxUid: EXPLICIT, source: SOURCE };
    const { response } = await context.bulk(BULK.store)(context.call(), request, chunked(data, 1000));
    assert.deepEqual([response.status, response.error], [0xc000, 'unparsable']);
  } finally {
    await context.stop();
  }
});

test('logs name UIDs and reasons, and nothing of the patient', async () => {
  const lines: string[] = [];
  const sink = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk));
      done();
    },
  });
  const storage = new FakeStorage();
  const context = await createTestContext({ modules: [storage.module, module], log: pino({ level: 'trace' }, sink) });
  try {
    const request = { sopClassUid: CT, sopInstanceUid: '1.2.3.4', transferSyntaxUid: EXPLICIT, source: SOURCE };
    const store = (body: Buffer) => context.bulk(BULK.store)(context.call(), request, [body]);
    await store(dataSet());
    await store(dataSet({ studyInstanceUid: undefined }));
    await store(dataSet({ studyInstanceUid: 'SECRET^IN THE WRONG PLACE' }));
    await store(dataSet({ sopInstanceUid: 'SECRET^NAME' }));
    await store(dataSet().subarray(0, 100));
    const metadata = {
      '00080018': { vr: 'UI', Value: ['1.2.3.9'] },
      '00100010': { vr: 'PN', Value: ['SECRET^PATIENT'] },
    };
    for (const body of [JSON.stringify([metadata]), JSON.stringify(metadata).slice(0, -5), '"SECRET"'])
      await context.bulk(BULK.stow)(
        context.call(),
        { contentType: 'application/dicom+json', studyInstanceUid: '', source: SOURCE, retrieveRoot: '' },
        [Buffer.from(body)],
      );
    storage.before.appendInstance = () => {
      throw new Error('SECRET is what a library might say');
    };
    const { response } = await store(dataSet());
    assert.doesNotMatch(response.errorComment, /SECRET/);
    const refused = lines.map((line) => JSON.parse(line)).filter(({ msg }) => msg === 'instance refused');
    assert.ok(refused.length >= 5);
    assert.ok(refused.every(({ code, requestId, callingAeTitle }) => code && requestId && callingAeTitle === 'WICKED'));
    assert.ok(refused.some(({ sopInstanceUid }) => sopInstanceUid === '1.2.3.4'));
    for (const line of lines) if (!/"code":"internal"/.test(line)) assert.doesNotMatch(line, /SECRET/);
  } finally {
    await context.stop();
  }
});

import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { GantryError } from '#platform/errors.ts';
import { BULK } from '#platform/routes.ts';
import {
  closeHouse,
  context,
  DICOM,
  failed,
  house,
  instance,
  multipart,
  ROOT,
  SOURCE,
  STUDY_URL,
  status,
  storage,
  stored,
  stow,
} from './house.testing.ts';
import { chunked, dataSet, part10 } from './sample.testing.ts';

afterEach(closeHouse);

for (const overGrpc of [false, true])
  describe(overGrpc ? 'STOW over HTTP' : 'STOW in one process', () => {
    test('every part is kept as it came, small and large, in chunks of any size', async () => {
      await house({ overGrpc });
      const files = [
        instance(1),
        instance(2, { pixelBytes: 300_000 }),
        instance(3),
        instance(4, { pixelBytes: 200_000 }),
        instance(5),
      ];
      for (const size of [13, 4096, 5_000_000]) {
        storage.kept.length = 0;
        const answer = await stow(chunked(multipart(files.map((body) => ({ body }))), size));
        assert.deepEqual([answer.error, answer.stored, answer.failed, answer.warned], ['', 5, 0, 0]);
        assert.deepEqual(answer.json, {
          '00081190': STUDY_URL,
          '00081199': { vr: 'SQ', Value: [1, 2, 3, 4, 5].map((n) => stored(`1.2.3.${n}`)) },
        });
        const byName = (a: { instance: { sopInstanceUid: string } }, b: { instance: { sopInstanceUid: string } }) =>
          a.instance.sopInstanceUid < b.instance.sopInstanceUid ? -1 : 1;
        assert.deepEqual(
          storage.kept.toSorted(byName).map(({ file }) => file),
          files,
        );
        assert.deepEqual(answer.positions, [
          { lane: 'LANE', sequence: storage.kept.length * ([13, 4096, 5_000_000].indexOf(size) + 1) },
        ]);
      }
    });

    test('a part that fails does not stop the others, and the answer says which and why', async () => {
      await house({ overGrpc });
      const answer = await stow([
        multipart([
          { body: instance(1) },
          { body: instance(2, { studyInstanceUid: undefined }) },
          { body: Buffer.from('not dicom at all '.repeat(30)) },
          { body: part10(dataSet({ sopInstanceUid: '1.2.3.9' })) },
          { type: 'image/jpeg', body: Buffer.from([0xff, 0xd8]) },
          { body: instance(3).subarray(0, 600) },
          { type: 'application/octet-stream', body: instance(4) },
        ]),
      ]);
      assert.deepEqual([answer.error, answer.stored, answer.failed], ['', 2, 5]);
      assert.deepEqual(answer.json, {
        '00081190': STUDY_URL,
        '00081198': {
          vr: 'SQ',
          Value: [failed('1.2.3.2', 0xa900), failed('1.2.3.9', 0xa900), failed('1.2.3.3', 0xc000)],
        },
        '00081199': { vr: 'SQ', Value: [stored('1.2.3.1'), stored('1.2.3.4')] },
        '0008119A': {
          vr: 'SQ',
          Value: [{ '00081197': { vr: 'US', Value: [0xc000] } }, { '00081197': { vr: 'US', Value: [0x0122] } }],
        },
      });
    });

    test('the study of the path', async () => {
      await house({ overGrpc });
      const body = multipart([{ body: instance(1) }, { body: instance(2, { studyInstanceUid: '9.9' }) }]);
      const answer = await stow([body], DICOM, '1.2.3');
      assert.deepEqual(answer.json, {
        '00081190': STUDY_URL,
        '00081198': { vr: 'SQ', Value: [failed('1.2.3.2', 0xa900)] },
        '00081199': { vr: 'SQ', Value: [stored('1.2.3.1')] },
      });
    });

    test('a body that ends before its closing delimiter keeps what was whole', async () => {
      await house({ overGrpc });
      for (const end of ['', '\r\n--XX', '\r\n--X', '\r\n--XX\r\nContent-Type: app']) {
        const answer = await stow([multipart([{ body: instance(1) }, { body: instance(2) }], end)]);
        assert.equal(answer.error, '');
        // Without a delimiter behind it nobody can tell that the second is whole.
        assert.deepEqual(
          [answer.stored, answer.failed],
          end.startsWith('\r\n--XX') ? [2, 1] : [1, 1],
          JSON.stringify(end),
        );
        if (!end.startsWith('\r\n--XX')) assert.deepEqual(answer.json['00081198'].Value, [failed('1.2.3.2', 0xc000)]);
      }
    });

    test('one instance alone, without multipart', async () => {
      await house({ overGrpc });
      const answer = await stow(chunked(instance(1), 100), 'application/dicom');
      assert.deepEqual([answer.stored, answer.json['00081199'].Value], [1, [stored('1.2.3.1')]]);
    });

    test('requests that are refused as a whole', async () => {
      await house({ overGrpc });
      for (const [contentType, body, error] of [
        ['text/plain', multipart([{ body: instance(1) }]), 'unsupported-media-type'],
        ['', multipart([]), 'unsupported-media-type'],
        ['multipart/form-data; boundary=XX', multipart([{ body: instance(1) }]), 'unsupported-media-type'],
        [
          'multipart/related; type="text/html"; boundary=XX',
          multipart([{ body: instance(1) }]),
          'unsupported-media-type',
        ],
        ['multipart/related; type="application/dicom"', multipart([{ body: instance(1) }]), 'invalid-argument'],
        [DICOM, Buffer.from('no multipart'), 'invalid-argument'],
        [DICOM, Buffer.alloc(0), 'invalid-argument'],
        [DICOM, multipart([]), 'invalid-argument'],
      ] as const) {
        const answer = await stow([body], contentType);
        assert.deepEqual([answer.error, answer.json, answer.stored], [error, undefined, 0], contentType);
        assert.ok(answer.errorMessage.length > 0);
      }
    });

    test('storage that has no room answers for the whole request, so that the client comes again', async () => {
      await house({ overGrpc });
      storage.before.appendInstance = () => {
        throw new GantryError('no-space', 'below storage.reserveBytes');
      };
      const answer = await stow([multipart([{ body: instance(1) }, { body: instance(2) }])]);
      assert.deepEqual([answer.error, answer.stored, answer.failed], ['no-space', 0, 2]);
    });

    test('the client goes away: what was whole is kept, the rest is not', async () => {
      await house({ overGrpc });
      const abort = new AbortController();
      const body = multipart([{ body: instance(1) }, { body: instance(2) }]);
      async function* stalling() {
        yield body.subarray(0, body.length - 300);
        while (storage.kept.length === 0) await new Promise((resolve) => setImmediate(resolve));
        abort.abort();
        await new Promise(() => {});
      }
      const request = { contentType: DICOM, studyInstanceUid: '', source: SOURCE, retrieveRoot: ROOT };
      await assert.rejects(context.bulk(BULK.stow)(context.call({ signal: abort.signal }), request, stalling()), {
        code: 'cancelled',
      });
      while ((await status()).permitsInUse > 0) await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual(
        storage.kept.map(({ instance }) => instance.sopInstanceUid),
        ['1.2.3.1'],
      );
    });
  });

test('instances of one request share flushes, as many at once as allowed', async () => {
  await house({ settings: { 'ingest.stowParallel': 3, 'ingest.permitBytes': 65536 * 10 } });
  storage.before.appendInstance = () => new Promise((resolve) => setImmediate(resolve));
  const answer = await stow([multipart([1, 2, 3, 4, 5, 6, 7, 8, 9].map((n) => ({ body: instance(n) })))]);
  assert.equal(answer.stored, 9);
  assert.equal(storage.inFlightMost, 3);
});

test('parts are bounded', async () => {
  await house({ settings: { 'ingest.stowParts': 2 } });
  const answer = await stow([multipart([1, 2, 3, 4].map((n) => ({ body: instance(n) })))]);
  assert.deepEqual([answer.error, answer.stored, answer.failed], ['', 2, 1]);
  assert.deepEqual(answer.json['0008119A'].Value, [{ '00081197': { vr: 'US', Value: [0xa700] } }]);
});

test('a client that writes LF alone, a quoted boundary, and an unquoted type', async () => {
  await house();
  const file = instance(1);
  const body = Buffer.concat([
    Buffer.from('--X X\nContent-Type: application/dicom\n\n'),
    file,
    Buffer.from('\n--X X--'),
  ]);
  const answer = await stow([body], 'Multipart/Related;type=application/dicom;boundary="X X"');
  assert.equal(answer.stored, 1);
  assert.deepEqual(storage.kept[0]!.file, file);
});

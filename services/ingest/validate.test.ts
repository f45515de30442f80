import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { StoreRequest } from '#proto/ingest/v1/ingest.ts';
import {
  closeHouse,
  context,
  house,
  LARGE,
  REQUEST,
  status,
  storage,
  store,
  storePart10,
  watched,
} from './house.testing.ts';
import { CT, chunked, dataSet, part10, type Sample } from './sample.testing.ts';

afterEach(closeHouse);

describe('the refusal table', () => {
  const ofDataSet: [string, Sample, Partial<StoreRequest>, number, string, number[]][] = [
    ['no Study Instance UID', { studyInstanceUid: undefined }, {}, 0xa900, 'missing-identifier', [0x0020000d]],
    ['empty Study Instance UID', { studyInstanceUid: '' }, {}, 0xa900, 'missing-identifier', [0x0020000d]],
    ['Study Instance UID of padding', { studyInstanceUid: '\0\0 \0' }, {}, 0xa900, 'missing-identifier', [0x0020000d]],
    ['no Series Instance UID', { seriesInstanceUid: undefined }, {}, 0xa900, 'missing-identifier', [0x0020000e]],
    ['no SOP Instance UID', { sopInstanceUid: undefined }, {}, 0xa900, 'missing-identifier', [0x00080018]],
    [
      'no UID at all',
      { sopInstanceUid: undefined, studyInstanceUid: undefined, seriesInstanceUid: undefined },
      {},
      0xa900,
      'missing-identifier',
      [0x00080018, 0x0020000d, 0x0020000e],
    ],
    ['a UID of 65 characters', { studyInstanceUid: '1'.repeat(65) }, {}, 0xa900, 'invalid-argument', [0x0020000d]],
    ['a UID with a line break', { seriesInstanceUid: '1.2\n3' }, {}, 0xa900, 'invalid-argument', [0x0020000e]],
    [
      'another instance than the command set',
      {},
      { sopInstanceUid: '1.2.3.5' },
      0xa900,
      'identifier-mismatch',
      [0x00080018],
    ],
    [
      'another class than the command set',
      {},
      { sopClassUid: '1.2.840.10008.5.1.4.1.1.4' },
      0xa900,
      'identifier-mismatch',
      [0x00080016],
    ],
    [
      'a DICOMDIR',
      { sopClassUid: '1.2.840.10008.1.3.10' },
      { sopClassUid: '1.2.840.10008.1.3.10' },
      0x0122,
      'unsupported-class',
      [0x00080016],
    ],
    [
      'a hanging protocol',
      { sopClassUid: '1.2.840.10008.5.1.4.38.1', studyInstanceUid: undefined },
      { sopClassUid: '1.2.840.10008.5.1.4.38.1' },
      0x0122,
      'unsupported-class',
      [0x00080016],
    ],
    [
      'an inventory',
      { sopClassUid: '1.2.840.10008.5.1.4.1.1.201.1' },
      { sopClassUid: '1.2.840.10008.5.1.4.1.1.201.1' },
      0x0122,
      'unsupported-class',
      [0x00080016],
    ],
    [
      'no storage class',
      { sopClassUid: '1.2.840.10008.1.1' },
      { sopClassUid: '1.2.840.10008.1.1' },
      0x0122,
      'unsupported-class',
      [0x00080016],
    ],
  ];
  const taken: [string, Sample, Partial<StoreRequest>][] = [
    [
      'padding of any kind',
      { sopInstanceUid: '1.2.3.4 ', studyInstanceUid: '1.2.3\0\0' },
      { sopInstanceUid: '1.2.3.4\0' },
    ],
    ['a private class', { sopClassUid: '1.3.12.2.1107.5.9.1' }, { sopClassUid: '1.3.12.2.1107.5.9.1' }],
    ['UIDs with leading zeros and letters', { studyInstanceUid: '01.002.x-Y_z' }, {}],
    ['a UID of 64 characters', { studyInstanceUid: '1'.repeat(64) }, {}],
    ['no SOP Class UID in the data set', { sopClassUid: undefined }, {}],
  ];

  test('both doors give the same reason, the comment fits, and the whole body is read', async () => {
    await house();
    for (const [name, sample, request, status, error, offendingElements] of ofDataSet)
      for (const pixelBytes of [1000, 300_000]) {
        const bytes = dataSet({ ...sample, pixelBytes });
        const stated = { ...REQUEST, ...request };
        const source = watched(chunked(bytes, 10_000));
        const response = await store(source.body, request);
        assert.deepEqual(
          [response.status, response.error, response.offendingElements],
          [status, error, offendingElements],
          name,
        );
        assert.ok(source.seen.ended, 'the response follows the whole request');
        const file = watched(chunked(part10(bytes, stated), 10_000));
        const ofFile = await storePart10(file.body);
        assert.deepEqual(
          [ofFile.status, ofFile.error, ofFile.offendingElements],
          [status, error, offendingElements],
          name,
        );
        assert.ok(file.seen.ended);
        for (const { errorComment, position } of [response, ofFile]) {
          assert.ok(errorComment.length > 0 && errorComment.length <= 64, errorComment);
          assert.doesNotMatch(errorComment, /SECRET|1\.2\.3/);
          assert.equal(position, undefined);
        }
      }
    assert.deepEqual(storage.kept, []);
    assert.equal(storage.objects.size, 0, 'nothing large is left behind');
    const { refused } = await status();
    assert.equal(refused, ofDataSet.length * 4);
    assert.match(
      await context.metrics.expose(),
      /gantry_ingest_refusals_total\{[^}]*code="missing-identifier"[^}]*\} 24/,
    );
  });

  test('what looks odd and is taken', async () => {
    await house();
    for (const [name, sample, request] of taken) {
      assert.equal((await store([dataSet(sample)], request)).error, '', name);
      assert.equal((await storePart10([part10(dataSet(sample), { ...REQUEST, ...request })])).error, '', name);
    }
    assert.equal(storage.kept[0]!.instance.studyInstanceUid, '1.2.3');
    assert.equal(storage.kept.at(-1)!.instance.sopClassUid, CT);
  });

  test('a Part 10 file as a data set, and bytes that are no data set: C000', async () => {
    await house();
    for (const bytes of [
      part10(dataSet()),
      Buffer.from('hello, this is no data set at all'),
      dataSet().subarray(0, 300),
      dataSet(LARGE).subarray(0, 200_000),
    ]) {
      const response = await store(chunked(bytes, 50));
      assert.deepEqual([response.status, response.error], [0xc000, 'unparsable']);
      assert.ok(response.errorComment.length > 0 && response.errorComment.length <= 64);
    }
    assert.equal(storage.objects.size, 0);
  });

  test('the study of the request', async () => {
    await house();
    assert.equal((await storePart10([part10(dataSet())], '1.2.3')).error, '');
    assert.partialDeepStrictEqual(await storePart10([part10(dataSet())], '1.2.4'), {
      status: 0xa900,
      error: 'identifier-mismatch',
    });
  });
});

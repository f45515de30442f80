import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GantryError } from '#platform/errors.ts';
import {
  checkObjectKey,
  checkTenant,
  fileNameOf,
  instanceFileName,
  parseSegmentName,
  segmentKey,
  sequenceOfToc,
  tocFileName,
} from './names.ts';
import { sampleInstance } from './sample.testing.ts';
import { BLOCK, parseTarHeader, writeTarHeader } from './tar.ts';

const HOSTILE = [
  '..',
  '.',
  '...',
  '../../etc/passwd',
  '%2e%2e',
  '/etc',
  '1.2/../3',
  '1..2',
  '1.2.',
  '.1',
  '1.2\u0000',
  '\r\n',
  '1.2\n',
  'a'.repeat(64),
  '1'.repeat(65),
  ' 1.2',
  '',
  '½',
  '\\..\\',
  '-rf',
  '~',
  'CON',
];

test('a UID that is not digits and single dots names nothing: its digest does', () => {
  for (const uid of HOSTILE) assert.match(fileNameOf(uid), /^uid-[0-9a-f]{40}$/, JSON.stringify(uid));
  assert.equal(fileNameOf('1.2.840.10008'), '1.2.840.10008');
  assert.equal(fileNameOf('1.2.003'), '1.2.003', 'leading zeros occur in real studies, and harm nobody');
  assert.notEqual(fileNameOf('..'), fileNameOf('...'));
});

test('whatever the UIDs are, the name fits ustar and stays below where it is unpacked', () => {
  const uid = fc.oneof(
    fc.constantFrom(...HOSTILE),
    fc.string({ maxLength: 80, unit: 'binary' }),
    fc.stringMatching(/^[0-9.]{1,64}$/),
  );
  fc.assert(
    fc.property(uid, uid, uid, (studyInstanceUid, seriesInstanceUid, sopInstanceUid) => {
      const name = instanceFileName(
        sampleInstance(Buffer.from('x'), { studyInstanceUid, seriesInstanceUid, sopInstanceUid }),
      );
      assert.match(
        name,
        /^[A-Za-z0-9][A-Za-z0-9.-]*\/[A-Za-z0-9][A-Za-z0-9.-]*\/[A-Za-z0-9][A-Za-z0-9.-]*\.[0-9a-f]{8}\.dcm$/,
      );
      assert.ok(!name.split('/').includes('..'));
      const block = Buffer.alloc(BLOCK);
      writeTarHeader(block, 0, name, 1, 0);
      assert.equal(parseTarHeader(block)?.name, name);
    }),
    { numRuns: 1000 },
  );
});

test('keys of other tenants, and keys that climb, are not there', () => {
  checkObjectKey('log/main/01J/0000000000000001.tar', 'main');
  for (const key of [
    'log/other/a/b.tar',
    'log/main',
    'log/main/../other/x',
    'log/main/.hidden',
    'state/main/x',
    '/etc/passwd',
    'log//x',
    'log/main/a\n',
    'large/main/%2e%2e/x',
    'pack/main/' + 'a'.repeat(200),
  ])
    assert.throws(
      () => checkObjectKey(key, 'main'),
      (error) => error instanceof GantryError && error.code === 'not-found',
      key,
    );
  for (const tenant of ['', '.', '..', 'a/b', 'a.b', 'a'.repeat(65), '-a', 'ä'])
    assert.throws(
      () => checkTenant(tenant),
      (error) => error instanceof GantryError && error.code === 'invalid-argument',
      tenant,
    );
});

test('names carry their sequences', () => {
  assert.equal(sequenceOfToc(tocFileName(42)), 42);
  assert.equal(sequenceOfToc('.gantry/0000000000000042.0.hold.json'), undefined);
  assert.deepEqual(parseSegmentName(segmentKey('main', 'L', 7).split('/').at(-1)!), { first: 7, thinned: false });
  assert.deepEqual(parseSegmentName(segmentKey('main', 'L', 7, true).split('/').at(-1)!), { first: 7, thinned: true });
  for (const name of ['0000000000000000.tar', '1.tar', '0000000000000007.tar.part', 'x.tar'])
    assert.equal(parseSegmentName(name), undefined);
});

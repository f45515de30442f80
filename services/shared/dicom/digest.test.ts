import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { digestOf, Part10Digest, versionHash } from './digest.ts';

const explicitLittleEndian = '1.2.840.10008.1.2.1';

test('version and digest are the hashes that the archive format promises', () => {
  const prefix = Buffer.from('preamble and meta');
  const dataSet = Buffer.from('data set');
  const version = createHash('sha256').update(`${explicitLittleEndian}\0data set`).digest();
  const digest = createHash('sha256').update(prefix).update(version).digest();
  assert.deepEqual(versionHash(explicitLittleEndian).update(dataSet).digest(), version);
  assert.deepEqual(digestOf(prefix, version), digest);
  assert.deepEqual(digestOf([prefix.subarray(0, 3), prefix.subarray(3)], version), digest);
});

test('reading a file in chunks of any size gives the same digests, and any changed byte gives another', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 400 }),
      fc.nat(400),
      fc.array(fc.integer({ min: 1, max: 90 })),
      fc.nat(),
      (bytes, offset, sizes, flip) => {
        const file = Buffer.from(bytes);
        const prefixLength = Math.min(offset, file.length);
        const chunked = new Part10Digest(explicitLittleEndian, prefixLength);
        let at = 0;
        for (const size of sizes) {
          chunked.update(file.subarray(at, at + size));
          at += size;
        }
        const { version, digest } = chunked.update(file.subarray(at)).finish();
        assert.deepEqual(version, versionHash(explicitLittleEndian).update(file.subarray(prefixLength)).digest());
        assert.deepEqual(digest, digestOf(file.subarray(0, prefixLength), version));
        const damaged = Buffer.from(file);
        damaged[flip % file.length]! ^= 1;
        assert.notDeepEqual(
          new Part10Digest(explicitLittleEndian, prefixLength).update(damaged).finish().digest,
          digest,
        );
      },
    ),
  );
});

test('the transfer syntax is part of the identity, without ambiguity', () => {
  const one = versionHash('1.2.840.10008.1.2').update(Buffer.from('.1\0')).digest();
  const other = versionHash('1.2.840.10008.1.2.1').update(Buffer.from('\0')).digest();
  assert.notDeepEqual(one, other);
});

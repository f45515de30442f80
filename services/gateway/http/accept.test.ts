import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GantryError } from '#platform/errors.ts';
import { acceptedRanges, chooseType, covers } from './accept.ts';

test('a quoted and an unquoted multipart type mean the same (PS3.18 §8.7.5)', () => {
  for (const header of [
    'multipart/related; type="application/dicom"; transfer-syntax=*',
    'multipart/related;type=application/dicom;transfer-syntax=*',
  ]) {
    const [range] = acceptedRanges(header, undefined);
    assert.equal(range!.multipart, true);
    assert.equal(range!.type, 'application/dicom');
    assert.equal(range!.transferSyntax, '*');
  }
});

test('ranges are ordered by quality, equal ones as given, q=0 is refused', () => {
  const ranges = acceptedRanges('a/b;q=0.5, c/d, e/f;q=0, g/h', undefined);
  assert.deepEqual(
    ranges.map((r) => r.type),
    ['c/d', 'g/h', 'a/b'],
  );
});

test('the accept query parameter stands before the header', () => {
  assert.equal(acceptedRanges('text/html', 'application/dicom+json')[0]!.type, 'application/dicom+json');
});

test('nothing said means anything', () => {
  for (const said of [undefined, '', '  ']) assert.ok(covers(acceptedRanges(said, undefined)[0]!, 'application/dicom'));
});

test('a comma or semicolon inside quotes does not split; what clients send that is not quite a media type is understood', () => {
  const types = (header: string) => acceptedRanges(header, undefined).map(({ type, q }) => [type, q]);
  assert.deepEqual(types('multipart/related; boundary="a;b,c"; type="x/y", a/b'), [
    ['x/y', 1],
    ['a/b', 1],
  ]);
  assert.deepEqual(types('text/html, image/gif, *; q=.2'), [
    ['text/html', 1],
    ['image/gif', 1],
    ['*/*', 0.2],
  ]);
  assert.deepEqual(types('video/, multipart/related; type="image/"; q=0.5'), [
    ['video/*', 1],
    ['image/*', 0.5],
  ]);
  assert.deepEqual(types('IMAGE/JPEG ; Q=0.5;'), [['image/jpeg', 0.5]]);
});

test('nothing that is offered is asked for: 406; nonsense: 400', () => {
  assert.throws(
    () => chooseType(acceptedRanges('image/png', undefined), ['application/dicom+json']),
    (e: GantryError) => e.code === 'not-acceptable',
  );
  assert.throws(
    () => acceptedRanges('text', undefined),
    (e: GantryError) => e.code === 'invalid-argument',
  );
  assert.throws(
    () => acceptedRanges('a/b;q=2', undefined),
    (e: GantryError) => e.code === 'invalid-argument',
  );
  assert.throws(
    () => acceptedRanges(Array(100).fill('a/b').join(','), undefined),
    (e: GantryError) => e.code === 'invalid-argument',
  );
});

test('any header is either ranges or a GantryError', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 200 }), (header) => {
      try {
        for (const range of acceptedRanges(header, undefined)) assert.ok(range.q > 0 && range.q <= 1);
      } catch (error) {
        assert.ok(error instanceof GantryError);
      }
    }),
  );
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseMediaType } from './media-type.ts';

const read = (text: string) => {
  const media = parseMediaType(text);
  return media && [media.type, Object.fromEntries(media.parameters)];
};

test('Content-Types as senders write them', () => {
  for (const [text, type, parameters] of [
    [
      'multipart/related; type="application/dicom"; boundary="a b;c"',
      'multipart/related',
      { type: 'application/dicom', boundary: 'a b;c' },
    ],
    [
      'Multipart/Related;type=application/dicom;BOUNDARY=--x=y',
      'multipart/related',
      { type: 'application/dicom', boundary: '--x=y' },
    ],
    ['multipart/related ; boundary = x ; ; boundary=y;', 'multipart/related', { boundary: 'x' }],
    ['multipart/related; boundary="a\\"b"', 'multipart/related', { boundary: 'a"b' }],
    ['application/dicom+json', 'application/dicom+json', {}],
    [
      'image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50',
      'image/jpeg',
      { 'transfer-syntax': '1.2.840.10008.1.2.4.50' },
    ],
  ] as const)
    assert.deepEqual(read(text), [type, parameters], text);
});

test('what is no Content-Type', () => {
  for (const text of ['', 'multipart', 'a/b c', 'a/b; "x"', 'a/b; x="y', 'a/b, c/d'])
    assert.equal(read(text), undefined, text);
});

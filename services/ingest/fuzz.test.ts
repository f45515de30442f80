import { test } from 'node:test';
import fc from 'fast-check';
import { fuzzMediaType, fuzzMultipart, fuzzNativeModel } from './fuzz.ts';

const wicked = (words: readonly string[]) =>
  fc
    .array(fc.oneof(fc.constantFrom(...words), fc.string({ unit: 'binary', maxLength: 4 })), { maxLength: 40 })
    .map((pieces) => Buffer.from(pieces.join(''), 'latin1'));

test('the fuzz targets hold for a start', async () => {
  const multipart = [
    '\x03',
    '--b',
    '--b--',
    '\r\n',
    '\n',
    '\r',
    '\r\n--b\r\n',
    '\n--b\n',
    'A: b\r\n\r\n',
    ' ',
    ':',
    '\t',
  ];
  await fc.assert(fc.asyncProperty(wicked(multipart), fuzzMultipart), { numRuns: 500 });
  fc.assert(fc.property(wicked(['a/b', ';', '=', '"', '\\', 'boundary', ' ']), fuzzMediaType), { numRuns: 500 });
  const xml = [
    '<NativeDicomModel>',
    '<DicomAttribute tag="00100010" vr="PN">',
    '<PersonName>',
    '<Item>',
    '</Item>',
    '<',
    '>',
    '/',
    '&#',
    'x',
    ';',
    '<!--',
    ']]>',
  ];
  fc.assert(fc.property(wicked(xml), fuzzNativeModel), { numRuns: 500 });
});

test('a media type with many blanks and quotes costs no more than its length', () => {
  // The test's own time limit is the judge.
  for (const text of [
    `a/b${';  '.repeat(50_000)}x`,
    `a/b; a="${'\\'.repeat(100_001)}`,
    `a/b; ${' '.repeat(100_000)}`,
    `a/b;a=${'b '.repeat(50_000)}"`,
    `a/b; a=${' '.repeat(200_000)}"`,
  ])
    fuzzMediaType(Buffer.from(text));
});

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { GantryError } from '#platform/errors.ts';
import { MultipartReader } from './multipart.ts';

const LIMITS = { partsMax: 50, headerBytesMax: 1000 };

async function* chunksOf(bytes: Buffer, sizes: number[] = [bytes.length || 1]): AsyncGenerator<Buffer> {
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length]!;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

async function read(bytes: Buffer | string, boundary: string, sizes?: number[], limits = LIMITS) {
  const reader = new MultipartReader(chunksOf(Buffer.from(bytes as string, 'latin1'), sizes), boundary, limits);
  const parts: { headers: Record<string, string>; body: string }[] = [];
  for (let part = await reader.next(); part; part = await reader.next()) {
    const body: Buffer[] = [];
    for await (const chunk of part.body) body.push(chunk);
    parts.push({ headers: Object.fromEntries(part.headers), body: Buffer.concat(body).toString('latin1') });
  }
  return parts;
}

/** Each chunking that has a border everywhere at least once. */
async function everyWay(bytes: string, boundary: string) {
  const whole = await read(bytes, boundary);
  for (const sizes of [[1], [2], [3], [5, 1, 7], [64]]) assert.deepEqual(await read(bytes, boundary, sizes), whole);
  return whole;
}

const bodiesOf = (parts: { body: string }[]) => parts.map((part) => part.body);
const rejectsWith = (code: string) => (error: unknown) => error instanceof GantryError && error.code === code;

describe('multipart', () => {
  test('parts, headers, preamble and epilogue', async () => {
    const parts = await everyWay(
      'preamble --b\r\n' +
        '--b\r\nContent-Type: application/dicom\r\nCONTENT-LOCATION:  x\r\n y\r\n\r\none\r\n--b  \t\r\n\r\ntwo\r\n--b--\r\nepilogue\r\n--b\r\n\r\nno part\r\n--b--',
      'b',
    );
    assert.deepEqual(parts, [
      { headers: { 'content-type': 'application/dicom', 'content-location': 'x y' }, body: 'one' },
      { headers: {}, body: 'two' },
    ]);
  });

  test('pixel data may hold CRLFCRLF, dashes and any beginning of a delimiter', async () => {
    const wicked = '\r\n\r\n\r\n--bound\r\n--boundar\r\r\n-\r\n--\r\n--Boundary--boundary\r\n';
    const parts = await everyWay(
      `--boundary\r\n\r\n${wicked}\r\n--boundary\r\n\r\n${wicked}\r\n--boundary--`,
      'boundary',
    );
    assert.deepEqual(bodiesOf(parts), [wicked, wicked]);
  });

  test('line ends of LF alone are read as what they are meant to be', async () => {
    const parts = await everyWay('--b\nContent-Type: a/b\n\none\r\n\n--b\n\ntwo\n--b--\n', 'b');
    assert.deepEqual(parts, [
      { headers: { 'content-type': 'a/b' }, body: 'one\r\n' },
      { headers: {}, body: 'two' },
    ]);
  });

  test('with CRLF line ends, LF before dashes is content', async () => {
    assert.deepEqual(bodiesOf(await everyWay('--b\r\n\r\none\n--b\r\n\r\n--b--', 'b')), ['one\n--b\r\n']);
  });

  test('empty parts, with and without the blank line’s CRLF to themselves', async () => {
    assert.deepEqual(bodiesOf(await everyWay('--b\r\n\r\n\r\n--b\r\nA: b\r\n\r\n--b\r\n\r\n--\r\n--b--', 'b')), [
      '',
      '',
      '--',
    ]);
    assert.deepEqual(await everyWay('--b--', 'b'), []);
  });

  test('a body that ends too early gives its earlier parts, then fails', async () => {
    const whole = '--b\r\nA: b\r\n\r\none\r\n--b\r\nA: b\r\n\r\ntwo\r\n--b--';
    for (let length = 0; length < whole.length; length++) {
      const reader = new MultipartReader(chunksOf(Buffer.from(whole.slice(0, length))), 'b', LIMITS);
      const seen: string[] = [];
      await assert.rejects(async () => {
        for (let part = await reader.next(); part; part = await reader.next()) {
          let body = '';
          for await (const chunk of part.body) body += chunk;
          seen.push(body);
        }
      }, rejectsWith('unparsable'));
      assert.ok(['', 'one', 'one,two'].includes(seen.join()), `${length}: ${seen.join()}`);
    }
  });

  test('what a reader leaves unread is skipped', async () => {
    const reader = new MultipartReader(
      chunksOf(Buffer.from('--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b\r\n\r\nthree\r\n--b--'), [2]),
      'b',
      LIMITS,
    );
    await reader.next();
    const two = await reader.next();
    for await (const _ of two!.body) break;
    let three = '';
    for await (const chunk of (await reader.next())!.body) three += chunk;
    assert.equal(three, 'three');
    assert.equal(await reader.next(), undefined);
    assert.equal(await reader.next(), undefined);
  });

  test('refuses what is no multipart', async () => {
    for (const body of [
      '',
      'no delimiter at all',
      '--b garbage\r\n\r\n--b--',
      '--b\r\nno colon\r\n\r\nx\r\n--b--',
      '--b\r\n: nameless\r\n\r\nx\r\n--b--',
    ])
      await assert.rejects(read(body, 'b'), rejectsWith('unparsable'), body);
    for (const boundary of ['', 'x'.repeat(300), 'a\r\nb', 'ü'])
      await assert.rejects(read('--b--', boundary), rejectsWith('invalid-argument'), boundary);
  });

  test('headers and parts are bounded', async () => {
    const endless = `--b\r\nA: ${'x'.repeat(2000)}`;
    for (const sizes of [[1], [5000]]) await assert.rejects(read(endless, 'b', sizes), rejectsWith('too-large'));
    await assert.rejects(read(`--b\r\n${'A: b\r\n'.repeat(500)}`, 'b'), rejectsWith('too-large'));
    await assert.rejects(read(`--b${' '.repeat(2000)}\r\n`, 'b'), rejectsWith('too-large'));
    await assert.rejects(read('--b\r\n\r\nx\r\n'.repeat(51) + '--b--', 'b'), rejectsWith('too-large'));
  });

  test('any bodies come back as they were written, whatever the chunks', async () => {
    const piece = fc.oneof(
      fc.constantFrom(
        '\r\n',
        '\r',
        '\n',
        '--',
        '-',
        '\r\n--',
        '\r\n--bou',
        '\r\n--bount',
        '\r\n\r\n',
        'boundary',
        '\0',
      ),
      fc.string({ unit: 'binary-ascii', maxLength: 8 }),
    );
    const body = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(''));
    const fits = (text: string) => !`\r\n${text}\r\n`.includes('\r\n--boundary');
    // Until the first delimiter was seen, a line may end with LF alone.
    const isPreamble = (text: string) => !`\n${text}`.includes('\n--boundary');
    await fc.assert(
      fc.asyncProperty(
        fc.array(body.filter(fits), { minLength: 1, maxLength: 5 }),
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 10 }),
        body.filter(isPreamble),
        async (bodies, sizes, around) => {
          const text = `${around}\r\n${bodies.map((one) => `--boundary\r\nContent-Type: x/y\r\n\r\n${one}\r\n`).join('')}--boundary--${around}`;
          assert.deepEqual(bodiesOf(await read(text, 'boundary', sizes)), bodies);
        },
      ),
      { numRuns: 300 },
    );
  });

  test('any bytes at all end in parts or in an error of the list, and never hang', async () => {
    const piece = fc.oneof(
      fc.constantFrom('\r\n--b', '--b--', '--b\r\n', '\r\n', '\n', '\n--b\n', ':', ' ', '\r\n\r\n'),
      fc.string({ maxLength: 6 }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 30 }), fc.integer({ min: 1, max: 30 }), async (pieces, size) => {
        const text = pieces.join('');
        const outcome = async (sizes: number[]) => {
          try {
            return await read(text, 'b', sizes);
          } catch (error) {
            assert.ok(error instanceof GantryError);
            return error.message;
          }
        };
        assert.deepEqual(await outcome([size]), await outcome([text.length || 1]));
      }),
      { numRuns: 500 },
    );
  });
});

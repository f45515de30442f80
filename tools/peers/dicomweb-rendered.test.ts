// What can be shown without a decoder: documents and videos as they are kept; for the rest an honest 406.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { EXPLICIT, JPEG, type Made, make, partsOf, pathOf, stow, VIDEO } from './dicomweb.testing.ts';
import { type GantryServer, startServer } from './server.ts';

const BROWSER = 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8';
const PDF = Buffer.from(`%PDF-1.4\n${'x'.repeat(4000)}\n%%EOF`);

const encapsulated = (bytes: Buffer, type: string, stated = true): Made =>
  make({
    extra: {
      '00420011': { vr: 'OB', InlineBinary: Buffer.concat([bytes, Buffer.alloc(bytes.length & 1)]).toString('base64') },
      '00420012': { vr: 'LO', Value: [type] },
      ...(stated ? { '00420015': { vr: 'UL', Value: [bytes.length] } } : {}),
    },
  });

describe('rendered', { timeout: 2 * 60_000 }, () => {
  let server: GantryServer;
  const pdf = encapsulated(PDF, 'application/pdf');
  const cda = encapsulated(Buffer.from('<ClinicalDocument/>'), 'text/xml');
  const page = encapsulated(Buffer.from('<script>alert(1)</script>'), 'text/html');
  const image = make();
  const jpeg = make({ transferSyntaxUid: JPEG });
  const video = make({ transferSyntaxUid: VIDEO });
  const get = async (path: string, headers: Record<string, string> = {}, method = 'GET') => {
    const answer = await fetch(`${server.dicomWeb}${path}`, { headers, method });
    return { status: answer.status, headers: answer.headers, bytes: Buffer.from(await answer.arrayBuffer()) };
  };

  before(async () => {
    server = await startServer();
    assert.equal(
      (
        await stow(
          server,
          [pdf, cda, page, image, jpeg, video].map(({ bytes }) => bytes),
        )
      ).status,
      200,
    );
  });
  after(() => server?.close());

  test('an encapsulated PDF is application/pdf whatever a browser lists, without its padding, and in ranges', async () => {
    for (const accept of [BROWSER, 'application/pdf', 'text/html', 'image/jpeg', '*/*']) {
      const answer = await get(`${pathOf(pdf)}/rendered`, { Accept: accept });
      assert.deepEqual([answer.status, answer.headers.get('content-type')], [200, 'application/pdf'], accept);
      assert.ok(answer.bytes.equals(PDF));
      assert.match(answer.headers.get('content-security-policy')!, /frame-ancestors 'self'/);
    }
    const part = await get(`${pathOf(pdf)}/rendered`, { Range: 'bytes=0-7' });
    assert.deepEqual([part.status, part.bytes.toString()], [206, '%PDF-1.4']);
    const head = await get(`${pathOf(pdf)}/rendered`, {}, 'HEAD');
    assert.deepEqual([head.status, head.headers.get('content-length')], [200, String(PDF.length)]);
  });

  test('CDA is text/xml in which nothing runs; a document that calls itself HTML is not shown', async () => {
    const answer = await get(`${pathOf(cda)}/rendered`, { Accept: BROWSER });
    assert.deepEqual([answer.status, answer.headers.get('content-type')], [200, 'text/xml']);
    assert.equal(answer.bytes.toString(), '<ClinicalDocument/>');
    assert.match(answer.headers.get('content-security-policy')!, /sandbox/);
    assert.equal(answer.headers.get('x-content-type-options'), 'nosniff');
    assert.equal((await get(`${pathOf(cda)}/rendered`, { Accept: 'image/png' })).status, 406);
    assert.equal((await get(`${pathOf(page)}/rendered`, { Accept: BROWSER })).status, 406);
  });

  test('a video plays: one part, in ranges, as rendered, as bulk and as pixel data; it has no frames apart', async () => {
    const whole = Buffer.from('ffd8first!ffd9ffd8second-ffd9!');
    for (const path of ['/rendered', '/pixeldata', '/bulkdata/7FE00010']) {
      for (const accept of ['*/*', 'video/mp4', 'video/*']) {
        const answer = await get(`${pathOf(video)}${path}`, { Accept: accept });
        assert.equal(answer.status, 200, `${path} ${accept}`);
        assert.match(answer.headers.get('content-type')!, /^video\/mp4/);
        assert.ok(answer.bytes.equals(whole), path);
      }
      // Across the border of two fragments.
      const part = await get(`${pathOf(video)}${path}`, { Range: 'bytes=10-17' });
      assert.deepEqual([part.status, part.bytes.toString()], [206, 'ffd9ffd8'], path);
      assert.equal(part.headers.get('content-range'), `bytes 10-17/${whole.length}`);
    }
    const refused = await get(`${pathOf(video)}/frames/1`);
    assert.equal(refused.status, 406);
    assert.match(refused.bytes.toString(), /video/);
  });

  test('pictures: 406 says why at every level; what is not there is 404', async () => {
    const { study, series } = image;
    for (const base of [
      `/studies/${study}`,
      `/studies/${study}/series/${series}`,
      pathOf(image),
      `${pathOf(image)}/frames/1`,
    ]) {
      for (const kind of ['rendered', 'thumbnail']) {
        const answer = await get(`${base}/${kind}`, { Accept: 'image/jpeg' });
        assert.equal(answer.status, 406, `${base}/${kind}`);
        assert.match(answer.bytes.toString(), /renderer/);
        assert.equal((await get(`${base.replace(study, '1.2.3')}/${kind}`)).status, 404);
      }
    }
  });

  test('pixel data: a part a frame of a compressed image, native as one value', async () => {
    const frames = await get(`${pathOf(jpeg)}/pixeldata`, { Accept: 'multipart/related; type="image/jpeg"' });
    const parts = partsOf(frames.headers.get('content-type')!, frames.bytes);
    assert.deepEqual(
      parts.map(({ bytes }) => bytes.toString()),
      ['ffd8first!ffd9', 'ffd8second-ffd9!'],
    );
    assert.match(parts[1]!.headers, /Content-Location: http.*\/frames\/2$/im);
    assert.equal((await get(`${pathOf(jpeg)}/pixeldata`, { Accept: 'image/jpeg' })).status, 406);
    const native = await get(`${pathOf(image)}/pixeldata`, { Accept: 'application/octet-stream', Range: 'bytes=4-6' });
    assert.deepEqual([native.status, [...native.bytes]], [206, [4, 5, 6]]);
    assert.match(native.headers.get('content-type')!, new RegExp(`transfer-syntax=${EXPLICIT}`));
  });

  test('frames: what clients send in Accept', async () => {
    for (const [accept, type, status] of [
      ['multipart/related; type=application/octet-stream; transfer-syntax=*', /octet-stream/, 200], // OHIF
      ['multipart/related; type="image/jpeg", multipart/related; type="application/octet-stream"', /image\/jpeg/, 200],
      ['multipart/related; type="image/jls", multipart/related; type="image/jpeg"', /image\/jpeg/, 200],
      ['multipart/related; type="image/*"', /image\/jpeg/, 200],
      ['multipart/related; type="image/"', /image\/jpeg/, 200],
      ['multipart/related; type="image/dicom+jpeg"', /image\/jpeg/, 200],
      ['image/png, image/jpeg;q=0.5', /^image\/jpeg/, 200],
      ['*/*', /^multipart/, 200],
      ['multipart/related; type="image/jls"', /json/, 406],
      ['multipart/related; type="application/octet-stream"', /json/, 406], // that is: decoded
    ] as const) {
      const answer = await get(`${pathOf(jpeg)}/frames/1`, { Accept: accept });
      assert.equal(answer.status, status, accept);
      assert.match(answer.headers.get('content-type')!, type, accept);
    }
    // One part cannot hold two frames; the next in the list can.
    const two = 'application/octet-stream, multipart/related; type="application/octet-stream"';
    const answer = await get(`${pathOf(image)}/frames/1,2`, { Accept: two });
    assert.equal(partsOf(answer.headers.get('content-type')!, answer.bytes).length, 2);
    assert.equal((await get(`${pathOf(image)}/frames/1,2`, { Accept: 'application/octet-stream' })).status, 406);
  });
});

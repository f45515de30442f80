// DICOMweb as PS3.18 has it, over a real server: negotiation, ranges, partial answers, deletion.
import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { mintUid } from '#dicom/uids.ts';
import { EXPLICIT, IMPLICIT, JPEG, type Made, make, partsOf, pathOf, stow } from './dicomweb.testing.ts';
import { type GantryServer, startServer } from './server.ts';

describe('DICOMweb', { timeout: 5 * 60_000 }, () => {
  let server: GantryServer;
  let native: Made;
  let jpeg: Made;
  const get = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
    fetch(`${server.dicomWeb}${path}`, { headers, method });
  const bytesOf = async (answer: Response): Promise<Buffer> => Buffer.from(await answer.arrayBuffer());

  before(async () => {
    server = await startServer();
    native = make();
    jpeg = make({ study: native.study, transferSyntaxUid: JPEG });
    const { status } = await stow(server, [native.bytes, jpeg.bytes]);
    assert.equal(status, 200);
  });
  after(() => server?.close());

  test('Accept of an instance: multipart by default, single part when asked, quoted or not', async () => {
    for (const accept of [
      '*/*',
      'multipart/related; type="application/dicom"; transfer-syntax=*',
      'multipart/related;type=application/dicom;transfer-syntax=*',
    ]) {
      const answer = await get(pathOf(native), { Accept: accept });
      assert.equal(answer.status, 200);
      const type = answer.headers.get('content-type')!;
      assert.match(type, /^multipart\/related; type="application\/dicom"; boundary=/);
      const body = await bytesOf(answer);
      assert.equal(body.length, Number(answer.headers.get('content-length')));
      const [part] = partsOf(type, body);
      assert.ok(part!.bytes.equals(native.bytes));
      assert.match(part!.headers, new RegExp(`Content-Type: application/dicom; transfer-syntax=${EXPLICIT}`));
    }
    const single = await get(pathOf(jpeg), { Accept: 'application/dicom; transfer-syntax=*' });
    assert.ok((await bytesOf(single)).equals(jpeg.bytes));
    const byQuery = await get(`${pathOf(jpeg)}?accept=${encodeURIComponent('application/dicom; transfer-syntax=*')}`, {
      Accept: 'text/html',
    });
    assert.ok((await bytesOf(byQuery)).equals(jpeg.bytes));
  });

  test('a wildcard in the subtype takes what it covers, with any parameter (PS3.18 §8.7.5, RFC 9110 §12.5.1)', async () => {
    const answers: [path: string, accept: string, type: RegExp | number][] = [];
    for (const instance of [native, jpeg]) {
      answers.push([pathOf(instance), 'application/*', /^application\/dicom; transfer-syntax=/]);
      answers.push([pathOf(instance), 'multipart/*', /^multipart\/related; type="application\/dicom"/]);
      answers.push([`${pathOf(instance)}/metadata`, 'application/*', /^application\/dicom\+json/]);
      answers.push([`${pathOf(instance)}/frames/1`, 'application/*', /^application\/octet-stream; transfer-syntax=/]);
      answers.push([`${pathOf(instance)}/frames/1,2`, 'multipart/*', /^multipart\/related; type="/]);
      answers.push([`${pathOf(instance)}/frames/1,2`, 'application/*', 406]);
    }
    answers.push([`${pathOf(jpeg)}/frames/1`, 'image/*', /^image\/jpeg; transfer-syntax=/]);
    answers.push([`${pathOf(native)}/frames/1`, 'image/*', 406]);
    answers.push([`/studies/${native.study}`, 'application/*', /^application\/zip$/]);
    answers.push([`/studies/${native.study}`, 'application/*, multipart/*;q=0.5', /^multipart\/related/]);
    answers.push([`/studies/${native.study}`, 'multipart/related; type="application/*"', /^multipart\/related/]);
    answers.push([`/studies/${native.study}`, 'image/*', 406]);
    answers.push(['/studies', 'application/*', /^application\/dicom\+json/]);
    for (const [path, accept, wanted] of answers) {
      const answer = await get(path, { Accept: accept });
      await answer.arrayBuffer();
      if (typeof wanted === 'number') assert.equal(answer.status, wanted, `${path} ${accept}`);
      else {
        assert.equal(answer.status, 200, `${path} ${accept}`);
        assert.match(answer.headers.get('content-type') ?? '', wanted, `${path} ${accept}`);
      }
    }
  });

  test('a wrong method on a known address is 405 and says which it takes (RFC 9110 §15.5.6); an unknown one stays 404', async () => {
    for (const [method, path, allow] of [
      ['DELETE', '/dicom-web/studies', 'GET, HEAD, OPTIONS, POST'],
      ['PUT', `/dicom-web/studies/${native.study}`, 'DELETE, GET, HEAD, OPTIONS, POST'],
      ['POST', `${new URL(server.dicomWeb).pathname}${pathOf(native)}/metadata?x=/`, 'GET, HEAD, OPTIONS'],
      ['POST', `/dicom-web${pathOf(native)}/bulkdata/7FE00010`, 'GET, HEAD, OPTIONS'],
      ['GET', '/api/v1/verify/', 'POST'],
      ['POST', '/api/v1/status', 'GET, HEAD'],
      ['DELETE', '/', 'GET, HEAD'],
      ['POST', '/dicom-web/no/such/thing', undefined],
      ['PATCH', '/dicom-web', undefined],
    ] as const) {
      const answer = await fetch(`${server.origin}${path}`, { method });
      await answer.arrayBuffer();
      assert.equal(answer.headers.get('allow') ?? undefined, allow, `${method} ${path}`);
      assert.equal(answer.status, allow === undefined ? 404 : 405, `${method} ${path}`);
    }
  });

  test('no transfer-syntax means Explicit VR Little Endian: 206 where only some can be given so, 406 where none', async () => {
    const study = await get(`/studies/${native.study}`, { Accept: 'multipart/related; type="application/dicom"' });
    assert.equal(study.status, 206);
    assert.match(study.headers.get('warning')!, /^299 /);
    assert.equal(partsOf(study.headers.get('content-type')!, await bytesOf(study)).length, 1);
    assert.equal((await get(pathOf(jpeg), { Accept: 'application/dicom' })).status, 406);
    assert.equal(
      (await get(pathOf(jpeg), { Accept: 'application/dicom, application/dicom; transfer-syntax=*;q=0.1' })).status,
      200,
    );
    const refused = await get(pathOf(jpeg), { Accept: 'image/png' });
    assert.equal(refused.status, 406);
    assert.equal(((await refused.json()) as { error: string }).error, 'not-acceptable');
  });

  test('an uncompressed instance goes out as Implicit VR Little Endian when asked', async () => {
    const answer = await get(pathOf(native), { Accept: `application/dicom; transfer-syntax=${IMPLICIT}` });
    assert.equal(answer.headers.get('content-type'), `application/dicom; transfer-syntax=${IMPLICIT}`);
    const bytes = await bytesOf(answer);
    // Implicit VR: tag, then a 4-byte length; no VR.
    const at = bytes.indexOf(Buffer.from([0x10, 0x00, 0x10, 0x00]));
    assert.equal(bytes.readUInt32LE(at + 4), 'Curie^Marie '.length);
    assert.equal(bytes.toString('latin1', at + 8, at + 19), 'Curie^Marie');
  });

  test('zip: a file an instance, and unzip agrees', async () => {
    const answer = await get(`/studies/${native.study}`, { Accept: 'application/zip' });
    assert.equal(answer.headers.get('content-type'), 'application/zip');
    const bytes = await bytesOf(answer);
    assert.ok(bytes.includes(native.bytes) && bytes.includes(jpeg.bytes));
    assert.ok(bytes.includes(`${native.study}/${native.series}/${native.instance}.dcm`));
  });

  test('ranges and ETags of a single part (RFC 9110 §13, §14)', async () => {
    const accept = { Accept: 'application/dicom; transfer-syntax=*' };
    const whole = await get(pathOf(native), accept);
    const etag = whole.headers.get('etag')!;
    assert.ok(etag);
    const part = await get(pathOf(native), { ...accept, Range: 'bytes=128-131' });
    assert.equal(part.status, 206);
    assert.equal(part.headers.get('content-range'), `bytes 128-131/${native.bytes.length}`);
    assert.equal((await bytesOf(part)).toString(), 'DICM');
    const tail = await get(pathOf(native), { ...accept, Range: 'bytes=-10' });
    assert.ok((await bytesOf(tail)).equals(native.bytes.subarray(-10)));
    assert.equal((await get(pathOf(native), { ...accept, Range: 'bytes=999999-' })).status, 416);
    assert.equal((await get(pathOf(native), { ...accept, 'If-None-Match': etag })).status, 304);
    assert.equal((await get(pathOf(native), { ...accept, Range: 'bytes=0-1', 'If-Range': '"other"' })).status, 200);
    const head = await get(pathOf(native), accept, 'HEAD');
    assert.equal(head.status, 200);
    assert.equal(Number(head.headers.get('content-length')), native.bytes.length);
  });

  test('frames: several at once, fragments without item tags, past the end 404, nonsense 400', async () => {
    const answer = await get(`${pathOf(jpeg)}/frames/1,2`, {
      Accept: 'multipart/related; type=application/octet-stream; transfer-syntax=*',
    });
    assert.equal(answer.status, 200);
    const parts = partsOf(answer.headers.get('content-type')!, await bytesOf(answer));
    assert.deepEqual(
      parts.map((part) => part.bytes.toString()),
      ['ffd8first!ffd9', 'ffd8second-ffd9!'],
    );
    assert.match(parts[0]!.headers, /Content-Location: .*\/frames\/1/);
    const image = await get(`${pathOf(jpeg)}/frames/1`, { Accept: 'multipart/related; type="image/jpeg"' });
    assert.match(
      partsOf(image.headers.get('content-type')!, await bytesOf(image))[0]!.headers,
      /image\/jpeg; transfer-syntax=1\.2\.840\.10008\.1\.2\.4\.50/,
    );
    const second = await get(`${pathOf(native)}/frames/2`, { Accept: 'application/octet-stream' });
    assert.deepEqual(
      [...(await bytesOf(second))],
      Array.from({ length: 16 }, (_, i) => 16 + i),
    );
    for (const absent of ['3', '999999999999', '1'.repeat(400)])
      assert.equal((await get(`${pathOf(native)}/frames/${absent}`)).status, 404, absent);
    for (const bad of ['0', 'x', '1,,2', '-1'])
      assert.equal((await get(`${pathOf(native)}/frames/${bad}`)).status, 400, bad);
    assert.equal((await get(`${pathOf(jpeg)}/frames/1`, { Accept: 'application/octet-stream' })).status, 406);
  });

  test('bulk data resolves where its BulkDataURI says, inside sequences too', async () => {
    const waveform = Buffer.from(Array.from({ length: 3000 }, (_, i) => i & 0xff));
    const made = make({
      extra: {
        '54000100': { vr: 'SQ', Value: [{ '54001010': { vr: 'OW', InlineBinary: waveform.toString('base64') } }] },
      },
    });
    assert.equal((await stow(server, [made.bytes])).status, 200);
    const [json] = (await (await get(`${pathOf(made)}/metadata`)).json()) as [
      Record<string, { Value?: Record<string, { BulkDataURI?: string }>[] }>,
    ];
    const uri = json['54000100']!.Value![0]!['54001010']!.BulkDataURI!;
    assert.ok(uri.startsWith(server.dicomWeb), uri);
    for (const accept of ['application/octet-stream', '*/*'])
      assert.ok((await bytesOf(await fetch(uri, { headers: { Accept: accept } }))).equals(waveform));
    const part = await fetch(uri, { headers: { Accept: 'application/octet-stream', Range: 'bytes=1-3' } });
    assert.deepEqual([...(await bytesOf(part))], [1, 2, 3]);
    const wrapped = await fetch(uri, { headers: { Accept: 'multipart/related; type="application/octet-stream"' } });
    assert.ok(partsOf(wrapped.headers.get('content-type')!, await bytesOf(wrapped))[0]!.bytes.equals(waveform));
    assert.equal((await get(`${pathOf(made)}/bulkdata/54000100/2/54001010`)).status, 404);
    assert.equal((await get(`${pathOf(made)}/bulkdata/..%2f..%2fetc`)).status, 400);
    const all = await get(`${pathOf(made)}/bulkdata`, { Accept: 'multipart/related; type="application/octet-stream"' });
    assert.ok(partsOf(all.headers.get('content-type')!, await bytesOf(all)).some((one) => one.bytes.equals(waveform)));
    const pixels = await get(`${pathOf(made)}/pixeldata`, {
      Accept: 'multipart/related; type="application/octet-stream"',
    });
    assert.equal(partsOf(pixels.headers.get('content-type')!, await bytesOf(pixels))[0]!.bytes.length, 32);
  });

  test('metadata and searches: JSON, gzip, XML, and 304', async () => {
    const gz = await new Promise<Buffer>((resolve, reject) => {
      httpRequest(
        `${server.dicomWeb}/studies/${native.study}/metadata`,
        { headers: { 'Accept-Encoding': 'gzip' } },
        (answer) => {
          assert.equal(answer.headers['content-encoding'], 'gzip');
          const chunks: Buffer[] = [];
          answer.on('data', (chunk: Buffer) => chunks.push(chunk)).on('end', () => resolve(Buffer.concat(chunks)));
        },
      )
        .on('error', reject)
        .end();
    });
    assert.equal((JSON.parse(gunzipSync(gz).toString()) as unknown[]).length, 2);
    const first = await get(`/studies/${native.study}/metadata`);
    assert.equal(first.headers.get('content-type'), 'application/dicom+json');
    assert.equal(
      (await get(`/studies/${native.study}/metadata`, { 'If-None-Match': first.headers.get('etag')! })).status,
      304,
    );
    const xml = await get(`/studies/${native.study}/metadata`, {
      Accept: 'multipart/related; type="application/dicom+xml"',
    });
    const parts = partsOf(xml.headers.get('content-type')!, await bytesOf(xml));
    assert.equal(parts.length, 2);
    assert.match(
      parts[0]!.bytes.toString(),
      /<DicomAttribute tag="00100010" vr="PN" keyword="PatientName"><PersonName number="1"><Alphabetic><FamilyName>Curie<\/FamilyName>/,
    );
    const found = await get(`/studies?StudyInstanceUID=${native.study}`, {
      Accept: 'multipart/related; type="application/dicom+xml"',
    });
    assert.equal(partsOf(found.headers.get('content-type')!, await bytesOf(found)).length, 1);
    assert.equal((await get(`/studies/${mintUid()}/metadata`)).status, 404);
  });

  test('QIDO-RS: invalid values are 400, unknown parameters a Warning, pages say that they were cut', async () => {
    for (const bad of ['limit=x', 'offset=-1', 'StudyDate=2020-13-99', 'fuzzymatching=maybe', '%E0%A4%A=1']) {
      const answer = await get(`/studies?${bad}`);
      assert.equal(answer.status, 400, bad);
      assert.doesNotMatch(await answer.text(), /2020-13|maybe/);
    }
    const warned = await get('/studies?nosuchparameter=1');
    assert.equal(warned.status, 200);
    assert.match(warned.headers.get('warning')!, /^299 /);
    const none = await get('/studies?PatientID=nobody');
    assert.deepEqual([none.status, await none.text()], [200, '[]']);
    const page = (await (await get('/instances?limit=1')).json()) as unknown[];
    assert.equal(page.length, 1);
    const first = await get('/instances?limit=1&orderby=SOPInstanceUID');
    const next = await get(
      `/instances?limit=1&orderby=SOPInstanceUID&cursor=${encodeURIComponent(first.headers.get('x-next-cursor')!)}`,
    );
    assert.notDeepEqual(await first.json(), await next.json());
    // OHIF's study list, word for word.
    const ohif = await get(
      '/studies?limit=101&offset=0&fuzzymatching=false&includefield=00081030,00080060,00080090,00100030',
    );
    assert.equal(ohif.status, 200);
    for (const row of (await ohif.json()) as Record<string, { Value?: unknown[] }>[])
      assert.ok(row['00080061']!.Value!.length > 0, 'ModalitiesInStudy is never empty');
  });

  test('STOW-RS: partial failures with their reasons, the study of the path, the wrong Content-Type', async () => {
    const good = make();
    const broken = make();
    const mixed = await stow(server, [
      good.bytes,
      broken.bytes.subarray(0, broken.bytes.length - 10),
      Buffer.from('no dicom'),
    ]);
    assert.equal(mixed.status, 202);
    assert.equal(mixed.json['00081199']!.Value!.length, 1);
    assert.match(String(mixed.json['00081199']!.Value![0]!['00081190']!.Value![0]), new RegExp(`${good.instance}$`));
    const other = await stow(server, [make().bytes], `/studies/${mintUid()}`);
    assert.equal(other.status, 409);
    assert.equal(other.json['00081198']!.Value![0]!['00081197']!.Value![0], 0xa900);
    assert.equal((await stow(server, [], '/studies', { 'Content-Type': 'text/plain' })).status, 415);
    assert.equal((await fetch(`${server.dicomWeb}/studies`, { method: 'POST' })).status, 415);
  });

  test('DELETE moves to the trash, restore brings back, what arrives again is live, purge ends it', async () => {
    const made = make();
    const sibling = make({ study: made.study, series: made.series });
    assert.equal((await stow(server, [made.bytes, sibling.bytes])).status, 200);
    assert.equal((await get(pathOf(made), {}, 'DELETE')).status, 204);
    assert.equal((await get(pathOf(made))).status, 404);
    assert.equal((await get(pathOf(sibling))).status, 200);
    assert.equal((await get(`/studies/${made.study}`, {}, 'DELETE')).status, 204);
    assert.equal((await get(`/studies/${made.study}`)).status, 404);
    assert.equal((await get(`/studies/${made.study}`, {}, 'DELETE')).status, 404);
    const trash = (await (await fetch(`${server.origin}/api/v1/trash`)).json()) as {
      studies: { studyInstanceUid: string; instances: number }[];
    };
    assert.equal(trash.studies.find((one) => one.studyInstanceUid === made.study)!.instances, 2);
    assert.equal((await fetch(`${server.origin}/api/v1/trash/${made.study}/restore`, { method: 'POST' })).status, 200);
    assert.ok(
      (await bytesOf(await get(pathOf(made), { Accept: 'application/dicom; transfer-syntax=*' }))).equals(made.bytes),
    );
    await get(`/studies/${made.study}`, {}, 'DELETE');
    assert.equal((await stow(server, [made.bytes])).status, 200);
    assert.equal((await get(pathOf(made))).status, 200);
    assert.equal((await get(pathOf(sibling))).status, 404);
    assert.equal((await fetch(`${server.origin}/api/v1/trash/${made.study}`, { method: 'DELETE' })).status, 200);
    assert.equal((await fetch(`${server.origin}/api/v1/trash/${made.study}/restore`, { method: 'POST' })).status, 404);
  });

  test('WADO-URI', async () => {
    const base = `${server.origin}/wado?requestType=WADO&studyUID=${native.study}&seriesUID=${native.series}&objectUID=${native.instance}`;
    assert.ok((await bytesOf(await fetch(`${base}&contentType=application/dicom`))).equals(native.bytes));
    assert.equal((await fetch(base)).status, 406);
    // Who asks for it to be de-identified must not be given names; a character set changes nothing in application/dicom.
    assert.equal((await fetch(`${base}&contentType=application/dicom&anonymize=yes`)).status, 406);
    assert.equal((await fetch(`${base}&contentType=application/dicom&charset=UTF-8`)).status, 200);
    assert.equal((await fetch(`${base}&contentType=application/dicom&transferSyntax=${JPEG}`)).status, 406);
    assert.equal((await fetch(`${server.origin}/wado?requestType=WADO`)).status, 400);
    assert.equal(
      (
        await fetch(
          `${server.origin}/wado?requestType=WADO&studyUID=1&seriesUID=2&objectUID=3&contentType=application/dicom`,
        )
      ).status,
      404,
    );
  });

  test('HEAD is GET without the body, everywhere', async () => {
    const octets = 'application/octet-stream';
    for (const [path, accept] of [
      ['/studies', '*/*'],
      ['/studies', 'multipart/related; type="application/dicom+xml"'],
      ['/studies?nosuch=1&limit=1', '*/*'],
      [`/studies/${native.study}/series`, 'application/json'],
      [`/studies/${native.study}`, '*/*'],
      [`/studies/${native.study}`, 'application/zip'],
      [`/studies/${native.study}/metadata`, '*/*'],
      [`/studies/${native.study}/metadata`, 'multipart/related; type="application/dicom+xml"'],
      [pathOf(native), 'application/dicom'],
      [pathOf(native), `application/dicom; transfer-syntax=${IMPLICIT}`],
      [pathOf(jpeg), 'application/dicom'],
      [`${pathOf(native)}/frames/1`, octets],
      [`${pathOf(native)}/frames/1,2`, '*/*'],
      [`${pathOf(native)}/frames/9`, octets],
      [`${pathOf(native)}/pixeldata`, octets],
      [`${pathOf(native)}/bulkdata`, octets],
      [`${pathOf(native)}/rendered`, '*/*'],
      ['/studies/1.2.3', '*/*'],
    ] as const) {
      const [got, head] = [await get(path, { Accept: accept }), await get(path, { Accept: accept }, 'HEAD')];
      const body = await bytesOf(got);
      assert.equal(head.status, got.status, `${path} ${accept}`);
      assert.equal((await bytesOf(head)).length, 0);
      const plain = (type: string | null) => type?.replace(/boundary=.*/, '');
      assert.equal(plain(head.headers.get('content-type')), plain(got.headers.get('content-type')), path);
      for (const name of ['etag', 'warning', 'vary'])
        assert.equal(head.headers.get(name), got.headers.get(name), `${name} of ${path}`);
      const length = head.headers.get('content-length');
      // An error names its request, and those are as long as each other.
      if (length !== null && got.headers.get('content-encoding') === null)
        assert.equal(Number(length), body.length, `${path} ${accept}`);
    }
  });

  test('OPTIONS says what is served (PS3.18 §8.9)', async () => {
    const answer = await get('/', {}, 'OPTIONS');
    assert.equal(answer.status, 200);
    assert.match(await answer.text(), /<resource path="studies\/\{study\}\/metadata"><method name="GET"\/>/);
  });

  test('a UID that is a step in a path is refused: an address of the instance would name the study', async () => {
    for (const uid of ['.', '..']) {
      const { status, json } = await stow(server, [make({ series: uid }).bytes]);
      assert.equal(status, 409);
      assert.equal(json['00081198']!.Value![0]!['00081197']!.Value![0], 0xa900);
    }
  });

  test('hostile paths and UIDs find nothing and break nothing', async () => {
    for (const uid of [
      '..%2f..%2fetc%2fpasswd',
      '%00',
      "'%20OR%201=1--",
      'x'.repeat(2000),
      '1.2.3%0d%0aX-Evil:1',
      '%F0%9F%92%A3',
    ]) {
      const answer = await get(`/studies/${uid}/metadata`);
      assert.ok([400, 404].includes(answer.status), `${uid}: ${answer.status}`);
      assert.equal(answer.headers.get('x-evil'), null);
    }
  });
});

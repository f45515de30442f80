import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { DataSet } from '#dicom/dataset.ts';
import { decodeHead } from '#dicom/head.ts';
import {
  closeHouse,
  context,
  failed,
  house,
  instance,
  multipart,
  status,
  storage,
  stored,
  stow,
} from './house.testing.ts';
import { CT, chunked, pixels } from './sample.testing.ts';

afterEach(closeHouse);

describe('metadata and bulk data', () => {
  const JSON_TYPE = 'multipart/related; type="application/dicom+json"; boundary=XX';
  const XML_TYPE = 'multipart/related; type="application/dicom+xml"; boundary=XX';
  const modelOf = (n: number, more: object = {}) => ({
    '00020010': { vr: 'UI', Value: ['1.2.840.10008.1.2'] },
    '00080005': { vr: 'CS', Value: ['ISO_IR 192'] },
    '00080016': { vr: 'UI', Value: [CT] },
    '00080018': { vr: 'UI', Value: [`1.2.3.${n}`] },
    '00100010': { vr: 'PN', Value: [{ Alphabetic: 'Müller^Jörg' }] },
    '0020000D': { vr: 'UI', Value: ['1.2.3'] },
    '0020000E': { vr: 'UI', Value: ['1.2.3.1'] },
    '00280008': { vr: 'IS' },
    ...more,
  });
  const json = (...models: object[]) => ({ type: 'application/dicom+json', body: Buffer.from(JSON.stringify(models)) });
  const bulkUri = (uri: string, vr = 'OW') => ({ '7FE00010': { vr, BulkDataURI: uri } });
  const octets = (location: string, body: Buffer) => ({ type: 'application/octet-stream', location, body });
  const keptOf = (sopInstanceUid: string) => {
    const { file, instance } = storage.kept.find(({ instance }) => instance.sopInstanceUid === sopInstanceUid)!;
    const buffer = file.subarray(instance.dataSetOffset);
    const place = decodeHead(instance.head).pixel;
    return {
      instance,
      file,
      elements: new DataSet({ buffer, transferSyntaxUid: instance.transferSyntaxUid }),
      pixels: place && buffer.subarray(place.offset, place.offset + place.length),
    };
  };
  const spooled = async () => {
    const text = await context.metrics.expose();
    return [...text.matchAll(/^gantry_ingest_stow_spool_bytes\{[^}]*\} (\d+)/gm)].map(([, value]) => Number(value));
  };

  test('ten times the instances and parts are ten times the work, not a hundred times', async () => {
    await house({ settings: { 'ingest.stowParts': 10_000 } });
    const looksOf = async (count: number): Promise<number> => {
      const numbers = Array.from({ length: count }, (_, n) => n + 1);
      const body = multipart([
        json(...numbers.map((n) => modelOf(n, bulkUri(`bulk/${n}`)))),
        // The last first: what waits longest is asked for last.
        ...numbers.toReversed().map((n) => octets(`bulk/${n}`, pixels(16))),
      ]);
      // Whether an instance needs a part is asked of a set: the question whose number grew with both.
      let looks = 0;
      const { has } = Set.prototype;
      Set.prototype.has = function (value) {
        looks++;
        return has.call(this, value);
      };
      const answer = await stow(chunked(body, 1 << 20), JSON_TYPE).finally(() => {
        Set.prototype.has = has;
      });
      assert.deepEqual([answer.error, answer.stored], ['', count]);
      return looks;
    };
    const [few, many] = [await looksOf(40), await looksOf(400)];
    assert.ok(many < 20 * few, `${few} looks for 40 instances, ${many} for 400`);
  });

  for (const overGrpc of [false, true])
    test(`instances are put together from their parts${overGrpc ? ', over HTTP' : ''}`, async () => {
      await house({ overGrpc, settings: { 'ingest.stowBulkBytes': 100_000 } });
      const small = pixels(2001);
      const large = pixels(3_000_000);
      const body = multipart([
        json(
          modelOf(1, bulkUri('bulk/1')),
          modelOf(2, bulkUri('http://client/bulk/2')),
          modelOf(3, { '7FE00010': { vr: 'OW', InlineBinary: small.toString('base64') } }),
          modelOf(4, { '00400555': { vr: 'SQ', Value: [{ '54001010': { vr: 'OB', BulkDataURI: 'bulk/1' } }] } }),
          modelOf(5),
        ),
        octets('http://client/bulk/2', large),
        octets('bulk/unasked', small),
        octets('bulk/1', small),
      ]);
      for (const size of [501, 5_000_000]) {
        storage.kept.length = 0;
        const answer = await stow(chunked(body, size), JSON_TYPE);
        assert.deepEqual([answer.error, answer.stored, answer.failed], ['', 5, 0]);
        assert.deepEqual(
          answer.json['00081199'].Value,
          [1, 2, 3, 4, 5].map((n) => stored(`1.2.3.${n}`)),
        );
        const padded = Buffer.concat([small, Buffer.alloc(1)]);
        assert.deepEqual(keptOf('1.2.3.1').pixels!, padded);
        assert.deepEqual(keptOf('1.2.3.2').pixels!, large);
        assert.deepEqual(keptOf('1.2.3.3').pixels!, padded);
        assert.deepEqual(keptOf('1.2.3.4').elements.items(0x00400555)[0]!.get(0x54001010)!.bytes, padded);
        for (const { instance } of storage.kept) assert.equal(instance.transferSyntaxUid, '1.2.840.10008.1.2.1');
        assert.equal(keptOf('1.2.3.5').elements.string(0x00100010), 'Müller^Jörg');
      }
      assert.deepEqual(await spooled(), [0, 0], 'nothing is left waiting');
    });

  test('compressed pixel data: a fragment a part, in the syntax that the part says', async () => {
    await house();
    const frames = [pixels(1000), pixels(501), pixels(700)];
    const answer = await stow(
      [
        multipart([
          json(modelOf(1, { ...bulkUri('f'), '00280008': { vr: 'IS', Value: [3] } }), modelOf(2, bulkUri('g'))),
          ...frames.map((body) => ({ type: 'image/jp2; transfer-syntax=1.2.840.10008.1.2.4.91', location: 'f', body })),
          { type: 'image/jls', location: 'g', body: frames[0]! },
        ]),
      ],
      JSON_TYPE,
    );
    assert.equal(answer.stored, 2);
    const { instance, file } = keptOf('1.2.3.1');
    assert.equal(instance.transferSyntaxUid, '1.2.840.10008.1.2.4.91');
    const { pixel } = decodeHead(instance.head);
    assert.deepEqual(pixel!.fragments, [1000, 502, 700]);
    assert.ok(file.includes(frames[2]!));
    assert.equal(keptOf('1.2.3.2').instance.transferSyntaxUid, '1.2.840.10008.1.2.4.80');
  });

  test('an instance whose part is missing, or that cannot be written, fails alone', async () => {
    await house();
    const answer = await stow(
      [
        multipart([
          json(
            modelOf(1, bulkUri('missing')),
            modelOf(2, bulkUri('there')),
            modelOf(3, { '00280010': { vr: 'US', Value: ['many'] } }),
            { '00080018': { vr: 'UI', Value: ['1.2.3.4'] } },
          ),
          octets('there', pixels(100)),
        ]),
      ],
      JSON_TYPE,
    );
    assert.deepEqual([answer.error, answer.stored, answer.failed], ['', 1, 3]);
    assert.deepEqual(answer.json['00081198'].Value, [failed('1.2.3.1', 0xc000), failed('1.2.3.3', 0xc000)]);
    assert.deepEqual(answer.json['0008119A'].Value, [{ '00081197': { vr: 'US', Value: [0xa900] } }]);
    const { refused } = await status();
    assert.equal(refused, 3);
  });

  test('a body that breaks off within a bulk data part fails what waits for it', async () => {
    await house();
    const whole = multipart([json(modelOf(1, bulkUri('a')), modelOf(2)), octets('a', pixels(100_000))]);
    const answer = await stow([whole.subarray(0, -50_000)], JSON_TYPE);
    assert.deepEqual([answer.stored, answer.failed], [1, 1]);
    assert.deepEqual(answer.json['00081198'].Value, [failed('1.2.3.1', 0xc000)]);
    assert.deepEqual(await spooled(), [0, 0]);
  });

  test('metadata that is none refuses the request', async () => {
    await house({ settings: { 'ingest.stowMetadataBytes': 10_000, 'ingest.stowParts': 3 } });
    for (const [part, error] of [
      [{ type: 'application/dicom+json', body: Buffer.from('{') }, 'invalid-argument'],
      [{ type: 'application/dicom+json', body: Buffer.from('[1]') }, 'invalid-argument'],
      [{ type: 'application/dicom+json', body: Buffer.from('[]') }, 'invalid-argument'],
      [{ type: 'application/dicom', body: instance(1) }, 'unsupported-media-type'],
      [{ type: 'application/dicom+json', body: Buffer.alloc(20_000, 0x20) }, 'too-large'],
      [json(modelOf(1), modelOf(2), modelOf(3), modelOf(4)), 'too-large'],
    ] as const) {
      const answer = await stow([multipart([part])], JSON_TYPE);
      assert.deepEqual([answer.error, answer.stored, answer.json], [error, 0, undefined]);
      assert.doesNotMatch(answer.errorMessage, /ller/);
    }
    assert.deepEqual(storage.kept, []);
  });

  test('metadata alone, without multipart', async () => {
    await house();
    const answer = await stow([json(modelOf(1)).body], 'application/dicom+json');
    assert.equal(answer.stored, 1);
  });

  test('bulk data parts beyond ingest.stowSpoolBytes fail their instance alone', async () => {
    await house({ settings: { 'ingest.stowBulkBytes': 1000, 'ingest.stowSpoolBytes': 50_000 } });
    const body = multipart([
      json(modelOf(1, bulkUri('a')), modelOf(2, bulkUri('b'))),
      octets('a', pixels(60_000)),
      octets('b', pixels(40_000)),
    ]);
    const answer = await stow(chunked(body, 10_000), JSON_TYPE);
    assert.deepEqual([answer.error, answer.stored, answer.failed], ['', 1, 1]);
    assert.deepEqual(answer.json['00081198'].Value, [failed('1.2.3.1', 0xa700)]);
    assert.deepEqual(await spooled(), [0, 0]);
  });

  test('XML: a part an instance', async () => {
    await house();
    const xml = (n: number) => ({
      type: 'application/dicom+xml; charset=utf-8',
      body: Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>
        <NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">
          <DicomAttribute tag="00080016" vr="UI" keyword="SOPClassUID"><Value number="1">${CT}</Value></DicomAttribute>
          <DicomAttribute tag="00080018" vr="UI"><Value number="1">1.2.3.${n}</Value></DicomAttribute>
          <DicomAttribute tag="00100010" vr="PN"><PersonName number="1"><Alphabetic><FamilyName>M&#xFC;ller</FamilyName><GivenName>J&amp;rg</GivenName></Alphabetic></PersonName></DicomAttribute>
          <DicomAttribute tag="0020000D" vr="UI"><Value number="1">1.2.3</Value></DicomAttribute>
          <DicomAttribute tag="0020000E" vr="UI"><Value number="1">1.2.3.1</Value></DicomAttribute>
          <DicomAttribute tag="7FE00010" vr="OW"><BulkData uri="pixels/${n}"/></DicomAttribute>
        </NativeDicomModel>`),
    });
    const broken = { type: 'application/dicom+xml', body: Buffer.from('<NativeDicomModel>') };
    const answer = await stow(
      [multipart([xml(1), xml(2), broken, octets('pixels/2', pixels(10)), octets('pixels/1', pixels(20))])],
      XML_TYPE,
    );
    assert.deepEqual([answer.error, answer.errorMessage, answer.stored, answer.failed], ['', '', 2, 1]);
    assert.equal(keptOf('1.2.3.1').elements.string(0x00100010), 'Müller^J&rg');
    assert.equal(keptOf('1.2.3.1').pixels!.length, 20);
    assert.equal(keptOf('1.2.3.2').pixels!.length, 10);
  });
});

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { DataSet } from './dataset.ts';
import { elementToJson, type JsonDataSet, toJson, toJsonText } from './json.ts';
import { fromJson } from './json-read.ts';
import { skim } from './skim.ts';
import {
  BIG_ENDIAN,
  EXPLICIT,
  EXPLICIT_BE,
  EXPLICIT_LE,
  element,
  IMPLICIT,
  item,
  openFiles,
  sequence,
} from './test-kit.ts';
import { encodeDataSet, encodeDataSetPieces } from './write.ts';

const json = (...elements: Buffer[]): JsonDataSet => toJson(new DataSet(skim(Buffer.concat(elements), EXPLICIT)));
const one = (vr: string, value: Buffer | string): unknown => json(element(0x00091000, vr, value))['00091000']?.Value;

describe('the DICOM JSON model (PS3.18 Annex F)', () => {
  it('an empty attribute carries only vr, an empty value among others is null, an empty item is {}', () => {
    assert.deepEqual(
      json(element(0x00080050, 'SH', ''), element(0x00081140, 'SQ', ''), element(0x7fe00010, 'OW', '')),
      {
        '00080050': { vr: 'SH' },
        '00081140': { vr: 'SQ' },
        '7FE00010': { vr: 'OW' },
      },
    );
    assert.deepEqual(json(element(0x00080050, 'SH', '  ')), { '00080050': { vr: 'SH' } });
    assert.deepEqual(one('CS', 'A\\\\B'), ['A', null, 'B']);
    assert.deepEqual(one('DS', '1\\\\2 '), [1, null, 2]);
    assert.deepEqual(one('PN', 'A^B\\\\C'), [{ Alphabetic: 'A^B' }, null, { Alphabetic: 'C' }]);
    assert.deepEqual(json(sequence(0x00081140, [item(Buffer.alloc(0))])), { '00081140': { vr: 'SQ', Value: [{}] } });
  });
  it('PN is an object of the groups that are there', () => {
    assert.deepEqual(one('PN', 'A^B=C=D '), [{ Alphabetic: 'A^B', Ideographic: 'C', Phonetic: 'D' }]);
    assert.deepEqual(one('PN', '==D '), [{ Phonetic: 'D' }]);
    // Leading spaces are no padding of names (PS3.5 Table 6.2-1).
    assert.deepEqual(one('PN', ' A^B\\ C= D '), [{ Alphabetic: ' A^B' }, { Alphabetic: ' C', Ideographic: ' D' }]);
    assert.equal(one('PN', '  '), undefined);
  });
  it('IS and DS are numbers where the number says the same, else strings', () => {
    assert.deepEqual(one('IS', '42\\-7\\+1\\1A\\99999999999999999999'), [42, -7, 1, '1A', '99999999999999999999']);
    assert.deepEqual(one('DS', '1.50\\-1e3\\0.1\\abc\\123456789012345678\\1e999\\.5'), [
      1.5,
      -1000,
      0.1,
      'abc',
      '123456789012345678',
      '1e999',
      0.5,
    ]);
    assert.deepEqual(one('DS', '0.30000000000000004'), [0.30000000000000004]);
  });
  it('numbers: AT as hex, NaN and infinities as strings, 64 bits as numbers only while exact', () => {
    assert.deepEqual(json(element(0x00280009, 'AT', Buffer.from('1800631018000693', 'hex')))['00280009']?.Value, [
      '00181063',
      '00189306',
    ]);
    const floats = Buffer.alloc(32);
    for (const [n, value] of [1.5, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY].entries())
      floats.writeDoubleLE(value, n * 8);
    assert.deepEqual(one('FD', floats), [1.5, 'NaN', 'Infinity', '-Infinity']);
    const big = Buffer.alloc(16);
    big.writeBigUInt64LE(2n ** 63n, 0);
    big.writeBigUInt64LE(7n, 8);
    assert.deepEqual(one('UV', big), ['9223372036854775808', 7]);
    assert.deepEqual(one('US', Buffer.from([1, 2, 3])), [0x0201]); // a half number is none
  });
  it('text is UTF-8, and SpecificCharacterSet says so; NULs and control characters do no harm', () => {
    const text = toJsonText(
      new DataSet(
        skim(
          Buffer.concat([
            element(0x00080005, 'CS', 'ISO_IR 144'),
            element(0x00100020, 'LO', Buffer.from([0xbb, 0xee, 0x22, 0x01])),
            element(0x0020000d, 'UI', '1.2\0'),
          ]),
          EXPLICIT,
        ),
      ),
    );
    assert.deepEqual(JSON.parse(text), {
      '00080005': { vr: 'CS', Value: ['ISO_IR 192'] },
      '00100020': { vr: 'LO', Value: ['Лю"\u0001'] },
      '0020000D': { vr: 'UI', Value: ['1.2'] },
    });
  });
  it('no group lengths, no file meta; attributes in order, each once', () => {
    const dataSet = Buffer.concat([
      element(0x00100000, 'UL', Buffer.alloc(4)),
      element(0x00100020, 'LO', 'P1'),
      element(0x00080050, 'SH', 'A1'),
      element(0x00100020, 'LO', 'P2'),
    ]);
    assert.deepEqual(Object.entries(json(dataSet)), [
      ['00080050', { vr: 'SH', Value: ['A1'] }],
      ['00100020', { vr: 'LO', Value: ['P1'] }],
    ]);
  });
  it('small binary inline, in little endian; cut values as BulkDataURI, in sequences too', () => {
    const bytes = Buffer.from([1, 2, 3, 4]);
    assert.deepEqual(one('OW', bytes), undefined);
    assert.equal(json(element(0x00091000, 'OW', bytes))['00091000']?.InlineBinary, 'AQIDBA==');
    const swapped = toJson(
      new DataSet(
        skim(
          Buffer.concat([element(0x00080050, 'SH', '', EXPLICIT_BE), element(0x00091000, 'OW', bytes, EXPLICIT_BE)]),
          BIG_ENDIAN,
        ),
      ),
    );
    assert.equal(swapped['00091000']?.InlineBinary, 'AgEEAw==');
    const waveform = element(0x54001010, 'OW', Buffer.alloc(4000));
    const head = skim(
      Buffer.concat([
        sequence(0x54000100, [item(Buffer.alloc(0)), item(waveform)]),
        element(0x7fe00010, 'OW', Buffer.alloc(10)),
      ]),
      EXPLICIT,
    );
    const model = toJson(new DataSet(head), {
      bulkDataUri: (path, cut) => `${path.join('/')}@${cut.offset}+${cut.length}`,
    });
    assert.deepEqual(model, {
      '54000100': {
        vr: 'SQ',
        Value: [{}, { '54001010': { vr: 'OW', BulkDataURI: `${0x54000100}/1/${0x54001010}@40+4000` } }],
      },
      '7FE00010': { vr: 'OW', BulkDataURI: `${0x7fe00010}@4052+10` },
    });
    assert.deepEqual(toJson(new DataSet(head)), { '54000100': { vr: 'SQ', Value: [{}, {}] } });
  });
  it('only what is asked for', () => {
    const dataSet = new DataSet(
      skim(Buffer.concat([element(0x00080050, 'SH', 'A1'), element(0x00100020, 'LO', 'P1')]), EXPLICIT),
    );
    assert.deepEqual(toJson(dataSet, { only: new Set([0x00100020]) }), { '00100020': { vr: 'LO', Value: ['P1'] } });
    assert.deepEqual(elementToJson(dataSet.get(0x00080050)!), { vr: 'SH', Value: ['A1'] });
  });
});

describe('writing', () => {
  const model: JsonDataSet = {
    '00100010': { vr: 'PN', Value: [{ Alphabetic: 'Yamada^Tarou', Ideographic: '山田^太郎' }] },
    '00080018': { vr: 'UI', Value: ['2.25.1'] },
    '00280009': { vr: 'AT', Value: ['00181063'] },
    '00280010': { vr: 'US', Value: [512] },
    '00189073': { vr: 'FD', Value: [1.5, 'NaN'] },
    '00201206': { vr: 'IS', Value: [3, '4'] },
    '00281053': { vr: 'DS', Value: [0.1, 1 / 3, null] },
    '00400275': { vr: 'SQ', Value: [{ '00400009': { vr: 'SH', Value: ['SPS'] } }, {}] },
    '00091001': { vr: 'UN', InlineBinary: 'AQI=' },
    '00080050': { vr: 'SH' },
    '0008001A': { vr: 'UV', Value: ['9223372036854775808'] },
  };
  it('sorted, padded, the same each time, read back the same', () => {
    for (const uid of [EXPLICIT, IMPLICIT]) {
      const bytes = encodeDataSet(model, { transferSyntaxUid: uid });
      assert.deepEqual(
        encodeDataSet(Object.fromEntries(Object.entries(model).reverse()), { transferSyntaxUid: uid }),
        bytes,
      );
      assert.equal(bytes.length % 2, 0);
      const dataSet = new DataSet({ buffer: bytes, transferSyntaxUid: uid });
      const tags = dataSet.elements.map((one) => one.tag);
      assert.deepEqual(
        tags,
        [...tags].sort((a, b) => a - b),
      );
      const back = toJson(dataSet);
      assert.deepEqual(back['00100010'], model['00100010']);
      assert.deepEqual(back['00400275'], model['00400275']);
      assert.deepEqual(back['00280010'], model['00280010']);
      assert.deepEqual(back['00281053'], { vr: 'DS', Value: [0.1, 0.33333333333333, null] });
      assert.deepEqual(back['00080005'], { vr: 'CS', Value: ['ISO_IR 192'] });
    }
  });
  it('in the wished character set when it can carry every text, else in ISO_IR 192; (0008,0005) is true', () => {
    const charsetOfAnswer = (charset: string | undefined, text: string): string[] => {
      const bytes = encodeDataSet(
        { '00100010': { vr: 'PN', Value: [{ Alphabetic: text }] } },
        { transferSyntaxUid: EXPLICIT, charset },
      );
      const dataSet = new DataSet({ buffer: bytes, transferSyntaxUid: EXPLICIT });
      assert.equal(dataSet.string(0x00100010), text);
      return dataSet.strings(0x00080005);
    };
    assert.deepEqual(charsetOfAnswer('ISO_IR 100', 'Müller'), ['ISO_IR 100']);
    assert.deepEqual(charsetOfAnswer('ISO_IR 100', '山田'), ['ISO_IR 192']);
    assert.deepEqual(charsetOfAnswer('\\ISO 2022 IR 87', '山田'), ['', 'ISO 2022 IR 87']);
    assert.deepEqual(charsetOfAnswer(undefined, 'Mueller'), []);
    assert.deepEqual(charsetOfAnswer(undefined, 'Müller'), ['ISO_IR 192']);
  });
  it('bulk by reference, padded; encapsulated fragments', () => {
    const pieces = encodeDataSetPieces(
      fromJson({ '7FE00010': { vr: 'OB', BulkDataURI: 'cid:1' } }, { bulk: (uri) => ({ length: 5, source: uri }) }),
      { transferSyntaxUid: EXPLICIT },
    );
    assert.deepEqual(pieces.slice(1), [{ length: 5, source: 'cid:1' }, Buffer.alloc(1)]);
    assert.equal((pieces[0] as Buffer).readUInt32LE(8), 6);
    const bytes = encodeDataSet([{ tag: 0x7fe00010, vr: 'OB', fragments: [Buffer.from('abc'), Buffer.from('de')] }], {
      transferSyntaxUid: '1.2.840.10008.1.2.4.50',
    });
    assert.deepEqual(skim(bytes, '1.2.840.10008.1.2.4.50').pixel?.fragments, [4, 2]);
  });
  it('refuses models that are none', () => {
    for (const wrong of [
      'x',
      { '00100010': 'x' },
      { nonsense: { vr: 'PN' } },
      { '00100010': { vr: 'ZZ' } },
      { '00100010': { vr: 'PN', Value: 'x' } },
      { '00280010': { vr: 'US', Value: ['x'] } },
      { '00280010': { vr: 'US', Value: [70000] } },
      { '00280010': { vr: 'US', Value: [null] } },
      { '00280009': { vr: 'AT', Value: ['zz'] } },
      { '7FE00010': { vr: 'OB', BulkDataURI: 'cid:none' } },
      { '00091001': { vr: 'UN', InlineBinary: '***' } },
      { '00100020': { vr: 'LO', Value: [{}] } },
      { '00080060': { vr: 'CS', Value: ['Ж'] } },
    ]) {
      assert.throws(
        () => encodeDataSet(wrong as unknown as JsonDataSet, { transferSyntaxUid: EXPLICIT }),
        { reason: 'bad-model' },
        JSON.stringify(wrong),
      );
    }
    let deep: unknown = {};
    for (let n = 0; n < 100_000; n++) deep = { '00400275': { vr: 'SQ', Value: [deep] } };
    assert.throws(() => fromJson(deep), { reason: 'too-deep' });
  });
});

it('any skimmable bytes make JSON that parses', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.tuple(
          fc.constantFrom('PN', 'DS', 'IS', 'UI', 'FD', 'US', 'AT', 'LT', 'UN', 'OB', 'SV', 'UR', 'UC'),
          fc.uint8Array({ maxLength: 40 }),
        ),
        { maxLength: 10 },
      ),
      (values) => {
        const dataSet = Buffer.concat([
          element(0x00080005, 'CS', '\\ISO 2022 IR 87'),
          ...values.map(([vr, value], n) => element(0x00091000 + n, vr, Buffer.from(value), EXPLICIT_LE)),
        ]);
        JSON.parse(toJsonText(new DataSet(skim(dataSet, EXPLICIT))));
      },
    ),
    { numRuns: 500 },
  );
});

function withoutCharset(model: JsonDataSet): void {
  delete model['00080005'];
  for (const { vr, Value } of Object.values(model))
    if (vr === 'SQ') for (const one of Value ?? []) withoutCharset(one as JsonDataSet);
}

it('the real files: JSON, written and read again, is the same JSON', { skip: openFiles().length === 0 }, () => {
  let compared = 0;
  for (const file of openFiles()) {
    if (/truncated|no_meta\.dcm/.test(file.path)) continue;
    const { bytes, transferSyntaxUid } = file.dataSet();
    const model = toJson(new DataSet(skim(bytes, transferSyntaxUid)));
    let written: Buffer;
    try {
      written = encodeDataSet(model, { transferSyntaxUid: EXPLICIT });
    } catch (error) {
      // Values that are none in their VR (badVR.dcm …) cannot be written again; everything else can.
      assert.match(file.path, /badVR/, `${file.path}: ${String(error)}`);
      continue;
    }
    const back = toJson(new DataSet({ buffer: written, transferSyntaxUid: EXPLICIT }));
    // Where the text was not ASCII the set is now stated, once, at the top; odd binary is padded.
    withoutCharset(model);
    withoutCharset(back);
    const odd = JSON.stringify(model)
      .match(/"InlineBinary":"[^"]*"/g)
      ?.some((binary) => Buffer.from(binary.slice(16, -1), 'base64').length % 2);
    if (!odd) assert.deepEqual(back, model, file.path);
    compared++;
  }
  assert.ok(compared > 330);
});

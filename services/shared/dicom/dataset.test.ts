import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { describe, it } from 'node:test';
import type * as DicomParser from 'dicom-parser';
import { DataSet, privateCreatorOf } from './dataset.ts';
import { skim } from './skim.ts';
import {
  BIG_ENDIAN,
  EXPLICIT,
  EXPLICIT_BE,
  EXPLICIT_LE,
  element,
  IMPLICIT,
  IMPLICIT_LE,
  identity,
  item,
  openFiles,
  openItem,
  openSequence,
  sequence,
} from './test-kit.ts';

const dicomParser = createRequire(import.meta.url)('dicom-parser') as typeof DicomParser;
const read = (buffer: Buffer, transferSyntaxUid = EXPLICIT, charsetDefault?: string): DataSet =>
  new DataSet({ buffer, transferSyntaxUid }, { charsetDefault });

describe('values', () => {
  it('of text: split, without padding, also NULs', () => {
    const dataSet = read(
      Buffer.concat([
        element(0x00080008, 'CS', 'ORIGINAL \\PRIMARY\0\0'),
        element(0x00080018, 'UI', '1.2.3\0'),
        element(0x00081030, 'LO', '  spaces  '),
        element(0x00100010, 'PN', 'A^B\\\\C '),
        element(0x00104000, 'LT', ' one\\text '),
        element(0x00080090, 'PN', '    '),
      ]),
    );
    assert.deepEqual(dataSet.strings(0x00080008), ['ORIGINAL', 'PRIMARY']);
    assert.equal(dataSet.string(0x00080018), '1.2.3');
    assert.equal(dataSet.string(0x00081030), 'spaces');
    assert.deepEqual(dataSet.strings(0x00100010), ['A^B', '', 'C']);
    assert.deepEqual(dataSet.strings(0x00104000), [' one\\text']);
    assert.equal(dataSet.string(0x00080090), undefined);
    assert.equal(dataSet.string(0x00100020), undefined);
  });
  it('of numbers, in both byte orders', () => {
    for (const [form, uid] of [
      [EXPLICIT_LE, EXPLICIT],
      [EXPLICIT_BE, BIG_ENDIAN],
    ] as const) {
      const at = Buffer.from(form.bigEndian ? '0018106300189306' : '1800631018000693', 'hex');
      const us = Buffer.from(form.bigEndian ? '0201' : '0102', 'hex');
      const dataSet = read(
        Buffer.concat([identity(form), element(0x00280009, 'AT', at, form), element(0x00280010, 'US', us, form)]),
        uid,
      );
      assert.deepEqual(dataSet.strings(0x00280009), ['00181063', '00189306']);
      assert.equal(dataSet.number(0x00280010), 0x0201);
    }
  });
  it('of IS and DS that are none', () => {
    const dataSet = read(Buffer.concat([element(0x00280008, 'IS', '1A'), element(0x00200013, 'IS', ' 42 ')]));
    assert.equal(dataSet.number(0x00280008), undefined);
    assert.equal(dataSet.number(0x00200013), 42);
  });
  it('in the character set of the item, of what encloses it, or the default', () => {
    const name = element(0x00100010, 'PN', Buffer.from([0xbb, 0xee]));
    const latin = element(0x00080005, 'CS', 'ISO_IR 100');
    const russian = element(0x00080005, 'CS', 'ISO_IR 144');
    const dataSet = read(
      Buffer.concat([russian, name, sequence(0x00081140, [item(name), item(Buffer.concat([latin, name]))])]),
    );
    assert.equal(dataSet.string(0x00100010), 'Лю');
    assert.deepEqual(
      dataSet.path([0x00081140, 0x00100010]).map((one) => one.strings()[0]),
      ['Лю', '»î'],
    );
    assert.equal(read(name, EXPLICIT, 'ISO_IR 144').string(0x00100010), 'Лю');
  });
  it('sent as UN, of elements that we know', () => {
    const dataSet = read(
      Buffer.concat([identity(EXPLICIT_BE), element(0x00280010, 'UN', Buffer.from([1, 2]), EXPLICIT_BE)]),
      BIG_ENDIAN,
    );
    assert.equal(dataSet.get(0x00280010)?.vr, 'US');
    assert.equal(dataSet.number(0x00280010), 0x0201); // UN is little endian
  });
  it('sent as UN, of sequences that we know; what is none stays UN', () => {
    const inner = item(element(0x00400009, 'SH', 'SPS1', IMPLICIT_LE), IMPLICIT_LE);
    const dataSet = read(
      Buffer.concat([
        identity(),
        element(0x00400275, 'UN', inner),
        element(0x00081140, 'UN', Buffer.concat([inner, Buffer.from('xxxx')])),
        element(0x00081115, 'UN', 'bytes...'),
        element(0x00400100, 'UN', item(Buffer.from('1234567'), IMPLICIT_LE)),
      ]),
    );
    assert.equal(dataSet.items(0x00400275)[0]?.string(0x00400009), 'SPS1');
    for (const tag of [0x00081140, 0x00081115, 0x00400100]) assert.equal(dataSet.get(tag)?.vr, 'UN');
    assert.equal(dataSet.elements.length, 9);
  });
  it('of ambiguous VR, by what encloses them', () => {
    const smallest = element(0x00280106, 'US', Buffer.from([0xfe, 0xff]), IMPLICIT_LE);
    const dataSet = read(
      Buffer.concat([
        openSequence(0x00283010, [openItem(smallest, IMPLICIT_LE)], IMPLICIT_LE),
        element(0x00280103, 'US', Buffer.from([1, 0]), IMPLICIT_LE),
      ]),
      IMPLICIT,
    );
    assert.equal(dataSet.items(0x00283010)[0]!.number(0x00280106), -2);
  });
  it('an empty buffer is a data set without elements', () => {
    assert.equal(read(Buffer.alloc(0)).elements.length, 0);
  });
  it('private creators', () => {
    const dataSet = read(Buffer.concat([element(0x00290011, 'LO', 'ACME 1.0'), element(0x00291108, 'CS', 'X ')]));
    assert.equal(privateCreatorOf(dataSet, 0x00291108), 'ACME 1.0');
    assert.equal(privateCreatorOf(dataSet, 0x00291208), undefined);
    assert.equal(privateCreatorOf(dataSet, 0x00100010), undefined);
  });
});

describe('the real files, with dicom-parser as the oracle', () => {
  const files = openFiles();
  it('the same elements at the same places', { skip: files.length === 0 }, () => {
    let elements = 0;
    let compared = 0;
    const compare = (path: string, ours: DataSet, theirs: DicomParser.DataSet, offset: number): void => {
      for (const element of ours) {
        const other = theirs.elements[`x${element.tag.toString(16).padStart(8, '0')}`];
        assert.ok(other, `${path}: ${element.tag.toString(16)}`);
        elements++;
        // Values in place: cut ones by their offset, kept ones by their bytes.
        if (element.cut) assert.equal(element.cut.offset + offset, other.dataOffset, path);
        else if (element.items && other.vr === 'UN')
          continue; // a sequence that we know
        else if (element.items) {
          assert.equal(element.items.length, other.items?.length ?? 0, `${path}: items of ${element.tag.toString(16)}`);
          for (const [n, item] of element.items.entries()) {
            const inner = other.items![n]!.dataSet;
            if (inner) compare(path, item, inner, offset);
          }
        } else {
          assert.ok(
            element.bytes.equals(theirs.byteArray.subarray(other.dataOffset, other.dataOffset + other.length)),
            `${path}: ${element.tag.toString(16)}`,
          );
        }
      }
    };
    for (const file of files) {
      if (/truncated|no_meta\.dcm/.test(file.path)) continue;
      const bytes = file.read();
      let parsed: DicomParser.DataSet;
      try {
        parsed = dicomParser.parseDicom(bytes);
      } catch {
        continue; // what the oracle cannot read: no Part 10 header, UN of undefined length …
      }
      const { bytes: dataSet, transferSyntaxUid } = file.dataSet();
      const head = skim(dataSet, transferSyntaxUid);
      if (head.deflated) continue; // offsets are those of the inflated bytes
      compare(file.path, new DataSet(head), parsed, bytes.length - dataSet.length);
      compared++;
    }
    assert.ok(compared > 280, `only ${compared} files compared`);
    assert.ok(elements > 30_000, `only ${elements} elements compared`);
  });
});

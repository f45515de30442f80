import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  dictionaryEntry,
  hexOf,
  isGroupLength,
  isPrivate,
  isPrivateCreator,
  isVr,
  keywordOf,
  parseAttributePath,
  parseTag,
  privateCreatorTag,
  Tag,
  tagOf,
  vrOf,
} from './tags.ts';
import {
  allSopClasses,
  allTransferSyntaxes,
  encodingOf,
  isAcceptableUid,
  isStorageClass,
  mintUid,
  sopClassOf,
  transferSyntaxOf,
  trimUid,
} from './uids.ts';

describe('the data dictionary', () => {
  it('agrees with the tags that code names', () => {
    for (const [keyword, tag] of Object.entries(Tag)) assert.equal(tagOf(keyword), tag, keyword);
  });
  it('agrees with dcmjs’ dictionary, an independent one', () => {
    const { data } = createRequire(import.meta.url)('dcmjs') as {
      data: {
        DicomMetaDictionary: { nameMap: Record<string, { tag: string; vr: string; name: string; version: string }> };
      };
    };
    let compared = 0;
    for (const entry of Object.values(data.DicomMetaDictionary.nameMap)) {
      const digits = /^\(([0-9A-F]{4}),([0-9A-F]{4})\)$/.exec(entry.tag);
      if (!digits || entry.version !== 'DICOM' || !isVr(entry.vr)) continue;
      const ours = dictionaryEntry(Number.parseInt(digits[1]! + digits[2]!, 16));
      if (!ours) continue; // newer there
      if (entry.vr === ours.vr) compared++;
      else
        assert.ok(
          ours.vr.split('|').includes(entry.vr) || CORRECTED.has(entry.tag),
          `${entry.tag}: ${entry.vr} there, ${ours.vr} here`,
        );
    }
    assert.ok(compared > 3500, `only ${compared}`);
  });
  it('knows repeating groups, private creators and group lengths', () => {
    assert.equal(keywordOf(0x60023000), 'OverlayData');
    assert.equal(vrOf(0x60023000), 'OW');
    assert.equal(vrOf(0x50040005), 'US');
    assert.equal(keywordOf(0x601e0010), 'OverlayRows');
    assert.equal(keywordOf(0x60010010), undefined);
    assert.equal(vrOf(0x00290010), 'LO');
    assert.equal(vrOf(0x00291010), 'UN');
    assert.equal(vrOf(0x00120000), 'UL');
    assert.equal(vrOf(0x00289999), 'UN');
    assert.equal(isPrivate(0x00291010), true);
    assert.equal(isPrivateCreator(0x002900ff), true);
    assert.equal(isPrivateCreator(0x00290100), false);
    assert.equal(privateCreatorTag(0x00291108), 0x00290011);
    assert.equal(isGroupLength(0x7fe00000), true);
  });
  it('attribute IDs: hex, keywords, dotted paths', () => {
    assert.equal(parseTag('0008103e'), 0x0008103e);
    assert.equal(parseTag('PatientName'), 0x00100010);
    assert.deepEqual(
      parseAttributePath('RequestAttributesSequence.ScheduledProcedureStepID'),
      [0x00400275, 0x00400009],
    );
    assert.deepEqual(parseAttributePath('00400275.00400009'), [0x00400275, 0x00400009]);
    for (const wrong of [
      '',
      '.',
      'patientname',
      '0010',
      'PatientName.',
      '00100010.x',
      '0x100010',
      'constructor',
      '__proto__',
      Array(17).fill('00400275').join('.'),
    ]) {
      assert.equal(parseAttributePath(wrong), undefined, wrong);
    }
  });
  it('hex of any tag is upper case, 8 digits, and comes back', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffffff }), (tag) => {
        assert.match(hexOf(tag), /^[0-9A-F]{8}$/);
        assert.equal(parseTag(hexOf(tag)), tag);
        assert.ok(isVr(vrOf(tag)));
      }),
    );
  });
});

/** The standard corrected these since dcmjs' edition. */
const CORRECTED = new Set([
  '(0066,0040)',
  '(0066,0041)',
  '(0066,0042)',
  '(0066,0043)',
  '(0068,62F0)',
  '(0070,150C)',
  '(0076,0034)',
]);

describe('UIDs', () => {
  it('transfer syntaxes', () => {
    assert.equal(encodingOf('1.2.840.10008.1.2'), 'implicit');
    assert.equal(encodingOf('1.2.840.10008.1.2.1'), 'explicit');
    assert.equal(encodingOf('1.2.840.10008.1.2.2'), 'bigEndian');
    assert.equal(encodingOf('1.2.840.10008.1.2.1.99'), 'deflated');
    assert.equal(encodingOf('1.2.840.10008.1.2.4.201'), 'encapsulated');
    assert.equal(encodingOf('1.2.840.10008.1.2.8.1'), 'encapsulated');
    assert.equal(encodingOf('1.2.3.4'), 'encapsulated');
    assert.equal(transferSyntaxOf('1.2.840.10008.1.2.4.102')?.video, true);
    assert.equal(transferSyntaxOf('1.2.840.10008.1.2.4.50')?.video, false);
    assert.equal(transferSyntaxOf('1.2.840.10008.1.2.6.2')?.storable, false);
    assert.ok(allTransferSyntaxes().length > 60);
  });
  it('storage classes: all but those known to be none', () => {
    for (const uid of [
      '1.2.840.10008.5.1.4.1.1.2', // CT
      '1.2.840.10008.5.1.4.1.1.6', // Ultrasound, retired
      '1.2.840.10008.5.1.4.1.1.40', // retired, nameless
      '1.2.840.10008.5.1.4.34.7', // RT Beams Delivery Instruction
      '1.2.840.10008.5.1.1.27', // Stored Print, retired
      '1.2.840.10008.5.1.4.1.1.200.2', // CT Performed Procedure Protocol
      '1.2.840.10008.5.1.4.1.1.999.1', // of tomorrow
      '1.3.12.2.1107.5.9.1', // Siemens CSA Non-Image
    ]) {
      assert.equal(isStorageClass(uid), true, uid);
    }
    for (const uid of [
      '1.2.840.10008.1.1', // Verification
      '1.2.840.10008.1.3.10', // DICOMDIR
      '1.2.840.10008.1.20.1', // Storage Commitment
      '1.2.840.10008.5.1.4.1.2.2.1', // Study Root FIND
      '1.2.840.10008.5.1.4.31', // MWL
      '1.2.840.10008.5.1.4.38.1', // Hanging Protocol
      '1.2.840.10008.5.1.4.39.1', // Color Palette
      '1.2.840.10008.5.1.4.1.1.200.1', // CT Defined Procedure Protocol
      '1.2.840.10008.5.1.4.1.1.201.1', // Inventory
      '1.2.840.10008.5.1.4.1.1.201.5',
      '1.2.840.10008.3.1.2.3.3', // MPPS
      '1.2.840.10008.5.1.4.34.6.1', // UPS Push
      '1.2.840.10008.5.1.1.9', // Print
    ]) {
      assert.equal(isStorageClass(uid), false, uid);
    }
    assert.equal(sopClassOf('1.2.840.10008.5.1.4.1.1.2')?.name, 'CT Image Storage');
    assert.ok(allSopClasses().filter((one) => one.kind === 'storage').length > 150);
  });
  it('that we mint are valid, those received are opaque', () => {
    for (let n = 0; n < 200; n++) assert.match(mintUid(), /^2\.25\.[1-9][0-9]{0,38}$/);
    assert.equal(new Set(Array.from({ length: 100 }, mintUid)).size, 100);
    for (const uid of ['1.2.3', '1.02.3', 'abc', 'x'.repeat(64), '../../etc/passwd', '1.2 3'])
      assert.equal(isAcceptableUid(uid), true, uid);
    for (const uid of ['', ' ', 'x'.repeat(65), '1.2\n', '1.2\\3', ' 1.2', '1.2 ', 'é', '1\0'])
      assert.equal(isAcceptableUid(uid), false, uid);
    assert.equal(trimUid(' 1.2.3 \0'), '1.2.3');
  });
});

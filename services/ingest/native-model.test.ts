import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GantryError } from '#platform/errors.ts';
import { nativeModelToJson } from './native-model.ts';
import { parseXml } from './xml.ts';

const model = (attributes: string) => nativeModelToJson(`<NativeDicomModel>${attributes}</NativeDicomModel>`);

test('each kind of value', () => {
  assert.deepEqual(
    model(`
      <DicomAttribute tag="00080008" vr="CS" keyword="ImageType"><Value number="1">ORIGINAL</Value><Value number="3">AXIAL</Value></DicomAttribute>
      <DicomAttribute tag="00080050" vr="SH"/>
      <DicomAttribute tag="00100010" vr="PN">
        <PersonName number="1">
          <Alphabetic><FamilyName>Yamada</FamilyName><GivenName>Tarou</GivenName></Alphabetic>
          <Ideographic><FamilyName>山田</FamilyName><GivenName>太郎</GivenName></Ideographic>
        </PersonName>
      </DicomAttribute>
      <DicomAttribute tag="00280010" vr="US"><Value number="1">512</Value></DicomAttribute>
      <DicomAttribute tag="00280030" vr="DS"><Value number="1">0.50</Value></DicomAttribute>
      <DicomAttribute tag="00081140" vr="SQ">
        <Item number="1"><DicomAttribute tag="00081155" vr="UI"><Value number="1">1.2</Value></DicomAttribute></Item>
        <Item number="2"/>
      </DicomAttribute>
      <DicomAttribute tag="00420011" vr="OB"><InlineBinary>AA
        EC</InlineBinary></DicomAttribute>
      <DicomAttribute tag="7fe00010" vr="OW"><BulkData uri="http://x/1?a=1&amp;b=2"/></DicomAttribute>
      <DicomAttribute tag="00091001" vr="LO" privateCreator="ACME"><Value number="1">with its block</Value></DicomAttribute>
      <DicomAttribute tag="00190001" vr="LO" privateCreator="ACME"><Value number="1">a</Value></DicomAttribute>
      <DicomAttribute tag="00190002" vr="LO" privateCreator="ACME"><Value number="1">b</Value></DicomAttribute>
      <DicomAttribute tag="00190001" vr="LO" privateCreator="OTHER"><Value number="1">c</Value></DicomAttribute>`),
    {
      '00080008': { vr: 'CS', Value: ['ORIGINAL', null, 'AXIAL'] },
      '00080050': { vr: 'SH' },
      '00100010': { vr: 'PN', Value: [{ Alphabetic: 'Yamada^Tarou', Ideographic: '山田^太郎' }] },
      '00280010': { vr: 'US', Value: [512] },
      '00280030': { vr: 'DS', Value: ['0.50'] },
      '00081140': { vr: 'SQ', Value: [{ '00081155': { vr: 'UI', Value: ['1.2'] } }, {}] },
      '00420011': { vr: 'OB', InlineBinary: 'AAEC' },
      '7FE00010': { vr: 'OW', BulkDataURI: 'http://x/1?a=1&b=2' },
      '00091001': { vr: 'LO', Value: ['with its block'] },
      '00190010': { vr: 'LO', Value: ['ACME'] },
      '00191001': { vr: 'LO', Value: ['a'] },
      '00191002': { vr: 'LO', Value: ['b'] },
      '00190011': { vr: 'LO', Value: ['OTHER'] },
      '00191101': { vr: 'LO', Value: ['c'] },
    },
  );
});

test('XML as writers write it', () => {
  const xml = parseXml(
    '\ufeff<?xml version="1.0"?><!-- <a> --><n:a xmlns:n=\'u\' x = "1&lt;&#50;&#x33;" >t<![CDATA[<&]]><b/><n:b>&quot;&apos;&gt;</n:b ></n:a>\n<!---->',
  );
  assert.deepEqual([xml.name, xml.attributes.get('x'), xml.text], ['a', '1<23', 't<&']);
  assert.deepEqual(
    xml.children.map(({ name, text }) => [name, text]),
    [
      ['b', ''],
      ['b', '"\'>'],
    ],
  );
});

test('what is refused: broken XML, entities, document types, depth, and models that are none', () => {
  const refused = (text: string, read: (text: string) => unknown) =>
    assert.throws(
      () => read(text),
      (error) => error instanceof GantryError && error.code === 'invalid-argument',
      text.slice(0, 80),
    );
  for (const text of [
    '',
    'x',
    '<a>',
    '</a>',
    '<a></b>',
    '<a/><b/>',
    '<a/>x',
    '<a b=1/>',
    '<a b="<"/>',
    '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
    '<a>&b;</a>',
    '<a>&amp</a>',
    '<a>&#0;</a>',
    '<a>&#xD800;</a>',
    '<a>&#x110000;</a>',
    '<!-- ',
    '<a><![CDATA[</a>',
    '< a/>',
    '<a',
    '<a>'.repeat(1000) + '</a>'.repeat(1000),
  ])
    refused(text, parseXml);
  for (const attributes of [
    '<Value/>',
    '<DicomAttribute vr="US"/>',
    '<DicomAttribute tag="1" vr="US"/>',
    '<DicomAttribute tag="00280010" vr="US"><Value number="1">x</Value></DicomAttribute>',
    '<DicomAttribute tag="00280010" vr="US"><Value number="0">1</Value></DicomAttribute>',
    '<DicomAttribute tag="00280010" vr="US"><Value number="999999999">1</Value></DicomAttribute>',
    '<DicomAttribute tag="00280010" vr="US"><Other/></DicomAttribute>',
  ])
    refused(attributes, model);
  refused('<Other/>', nativeModelToJson);
});

test('empty values, written out or left out, keep the others’ places', () => {
  assert.deepEqual(
    model(`<DicomAttribute tag="00080008" vr="CS"><Value number="1">A</Value><Value number="3">B</Value><Value number="4"/></DicomAttribute>
      <DicomAttribute tag="00081048" vr="PN"><PersonName number="1"></PersonName><PersonName number="2"><Alphabetic><FamilyName>B</FamilyName></Alphabetic></PersonName></DicomAttribute>`),
    {
      '00080008': { vr: 'CS', Value: ['A', null, 'B', null] },
      '00081048': { vr: 'PN', Value: [null, { Alphabetic: 'B' }] },
    },
  );
});

test('a tag that nearly matches costs no more than its length', () => {
  // Backtracking over attributes would make this take for ever; the test's own time limit is the judge.
  assert.throws(() => parseXml(`<a ${'b="c" '.repeat(50_000)}<`), GantryError);
  assert.throws(() => parseXml(`<a ${'b'.repeat(200_000)}`), GantryError);
  assert.throws(() => parseXml(`<a${' '.repeat(200_000)}`), GantryError);
});

test('any text ends in a model or in an error of the list', () => {
  const piece = fc.oneof(
    fc.constantFrom(
      '<a>',
      '</a>',
      '<a ',
      'b="c"',
      '/>',
      '<!--',
      '-->',
      '<![CDATA[',
      ']]>',
      '&amp;',
      '&',
      ';',
      '<?',
      '?>',
      '<NativeDicomModel>',
      '</NativeDicomModel>',
      '<DicomAttribute tag="00280010" vr="SQ">',
      '</DicomAttribute>',
      '<Item>',
      '</Item>',
    ),
    fc.string({ maxLength: 5 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      try {
        nativeModelToJson(pieces.join(''));
      } catch (error) {
        assert.ok(error instanceof GantryError, String(error));
      }
    }),
    { numRuns: 1000 },
  );
});
